// What a picture or a video can come from, how large the model sees it, and how much of a prompt it took.

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
  /** Smaller pictures are enlarged to this many pixels. Default: the checkpoint's own limit, often 3136 or 65 536. */
  minPixels?: number;
  /**
   * Larger pictures are scaled down to this many pixels. Each 28 × 28 pixels of the result make one token of the prompt
   * (Qwen3-VL: 32 × 32). Default: the checkpoint's own limit.
   */
  maxPixels?: number;
}

/** A list of pictures, in order, to be used as a video. Without `timestamps`, the pictures are `1 / fps` seconds apart. */
export interface VideoFrames {
  /**
   * The pictures. `VideoFrame`s are moved to the worker and closed, just as `postMessage` moves them: give a `clone()` if
   * you still need one.
   */
  frames: (ImageSource | VideoFrame)[];
  /** When each picture is shown, in seconds, ascending. */
  timestamps?: number[];
  /** Pictures a second, if there are no `timestamps`. Default: 2. */
  fps?: number;
}

/**
 * Anything a video can come from.
 *
 * - A file (MP4, MOV, WebM, Matroska), its bytes, or its URL. Its frames and their times are read exactly, in the worker, and
 *   only what the sampled frames need is decoded. A string is a URL.
 * - A `<video>` element. If this page may read the file behind the element, that file is read. Otherwise (Media Source
 *   Extensions) the element seeks to the times at which a video of 30 frames a second would be sampled, and back afterwards. If its
 *   `srcObject` is a `MediaStream`, that stream is used:
 * - A `MediaStream`, for example from a camera. Its frames are captured for `seconds` from the moment when the prompt is run.
 * - Pictures in order. All of them are used, unless the model's context is too short for that.
 * - `VideoFrame`s that arrive one by one, for example from a decoder. They are closed after use and sampled at `fps`.
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
 * Which frames of a video the model sees, and how large. Names, rules and defaults are those of qwen-vl-utils, with which
 * the models were trained. Sizes are in pixels after resizing.
 */
export interface VideoOptions extends PixelLimits {
  /** Frames a second that the model sees. Default: 2. */
  fps?: number;
  /** How many frames the model sees, instead of `fps`. */
  nframes?: number;
  /** The fewest frames that `fps` may result in. Default: 4. */
  minFrames?: number;
  /** The most frames that `fps` may result in. Default: 768. */
  maxFrames?: number;
  /** Use only the part of the video from this time on, in seconds from its first frame. */
  videoStart?: number;
  /** Use only the part of the video up to this time, in seconds from its first frame. */
  videoEnd?: number;
  /** The most pixels of all frames together. `minPixels` and `maxPixels` are limits for a single frame. */
  totalPixels?: number;
  /**
   * The width of the frames, instead of one that follows from the limits; set `resizedHeight` too. It is rounded to a size
   * that the model can see.
   */
  resizedWidth?: number;
  /** The height of the frames, together with `resizedWidth`. */
  resizedHeight?: number;
}

/** A size in pixels. */
export interface Size {
  /** The width in pixels. */
  width: number;
  /** The height in pixels. */
  height: number;
}

/** The own size of a picture, and the size in which the model saw it. */
export interface Sizes {
  /** The size of the picture as it was given, turned upright. */
  original: Size;
  /** The size in which the model saw it. */
  resized: Size;
}

/** A picture of a prompt: its sizes and how many tokens it took. */
export interface ImageInfo extends Sizes {
  /** Tokens of the prompt that this picture took. */
  tokens: number;
}

/** A video of a prompt: which frames the model saw, and how many tokens they took. */
export interface VideoInfo {
  /** The size of the frames as they are displayed. */
  original: Size;
  /** The size in which the model saw them. */
  resized: Size;
  /** How many frames the model saw. */
  frames: number;
  /** The time of each of these frames in the video, in seconds from its first frame. */
  timestamps: number[];
  /**
   * When the first frame is shown on the file's own clock, in seconds. Absent if that is 0, as in most files. A `<video>` shows the frame of
   * the time `t` at `currentTime = startsAt + t`.
   */
  startsAt?: number;
  /** How many frames a second of video the model saw. The model is told this number. */
  sampleFps: number;
  /** Tokens of the prompt that this video took. */
  tokens: number;
  /** What was changed so that the video fits the model's context, one sentence each. */
  decisions: string[];
}
