// Reads every kind of picture source as an encoded file that the engine can decode. Files are passed on unchanged, because
// browsers convert colours and premultiply alpha when they decode. Raw pixels are sent as a BMP, which only adds a header.
// Only formats that the engine does not know (AVIF, SVG, and HEIC if the browser has it) are decoded by the browser, at their
// full size.

import { FanlightError } from "../errors.js";
import { isBase64, shown } from "../shared/address.js";
import { dataBytes } from "../shared/data-url.js";
import { pixels } from "../shared/pixels.js";
import type { ImageSource, Size } from "../types.js";
import { svgImage, svgText } from "./svg.js";

/** The same limit as in the engine: 64 Mi pixels. */
const MOST_PIXELS = 64 << 20;

/**
 * The encoded file of a picture. The pixels of a canvas, a video or a frame are read before this function returns, because
 * they may change later.
 * @param source a picture source, or a promise that this function has returned
 */
export async function imageBytes(source: ImageSource | Promise<Uint8Array>): Promise<Uint8Array> {
  switch (kind(source)) {
    case "Promise":
      return source as Promise<Uint8Array>;
    case "Blob":
    case "File":
      return readable(await blobBytes(source as Blob));
    case "ArrayBuffer":
    case "SharedArrayBuffer":
      return readable(new Uint8Array(source as ArrayBuffer).slice());
    case "String":
    case "URL":
      return readable(await addressed(absolute(String(source))));
    case "ImageData":
      return imageData(source as ImageData);
    case "ImageBitmap":
      return bitmap(source as ImageBitmap);
    case "HTMLCanvasElement":
    case "OffscreenCanvas":
      return packed(drawn(source as HTMLCanvasElement, source as HTMLCanvasElement, "canvas"));
    case "HTMLImageElement":
      return element(source as HTMLImageElement);
    case "HTMLVideoElement":
      return frame(currentFrame(source as HTMLVideoElement));
    case "VideoFrame":
      return frame(copied(source as VideoFrame));
    default:
      if (ArrayBuffer.isView(source)) {
        return readable(new Uint8Array(source.buffer, source.byteOffset, source.byteLength).slice());
      }
      throw new FanlightError("bad_request", `this value is not a picture source: ${kind(source)}`, "See the type ImageSource.");
  }
}

/** The name of the value's class. Also works for objects of another window. */
const kind = (source: unknown): string => Object.prototype.toString.call(source).slice(8, -1);

// ── Files ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function blobBytes(blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    throw new FanlightError("bad_image", `the picture could not be read: ${String(error)}`, "Choose the file again.");
  }
}

function absolute(url: string): URL {
  if (url.trim() === "") throw new FanlightError("bad_request", "the address of a picture is an empty text", "Give the picture's address, or a Blob.");
  if (isBase64(url)) {
    const message = `this text of ${url.length} characters is a file in base64, not the address of a picture`;
    throw new FanlightError("bad_request", message, 'Write "data:image/png;base64," in front of it, with the type of the picture, or give a Blob.');
  }
  try {
    return new URL(url, document.baseURI);
  } catch {
    throw new FanlightError("bad_request", `"${shown(url)}" is not a valid address of a picture`);
  }
}

async function addressed(url: URL, init: RequestInit = {}): Promise<Uint8Array<ArrayBuffer>> {
  if (url.protocol === "data:") {
    try {
      return dataBytes(url.href);
    } catch (error) {
      const hint = "After `data:TYPE;base64,` there must be nothing but the characters of base64.";
      throw new FanlightError("bad_image", `${shown(url)} cannot be read: ${String(error)}`, hint);
    }
  }
  let response: Response;
  try {
    response = await fetch(url, { referrerPolicy: "no-referrer", ...init });
  } catch (error) {
    throw await unreached(url, error);
  }
  if (response.ok) return blobBytes(await response.blob());
  const { status } = response;
  const message = `${shown(url)} answered ${status}`;
  if (status === 404 || status === 410) throw new FanlightError("not_found", message, "Check the address of the picture.");
  if (status === 401 || status === 403) throw new FanlightError("auth", message, "Download the picture in your own code, and give the Blob.");
  throw new FanlightError("network", message, "Check the address of the picture.", status === 429 || status >= 500);
}

/** The error for a failed fetch. Browsers do not say why it failed, so this function finds out. */
async function unreached(url: URL, error: unknown): Promise<FanlightError> {
  if (url.protocol === "blob:") {
    const hint = "A blob: address is valid until revokeObjectURL is called or its page is closed, and a Content-Security-Policy must allow it with connect-src blob:. Give the Blob itself instead.";
    return new FanlightError("bad_image", `${shown(url)} could not be read: ${String(error)}`, hint);
  }
  if (url.origin !== location.origin) {
    // The server can be reached, even if the page may not read its response.
    const there = await fetch(url, { mode: "no-cors", method: "HEAD", referrerPolicy: "no-referrer" }).then(() => true, () => false);
    if (there) return cors(`${url.origin} does not let this page read ${shown(url)} (${String(error)})`);
  }
  const message = `${shown(url)} could not be read: ${String(error)}`;
  return new FanlightError("network", message, "Check the connection, and connect-src in the page's Content-Security-Policy.", true);
}

const cors = (message: string): FanlightError =>
  new FanlightError(
    "cors",
    message,
    "The other site must send Access-Control-Allow-Origin, and an element that shows the file needs the attribute crossorigin. Otherwise let the person pick the file, or download it through your own server.",
  );

/** A file that the engine can read: the file itself, or what the browser decodes from it. */
async function readable(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  if (engineReads(bytes)) return bytes;
  const text = svgText(bytes);
  if (text !== undefined) return svg(text);
  for (const size of heifSizes(bytes)) checkSize(size, "a picture");
  let decoded: ImageBitmap;
  try {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" } as const;
    decoded = await createImageBitmap(new Blob([bytes]), options);
  } catch {
    const start = Array.from(bytes.subarray(0, 8), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    const message = `neither Fanlight nor this browser can read this picture: ${bytes.length} bytes, beginning with [${start}]`;
    throw new FanlightError("bad_image", message, "Use a PNG, JPEG, WebP, GIF or BMP.");
  }
  try {
    return await bitmap(decoded);
  } finally {
    decoded.close();
  }
}

/** Whether these are the first bytes of a PNG, JPEG, GIF, BMP or WebP file. */
function engineReads(bytes: Uint8Array): boolean {
  const start = latin1(bytes.subarray(0, 12));
  return /^(\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|BM|RIFF[^]{4}WEBP)/.test(start);
}

const latin1 = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

/** The sizes in the `ispe` boxes of an AVIF or HEIC file. One of them is the size of the whole picture. */
function* heifSizes(bytes: Uint8Array): Generator<Size> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || latin1(bytes.subarray(4, 8)) !== "ftyp") return;
  // The boxes are in the `meta` box, which comes before the picture data, so the beginning of the file is enough.
  for (let at = 8; at + 16 <= Math.min(bytes.length, 1 << 16); at++) {
    if (view.getUint32(at) === 0x69737065) yield { width: view.getUint32(at + 8), height: view.getUint32(at + 12) };
  }
}

/**
 * An SVG is drawn from a blob: URL, which every policy for pictures of a page's own allows. Chromium lets nobody read the pixels
 * then if the SVG has a `foreignObject`, as diagrams of Mermaid and draw.io do; from a data: URL it does.
 */
async function svg(text: string): Promise<Uint8Array> {
  const urls: string[] = [];
  const blob = (text: string) => {
    const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    urls.push(url);
    return url;
  };
  const data = (text: string) => `data:image/svg+xml,${encodeURIComponent(text)}`;
  try {
    const { image, size } = await svgImage(text, blob);
    try {
      return packed(drawn(image, size, "SVG"));
    } catch (error) {
      if (!(error instanceof FanlightError) || error.code !== "cors") throw error;
      const again = await svgImage(text, data);
      return packed(drawn(again.image, again.size, "SVG"));
    }
  } finally {
    for (const url of urls) URL.revokeObjectURL(url);
  }
}

/** The file that an `<img>` shows, or its pixels if the file cannot be downloaded again. */
async function element(image: HTMLImageElement): Promise<Uint8Array> {
  const address = image.currentSrc || image.src;
  if (!address) throw new FanlightError("bad_image", "this <img> has no source");
  const credentials = image.crossOrigin === "use-credentials" ? "include" : "same-origin";
  try {
    // The file is in the HTTP cache, unless the server forbids that.
    return await readable(await addressed(absolute(address), { credentials, cache: "force-cache" }));
  } catch (error) {
    try {
      await image.decode();
      return packed(drawn(image, { width: image.naturalWidth, height: image.naturalHeight }, "<img>"));
    } catch (other) {
      // If the canvas is tainted, that error says why the pixels cannot be read. Otherwise the error of the address says
      // more.
      throw other instanceof FanlightError && other.code === "cors" ? other : error;
    }
  }
}

// ── Pixels ────────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Rgba extends Size {
  /** Four bytes a pixel, row by row, with alpha not premultiplied. */
  rgba: Uint8Array | Uint8ClampedArray;
}

function checkSize({ width, height }: Size, what: string): void {
  if (width > 0 && height > 0 && width * height <= MOST_PIXELS) return;
  const message = `${what} of ${width}×${height} pixels has an unsupported size`;
  throw new FanlightError("bad_image", message, `It must have between 1 and ${MOST_PIXELS} pixels (${MOST_PIXELS >> 20} megapixels).`);
}

/** A BMP file with these pixels: 32 bits a pixel, top row first, with masks that describe the order of the bytes. */
function packed({ rgba, width, height }: Rgba): Uint8Array {
  checkSize({ width, height }, "a picture");
  const file = new Uint8Array(HEADER + 4 * width * height);
  const view = new DataView(file.buffer);
  const put = (at: number, ...words: number[]) => words.forEach((word, i) => view.setUint32(at + 4 * i, word, true));
  view.setUint16(0, 0x4d42, true); // "BM"
  put(2, file.length, 0, HEADER);
  put(14, 108, width, -height); // BITMAPV4HEADER; a negative height: from the top
  view.setUint16(26, 1, true); // planes
  view.setUint16(28, 32, true); // bits a pixel
  put(30, 3, 4 * width * height, 0, 0, 0, 0); // BI_BITFIELDS
  put(54, 0xff, 0xff00, 0xff0000, 0xff000000, 0x73524742); // red, green, blue, alpha; "sRGB"
  file.set(rgba, HEADER);
  return file;
}

const HEADER = 14 + 108;

function imageData({ data, width, height }: ImageData): Uint8Array {
  if (data instanceof Uint8ClampedArray || ArrayBuffer.isView(data) === false) return packed({ rgba: data, width, height });
  // `pixelFormat: "rgba-float16"`: values from 0 to 1, and beyond.
  const floats = data as unknown as ArrayLike<number>;
  return packed({ rgba: Uint8ClampedArray.from(floats, (value) => 255 * value), width, height });
}

/** The pixels after drawing onto a 2d canvas of the same size, so that nothing is resized. */
function drawn(source: CanvasImageSource, { width, height }: Size, what: string): Rgba {
  checkSize({ width, height }, what);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new FanlightError("bad_image", `this browser cannot create a canvas of ${width}×${height} pixels`);
  try {
    context.drawImage(source, 0, 0);
    return { rgba: context.getImageData(0, 0, width, height).data, width, height };
  } catch (error) {
    if (error instanceof DOMException && error.name === "SecurityError") {
      throw cors(`this ${what} shows another site's picture, which this page may not read`);
    }
    throw new FanlightError("bad_image", `the pixels of this ${what} cannot be read: ${String(error)}`);
  }
}

/**
 * A 2d canvas stores colours multiplied by alpha. If the picture is transparent, that loses precision, so WebGL reads the
 * pixels.
 */
async function bitmap(source: ImageBitmap): Promise<Uint8Array> {
  const plain = createImageBitmap(source, { premultiplyAlpha: "none", colorSpaceConversion: "none" }).catch(() => undefined);
  let pixels: Rgba;
  try {
    pixels = drawn(source, source, "ImageBitmap");
  } catch (error) {
    (await plain)?.close();
    throw error;
  }
  const copy = await plain;
  const exact = copy && isTranslucent(pixels.rgba) && unmultiplied(copy);
  copy?.close();
  return packed(exact || pixels);
}

function isTranslucent(rgba: Uint8Array | Uint8ClampedArray): boolean {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255 && rgba[i] !== 0) return true;
  return false;
}

function unmultiplied(source: ImageBitmap): Rgba | undefined {
  const { width, height } = source;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return undefined;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const rgba = new Uint8Array(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  const failed = gl.getError() !== gl.NO_ERROR;
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return failed ? undefined : { rgba, width, height };
}

/** The current frame of a `<video>` element. */
function currentFrame(video: HTMLVideoElement): VideoFrame {
  if (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
    const message = video.error ? `this <video> cannot be played: ${video.error.message}` : "this <video> shows nothing yet";
    throw new FanlightError("bad_image", message, "Wait for its event `loadeddata`.");
  }
  try {
    return new VideoFrame(video);
  } catch (error) {
    if (error instanceof DOMException && error.name === "SecurityError") {
      throw cors("this <video> shows another site's video, which this page may not read");
    }
    throw new FanlightError("bad_image", `the current frame of this <video> cannot be read: ${String(error)}`);
  }
}

function copied(source: VideoFrame): VideoFrame {
  try {
    return source.clone();
  } catch (error) {
    throw new FanlightError("bad_image", `this VideoFrame cannot be read: ${String(error)}`, "Give it before close().");
  }
}

let reading: Promise<unknown> = Promise.resolve();

/** The pixels of the visible part of a frame, upright. Closes the frame. */
async function frame(source: VideoFrame): Promise<Uint8Array> {
  // Frames share a buffer, so they are read one at a time.
  const turn = reading.then(async () => {
    const { rgba, width, height } = await pixels(source);
    return packed({ rgba, width, height });
  });
  reading = turn.catch(() => {});
  try {
    return await turn;
  } catch (error) {
    if (error instanceof FanlightError) throw error;
    throw new FanlightError("bad_image", `this frame cannot be read: ${String(error)}`);
  } finally {
    source.close();
  }
}
