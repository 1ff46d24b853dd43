// Turns pictures upright where the browser does not. Cameras and editors store how a picture is to be turned as EXIF. The model sees
// every picture upright, and its positions are in the upright picture, but browsers turn JPEGs only, or only some other formats.

/** EXIF's orientation of a PNG or WebP file, from 1 to 8; 1 is upright. */
export function orientationOf(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = (at: number) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (name(0) === "RIFF" && name(8) === "WEBP") {
    for (let at = 12; at + 8 <= bytes.length; ) {
      const length = view.getUint32(at + 4, true);
      if (name(at) === "EXIF") return fromTiff(bytes.subarray(at + 8, at + 8 + length));
      at += 8 + length + (length & 1);
    }
  } else if (name(0) === "\x89PNG") {
    for (let at = 8; at + 12 <= bytes.length; ) {
      const length = view.getUint32(at);
      if (name(at + 4) === "eXIf") return fromTiff(bytes.subarray(at + 8, at + 8 + length));
      at += 12 + length;
    }
  }
  return 1;
}

/** The orientation in EXIF data: a TIFF header and a list of tags, of which 0x0112 is the orientation. */
function fromTiff(exif: Uint8Array): number {
  // Some programs write this name in front, as in a JPEG.
  const bytes = String.fromCharCode(...exif.subarray(0, 6)) === "Exif\0\0" ? exif.subarray(6) : exif;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8) return 1;
  const little = view.getUint16(0) === 0x4949;
  const list = view.getUint32(4, little);
  if (list + 2 > bytes.length) return 1;
  const count = view.getUint16(list, little);
  for (let i = 0, at = list + 2; i < count && at + 12 <= bytes.length; i++, at += 12) {
    if (view.getUint16(at, little) !== 0x0112) continue;
    const value = view.getUint16(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/** Pictures of 2×1 pixels that are to be turned to the right. A browser that does so says that they are 1 pixel wide. */
const PROBES = {
  png: "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAAAAADRSSBWAAAAGmVYSWZJSSoACAAAAAEAEgEDAAEAAAAGAAAAAAAAALdIESkAAAALSURBVHicY2D4DwABAgEAQr68aAAAAABJRU5ErkJggg==",
  webp: "data:image/webp;base64,UklGRkoAAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TAkAAAAvAQAAAIiICAAARVhJRhoAAABJSSoACAAAAAEAEgEDAAEAAAAGAAAAAAAAAA==",
};

const probed = new Map<string, Promise<boolean>>();

/** Whether this browser turns pictures of this format by their EXIF. */
function browserTurns(format: keyof typeof PROBES): Promise<boolean> {
  let answer = probed.get(format);
  if (!answer) {
    const image = new Image();
    image.src = PROBES[format];
    answer = image.decode().then(() => image.naturalWidth === 1, () => false);
    probed.set(format, answer);
  }
  return answer;
}

/** The picture as it is to be shown: the file itself, or a copy that is turned, if it has to be turned and the browser does not. */
export async function upright(blob: Blob): Promise<Blob> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const turn = orientationOf(bytes);
  if (turn === 1 || (await browserTurns(bytes[0] === 0x89 ? "png" : "webp"))) return blob;
  const picture = await createImageBitmap(blob);
  const { width: w, height: h } = picture;
  const canvas = turn < 5 ? new OffscreenCanvas(w, h) : new OffscreenCanvas(h, w);
  // Where the picture's x and y axes point, and where its corner goes, for the orientations from 2 on (EXIF 2.32, table 6).
  const turns: [number, number, number, number, number, number][] = [
    [-1, 0, 0, 1, w, 0],
    [-1, 0, 0, -1, w, h],
    [1, 0, 0, -1, 0, h],
    [0, 1, 1, 0, 0, 0],
    [0, 1, -1, 0, h, 0],
    [0, -1, -1, 0, h, w],
    [0, -1, 1, 0, 0, w],
  ];
  const context = canvas.getContext("2d");
  context?.setTransform(...(turns[turn - 2] ?? [1, 0, 0, 1, 0, 0]));
  context?.drawImage(picture, 0, 0);
  picture.close();
  return canvas.convertToBlob({ type: "image/png" });
}
