// A finished answer: its text, what it points at, and what it took.

import type { ImageInfo, VideoInfo } from "./media.js";
import type { ToolCall } from "./tools.js";

/** Natural logarithms of what the model gave, before temperature, penalties and bounds. */
export interface TokenLogprob {
  /** In the model's vocabulary. */
  id: number;
  /** What it reads as. */
  token: string;
  /** Of the token: a character may be spread over several. */
  bytes: number[];
  /** 0 is certain. */
  logprob: number;
  /** The likeliest at this place, the likeliest first. */
  top: Omit<TokenLogprob, "top">[];
}

/** A point in a picture's own pixels. */
export type Point = [x: number, y: number];

/** Something that an answer points at. `image`: which picture of the conversation it is in, from 0 on. */
export type Located = { label?: string; image: number } & (
  | { kind: "box"; at: [left: number, top: number, right: number, bottom: number] }
  | { kind: "point"; at: Point }
  /** Three corners or more, in the order of the answer. */
  | { kind: "polygon"; at: Point[] }
  /** In the camera's frame, as the model wrote it: centre x, y, z and size in metres, roll, pitch, yaw. No pixels. */
  | { kind: "box3d"; at: number[] }
);

/** A piece of a page that was written as HTML. */
export interface Block {
  /** The element: "h2", "p", "table", "div". */
  tag: string;
  /** Its class, such as "image", "formula" or "image caption". */
  class?: string;
  /** In the picture's own pixels; an element may come without. */
  box?: [left: number, top: number, right: number, bottom: number];
  /** What it says: a line per row and break, a tab between cells. */
  text: string;
  /** What is in it, as the model wrote it: not to be trusted as markup. */
  html: string;
}

/** Something that happens in a video: seconds from its beginning. */
export interface VideoEvent {
  /** When it begins, or happens. */
  start: number;
  /** When it is over, if the model said so. */
  end?: number;
  /** What happens. */
  label?: string;
}

/** A finished answer, and what it took. */
export interface Result {
  /** The answer, without control tokens. */
  text: string;
  /** What a model that thinks first has thought; null for others. It is not part of `text`. */
  reasoning: string | null;
  /**
   * The boxes, points and polygons of the answer, in the pixels of the pictures as they were given. An answer that does not
   * name a picture means the last one of the conversation.
   */
  located: Located[];
  /** The tokens as they were generated, without the one that ended them. */
  tokenIds: number[];
  /**
   * The model was done or a `stop` came; `maxTokens` or the context were used up; tools are to be called; it was aborted;
   * it only repeated itself.
   */
  finishReason: "stop" | "length" | "tool_calls" | "abort" | "repetition";
  /** Of an answer in JSON (`responseConstraint` is a schema) that was not cut off: its value. */
  parsed?: unknown;
  /** What the model asks to be called. */
  toolCalls?: ToolCall[];
  /** Where they were asked for: of every token of the answer. */
  logprobs?: TokenLogprob[];
  /**
   * Tokens: of the whole prompt, those of it that are pictures and videos, of the answer, and those of the prompt that
   * were not computed again.
   */
  usage: {
    promptTokens: number;
    imageTokens: number;
    videoTokens: number;
    completionTokens: number;
    cachedTokens: number;
  };
  /**
   * Milliseconds: encoding what is new in pictures and videos, computing the prompt, until the first token from the call
   * on, from the first to the last; and tokens a second after the first.
   */
  timings: { imageMs: number; prefillMs: number; ttftMs: number; decodeMs: number; decodeTps: number };
  /** The pictures of this prompt, in order. */
  images: ImageInfo[];
  /** The videos of this prompt, in order. */
  videos: VideoInfo[];
}
