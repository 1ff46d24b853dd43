// Pictures of every kind as encoded bytes, which is what the engine decodes itself: a browser's own decoding converts
// colours and premultiplies alpha, so it is used only for what has no file behind it.

import { FanlightError } from "./errors.js";
import type { ImageSource } from "./types.js";

export async function imageBytes(source: ImageSource): Promise<Uint8Array> {
  if (source instanceof Blob) return blobBytes(source);
  if (source instanceof ArrayBuffer) return new Uint8Array(source.slice(0));
  if (ArrayBuffer.isView(source)) {
    return new Uint8Array(source.buffer, source.byteOffset, source.byteLength).slice();
  }
  if (typeof source === "string" || source instanceof URL) return fetched(source);
  try {
    return await blobBytes(await drawn(source).convertToBlob({ type: "image/png" }));
  } catch (error) {
    throw new FanlightError("bad_image", `this picture's pixels cannot be read: ${String(error)}`);
  }
}

async function blobBytes(blob: Blob): Promise<Uint8Array> {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    throw new FanlightError("bad_image", `the picture could not be read: ${String(error)}`, "Choose the file again.");
  }
}

async function fetched(url: string | URL): Promise<Uint8Array> {
  let response: Response;
  try {
    response = await fetch(url, { referrerPolicy: "no-referrer" });
  } catch (error) {
    const hint = "Another site's picture can be read only if that site allows it.";
    throw new FanlightError("bad_image", `${url} could not be read: ${String(error)}`, hint);
  }
  if (!response.ok) throw new FanlightError("bad_image", `${url} answered ${response.status}`);
  return blobBytes(await response.blob());
}

type Drawable = Exclude<ImageSource, Blob | BufferSource | URL | string>;

function drawn(source: Drawable): OffscreenCanvas {
  const [width, height] =
    source instanceof HTMLImageElement
      ? [source.naturalWidth, source.naturalHeight]
      : source instanceof HTMLVideoElement
        ? [source.videoWidth, source.videoHeight]
        : source instanceof VideoFrame
          ? [source.displayWidth, source.displayHeight]
          : [source.width, source.height];
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("no 2d canvas");
  if (source instanceof ImageData) context.putImageData(source, 0, 0);
  else context.drawImage(source, 0, 0);
  return canvas;
}
