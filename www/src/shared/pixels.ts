// Converts video frames to upright RGBA bytes, which the engine resizes. The browser converts the colours, because it knows
// the colour matrix and range of the video.

/** How a frame is turned upright: first rotated clockwise, then mirrored left to right. */
export interface Turn {
  rotation: 0 | 90 | 180 | 270;
  flip: boolean;
}

export interface Pixels {
  rgba: Uint8Array;
  width: number;
  height: number;
}

/** A frame of a video for the engine. `timestamp` is in seconds from the beginning of the video. */
export type Shot = Pixels & { timestamp: number };

interface Size {
  width: number;
  height: number;
}

/**
 * The pixels of a frame, turned by the frame's own rotation and then by `turn`. All frames of a video must have the same
 * size: a frame that does not have `size` (before `turn`) is scaled. The bytes are valid until the next call.
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

/** The frame's own rotation. TypeScript's types and some browsers do not have it. A canvas applies it by itself. */
function ownTurn(frame: VideoFrame): Turn {
  const { rotation = 0, flip = false } = frame as Partial<Turn>;
  return { rotation, flip };
}

/** Whether `copyTo` converts to RGBA. Browsers that do not know the option `format` copy the frame in its own format. */
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
  // Setting the size also clears the canvas.
  [canvas.width, canvas.height] = [width, height];
  context.drawImage(frame, 0, 0, width, height);
  return { rgba: new Uint8Array(context.getImageData(0, 0, width, height).data.buffer), width, height };
}

/**
 * Buffers for the pixels as read, after one turn, and after two. They are reused, because all frames of a video have the
 * same size.
 */
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
  // Where the first pixel of the result is in the source, and how far apart the next pixel and the next row are.
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
