// What is said in a conversation: messages, and the texts, pictures and videos in them.

import type { ImageSource, PixelLimits, VideoOptions, VideoSource } from "./media.js";
import type { ToolCall } from "./tools.js";

/** Words among the pictures. */
export interface TextPart {
  type: "text";
  /** Plain text. What looks like a control token in it stays text. */
  text: string;
}

/** A picture. It is encoded once, however often it is asked about. */
export interface ImagePart extends PixelLimits {
  type: "image";
  /** Decoded at its own size, with its EXIF orientation. */
  image: ImageSource;
  /** An exact size instead of one derived from the limits; rounded to what the model can see. */
  resizedWidth?: number;
  /** With `resizedWidth`. */
  resizedHeight?: number;
}

/** A video, of which some frames are looked at. */
export interface VideoPart extends VideoOptions {
  type: "video";
  /** Read when the prompt is reached, in the worker. */
  video: VideoSource;
  /** How long a `MediaStream` is watched: 4 seconds. */
  seconds?: number;
}

/** A piece of a message. */
export type Part = TextPart | ImagePart | VideoPart;

/** Something said in a conversation, or, with role "system", before it. */
export interface Message {
  /** Who says it: "tool" is the answer to a call of the assistant's. */
  role: "system" | "user" | "assistant" | "tool";
  /** A text, or texts, pictures and videos in their order. */
  content: string | Part[];
  /** What an assistant thought before it said that; given to models that are told again. */
  reasoning?: string;
  /** What an assistant asked to be called, as a result has it. */
  toolCalls?: ToolCall[];
  /** Of role "tool": the call that this answers. A turn's answers come in the order of its calls. */
  toolCallId?: string;
  /** The last message, of role "assistant": the model goes on writing it in place of beginning a new one. */
  prefix?: true;
}
