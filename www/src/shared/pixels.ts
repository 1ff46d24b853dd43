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

interface Size {
  width: number;
  height: number;
}

/**
 * A frame's pixels, turned by what the frame says and by `turn`. All frames of a video must have one size: one that is not
 * of `size`, before `turn`, is scaled. The bytes are there until the next call.
 */
export async function pixels(frame: VideoFrame, turn?: Turn, size: Size = upright(frame)): Promise<Pixels> {
  const own = upright(frame);
  if (!copies(frame) || own.width !== size.width || own.height !== size.height) return turned(drawn(frame, size), turn);
  const { width, height } = visible(frame);
  const rgba = room(0, 4 * width * height);
  await frame.copyTo(rgba, { format: "RGBA", colorSpace: "srgb" });
  return turned(turned({ rgba, width, height }, ownTurn(frame)), turn);
}

/** The size of `pixels(frame)`. */
export function upright(frame: VideoFrame): Size {
  if (!copies(frame)) return { width: frame.displayWidth, height: frame.displayHeight };
  const { width, height } = visible(frame);
  return ownTurn(frame).rotation % 180 === 0 ? { width, height } : { width: height, height: width };
}

const visible = (frame: VideoFrame): Size => frame.visibleRect ?? { width: frame.displayWidth, height: frame.displayHeight };

/** Newer than TypeScript's typings, and than some browsers. A canvas applies it by itself. */
function ownTurn(frame: VideoFrame): Turn {
  const { rotation = 0, flip = false } = frame as Partial<Turn>;
  return { rotation, flip };
}

/** Whether `copyTo` converts: browsers that do not know `format` copy what they have, in its own layout. */
function copies(frame: VideoFrame): boolean {
  const { width, height } = visible(frame);
  if (frame.format === "RGBA" || frame.format === "RGBX") return true;
  if (frame.format === null || frame.format.startsWith("BGR")) return false;
  return frame.allocationSize({ format: "RGBA" }) === 4 * width * height;
}

const canvas = typeof OffscreenCanvas === "undefined" ? undefined : new OffscreenCanvas(1, 1);
const context = canvas?.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });

function drawn(frame: VideoFrame, { width, height }: Size): Pixels {
  if (!canvas || !context) throw new Error("this browser has no 2d canvas in a worker");
  // A new size also clears it.
  [canvas.width, canvas.height] = [width, height];
  context.drawImage(frame, 0, 0, width, height);
  return { rgba: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer), width, height };
}

/** For what is read, and for what it becomes turned once and twice: the frames of a video are all alike. */
const buffers = [new Uint8Array(0), new Uint8Array(0), new Uint8Array(0)];

function room(index: number, bytes: number): Uint8Array {
  let buffer = buffers[index];
  if (buffer?.length !== bytes) buffers[index] = buffer = new Uint8Array(bytes);
  return buffer;
}

function turned(from: Pixels, { rotation, flip }: Turn = { rotation: 0, flip: false }): Pixels {
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
