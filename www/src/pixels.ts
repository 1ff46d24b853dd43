// Frames as upright RGBA bytes, which is what the engine resizes. Colours are converted by the browser: it knows what the
// video says of its matrix and range.

/** How a frame is turned to stand upright: clockwise first, then mirrored left to right. */
export interface Turn {
  rotation: 0 | 90 | 180 | 270;
  flip: boolean;
}

export interface Pixels {
  rgba: Uint8Array;
  width: number;
  height: number;
}

/** One frame of a video as it goes to the engine, in seconds from the video's beginning. */
export type Shot = Pixels & { timestamp: number };

/** A frame's pixels, turned by what the frame says and by `turn`. The bytes are there until the next call. */
export async function pixels(frame: VideoFrame, turn?: Turn): Promise<Pixels> {
  const { width, height } = frame.visibleRect ?? { width: frame.displayWidth, height: frame.displayHeight };
  if (!copies(frame, width, height)) return turned(drawn(frame), turn);
  const rgba = room(0, 4 * width * height);
  await frame.copyTo(rgba, { format: "RGBA", colorSpace: "srgb" });
  // Newer than TypeScript's typings. A canvas applies these by itself.
  const { rotation = 0, flip = false } = frame as Partial<Turn>;
  return turned(turned({ rgba, width, height }, { rotation, flip }), turn);
}

/** The size of `pixels(frame)`. */
export function uprightSize(frame: VideoFrame): { width: number; height: number } {
  const { width, height } = frame.visibleRect ?? { width: frame.displayWidth, height: frame.displayHeight };
  if (!copies(frame, width, height)) return { width: frame.displayWidth, height: frame.displayHeight };
  const { rotation = 0 } = frame as Partial<Turn>;
  return rotation % 180 === 0 ? { width, height } : { width: height, height: width };
}

/** Whether `copyTo` converts: browsers that do not know `format` copy what they have, in its own layout. */
function copies(frame: VideoFrame, width: number, height: number): boolean {
  if (frame.format === "RGBA" || frame.format === "RGBX") return true;
  if (frame.format === null || frame.format.startsWith("BGR")) return false;
  return frame.allocationSize({ format: "RGBA" }) === 4 * width * height;
}

const canvas = typeof OffscreenCanvas === "undefined" ? undefined : new OffscreenCanvas(1, 1);
const context = canvas?.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });

function drawn(frame: VideoFrame): Pixels {
  if (!canvas || !context) throw new Error("this browser has no 2d canvas in a worker");
  const { displayWidth: width, displayHeight: height } = frame;
  // A new size also clears it.
  [canvas.width, canvas.height] = [width, height];
  context.drawImage(frame, 0, 0, width, height);
  return { rgba: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer), width, height };
}

/** One buffer for what is read and one for what is turned: frames of one video are all alike. */
const buffers = [new Uint8Array(0), new Uint8Array(0), new Uint8Array(0)];

function room(index: number, bytes: number): Uint8Array {
  let buffer = buffers[index];
  if (buffer?.length !== bytes) buffers[index] = buffer = new Uint8Array(bytes);
  return buffer;
}

export function turned(from: Pixels, { rotation, flip }: Turn = { rotation: 0, flip: false }): Pixels {
  if (rotation === 0 && !flip) return from;
  const { width, height } = from;
  const source = new Uint32Array(from.rgba.buffer, from.rgba.byteOffset, width * height);
  const rgba = room(from.rgba === buffers[1] ? 2 : 1, 4 * width * height);
  const target = new Uint32Array(rgba.buffer);
  const [across, down] = rotation % 180 === 0 ? [width, height] : [height, width];
  // Where the first pixel of the result comes from, and how far the next one and the next row are.
  const [start, right, below] = {
    0: [0, 1, width],
    90: [(height - 1) * width, -width, 1],
    180: [width * height - 1, -1, -width],
    270: [width - 1, width, -1],
  }[rotation] as [number, number, number];
  for (let y = 0; y < down; y++) {
    let at = start + y * below + (flip ? (across - 1) * right : 0);
    const step = flip ? -right : right;
    for (let x = 0; x < across; x++, at += step) target[y * across + x] = source[at] ?? 0;
  }
  return { rgba, width: across, height: down };
}
