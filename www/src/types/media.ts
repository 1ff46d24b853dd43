// What a picture or a video can come from, how large the model sees it, and what became of it in a prompt.

/** Anything a picture can come from. A string is a URL. */
export type ImageSource =
  | Blob
  | BufferSource
  | URL
  | string
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLCanvasElement
  | HTMLVideoElement
  | VideoFrame
  | OffscreenCanvas;

/** How large the model sees a picture, in pixels after resizing. Fewer pixels are faster and blurrier. */
export interface PixelLimits {
  /** A smaller picture is enlarged to this. Not given: the checkpoint's own, often 3136 or 65 536. */
  minPixels?: number;
  /**
   * A larger picture is reduced to this; a token of the prompt is 28 × 28 pixels of it (Qwen3-VL: 32 × 32). Not given:
   * the checkpoint's own.
   */
  maxPixels?: number;
}

/** Pictures in order as a video. Without `timestamps` (seconds, ascending) they lie `1 / fps` apart; 2 a second if not given. */
export interface VideoFrames {
  /** `VideoFrame`s are moved to the worker and closed, as `postMessage` moves them: give a `clone()` of what is still needed. */
  frames: (ImageSource | VideoFrame)[];
  /** When each is shown, in seconds. */
  timestamps?: number[];
  /** Frames a second, where no times are given. */
  fps?: number;
}

/**
 * Anything a video can come from.
 *
 * - A file (MP4, MOV, WebM, Matroska), its bytes, or its URL: its frames and their times are read exactly, and only
 *   what the sampled frames need is decoded, in the worker. A string is a URL.
 * - A `<video>`: the file behind it, if this page may read that; otherwise (Media Source Extensions) the element is moved to
 *   the times that a video of 30 frames a second would be sampled at, and back afterwards. Its `srcObject` is watched as:
 * - A `MediaStream`, for example a camera, whose video is watched for `seconds` from when the prompt is reached.
 * - Pictures in order. Lists are not thinned, unless the model's context asks for it.
 * - `VideoFrame`s as they come from somewhere else, for example a decoder; they are closed after use, and thinned to `fps`.
 */
export type VideoSource =
  | Blob
  | BufferSource
  | URL
  | string
  | HTMLVideoElement
  | MediaStream
  | VideoFrames
  | Iterable<VideoFrame>
  | AsyncIterable<VideoFrame>;

/**
 * Which frames the model sees, and how large: the names, rules and defaults of qwen-vl-utils, so that a model sees what it
 * was trained with. Sizes are in pixels after resizing.
 */
export interface VideoOptions extends PixelLimits {
  /** Frames a second that are looked at: 2. */
  fps?: number;
  /** How many frames are looked at, in place of `fps`. */
  nframes?: number;
  /** Bounds on what `fps` makes of the length: 4 and 768. */
  minFrames?: number;
  /** With `minFrames`. */
  maxFrames?: number;
  /** Only what lies between these, in seconds. */
  videoStart?: number;
  /** With `videoStart`. */
  videoEnd?: number;
  /** Pixels of all frames together. `minPixels` and `maxPixels` are of one frame. */
  totalPixels?: number;
  /** An exact size in place of the limits; rounded to what the model can see. */
  resizedWidth?: number;
  /** With `resizedWidth`. */
  resizedHeight?: number;
}

/** In pixels. */
export interface Size {
  /** Pixels across. */
  width: number;
  /** Pixels down. */
  height: number;
}

/** A picture's own size and the size the model saw. */
export interface Sizes {
  /** As it was given, upright. */
  original: Size;
  /** As the model saw it. */
  resized: Size;
}

/** One picture of a prompt, and the tokens it took. */
export interface ImageInfo extends Sizes {
  /** Of the prompt. */
  tokens: number;
}

/** One video of a prompt: what was looked at, and when it is shown. */
export interface VideoInfo {
  /** Of its frames as they are displayed. */
  original: Size;
  /** As the model saw them. */
  resized: Size;
  /** How many frames the model saw. */
  frames: number;
  /** When each of them is shown, in seconds: the video's own times. */
  timestamps: number[];
  /** Frames a second that this makes; what the model is told. */
  sampleFps: number;
  /** Of the prompt. */
  tokens: number;
  /** What was changed to fit the model's context, one sentence each. */
  decisions: string[];
}
