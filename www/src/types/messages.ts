// The messages of a conversation, and the texts, pictures and videos in them.

import type { ImageSource, PixelLimits, VideoOptions, VideoSource } from "./media.js";
import type { ToolCall } from "./tools.js";

/** A text between pictures and videos. */
export interface TextPart {
  type: "text";
  /** Plain text. Text that looks like a control token is treated as text. */
  text: string;
}

/** A picture. It is encoded only once, however many questions are asked about it. */
export interface ImagePart extends PixelLimits {
  type: "image";
  /** The picture. It is decoded at its full size and turned upright by its EXIF orientation. */
  image: ImageSource;
  /**
   * A width to use instead of the picture's own; set `resizedHeight` too. It is rounded to a size that the model can see,
   * and the pixel limits still apply.
   */
  resizedWidth?: number;
  /** A height to use instead of the picture's own, together with `resizedWidth`. */
  resizedHeight?: number;
}

/** A video, of which the model sees some frames. */
export interface VideoPart extends VideoOptions {
  type: "video";
  /** The video. It is read in the worker, when the prompt is run. */
  video: VideoSource;
  /** How many seconds of a `MediaStream` are captured. Default: 4. */
  seconds?: number;
}

/** A piece of a message. */
export type Part = TextPart | ImagePart | VideoPart;

/** A message of a conversation. */
export interface Message {
  /**
   * Who the message is from. "system" is for instructions before the conversation; "tool" is for the result of a tool call.
   */
  role: "system" | "user" | "assistant" | "tool";
  /** A text, or a list of texts, pictures and videos in their order. */
  content: string | Part[];
  /** The assistant's reasoning before this message. It is used by models whose prompts repeat earlier reasoning. */
  reasoning?: string;
  /** The tool calls of an assistant's message, as in `Result.toolCalls`. */
  toolCalls?: ToolCall[];
  /** For the role "tool": the id of the call that this message answers. Answer the calls of a message in their order. */
  toolCallId?: string;
  /**
   * Only for the last message, with the role "assistant": the model continues this message instead of starting a new one.
   */
  prefix?: true;
}
