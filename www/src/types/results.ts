// A finished answer: its text, the places it refers to, and how many tokens and how much time it took.

import type { ImageInfo, VideoInfo } from "./media.js";
import type { ToolCall } from "./tools.js";

/**
 * A token with the natural logarithm of its probability, as the model computed it: before temperature, penalties and
 * sampling limits.
 */
export interface TokenLogprob {
  /** The token's id in the vocabulary of the model. */
  id: number;
  /** The token as text. */
  token: string;
  /** The bytes of the token. The bytes of one character may be spread over several tokens. */
  bytes: number[];
  /** The natural logarithm of its probability; 0 means certain. */
  logprob: number;
  /** The most likely tokens at this place, the most likely first. */
  top: Omit<TokenLogprob, "top">[];
}

/** A point, in pixels of the original picture. */
export type Point = [x: number, y: number];

/** A place in a picture that an answer gives. `image` is the index of the picture in the conversation, starting at 0. */
export type Located = { label?: string; image: number } & (
  | { kind: "box"; at: [left: number, top: number, right: number, bottom: number] }
  | { kind: "point"; at: Point }
  /** At least three corners, in the order of the answer. */
  | { kind: "polygon"; at: Point[] }
  /** In the coordinates of the camera, as the model wrote it: centre x, y, z and size in metres, then roll, pitch and yaw. Not pixels. */
  | { kind: "box3d"; at: number[] }
);

/** A part of a document page that the model wrote as HTML, for example a heading or a table. */
export interface Block {
  /** The name of the HTML element, for example "h2", "p", "table" or "div". */
  tag: string;
  /** The class of the element, for example "image", "formula" or "image caption". */
  class?: string;
  /** Where the block is, in pixels of the original picture. Absent if the model gave no place for it. */
  box?: [left: number, top: number, right: number, bottom: number];
  /** The text of the block, with a line for each table row or line break and a tab between table cells. */
  text: string;
  /** The content of the block as the model wrote it. Do not insert it into a page without sanitizing it. */
  html: string;
}

/** Something that happens in a video. Times are in seconds from the beginning of the video. */
export interface VideoEvent {
  /** When it begins or happens. */
  start: number;
  /** When it ends, if the model said so. */
  end?: number;
  /** A description of what happens. */
  label?: string;
}

/** A finished answer, with the tokens and the time it took. */
export interface Result {
  /** The text of the answer, without control tokens. */
  text: string;
  /** The reasoning of a model that reasons before it answers; null for other models. It is not part of `text`. */
  reasoning: string | null;
  /**
   * The boxes, points and polygons of the answer, in pixels of the original pictures. If the answer does not name a
   * picture, the last picture of the conversation is meant.
   */
  located: Located[];
  /** The generated token ids, without the token that ended the answer. */
  tokenIds: number[];
  /**
   * Why the answer ended. "stop": the model finished, or a `stop` text occurred. "length": `maxTokens` was reached or the
   * context is full. "tool_calls": the model calls tools. "abort": the answer was aborted. "repetition": the answer only
   * repeated itself (`loopGuard`).
   */
  finishReason: "stop" | "length" | "tool_calls" | "abort" | "repetition";
  /** The value of an answer in JSON. Only if `responseConstraint` is a schema and the answer was not cut off. */
  parsed?: unknown;
  /** The tool calls of the model. */
  toolCalls?: ToolCall[];
  /** The log-probabilities of every token of the answer, if the option `logprobs` is set. */
  logprobs?: TokenLogprob[];
  /**
   * Numbers of tokens: in the whole prompt, in its pictures, in its videos, in the answer, and in the part of the prompt
   * that did not have to be computed again.
   */
  usage: {
    promptTokens: number;
    imageTokens: number;
    videoTokens: number;
    completionTokens: number;
    cachedTokens: number;
  };
  /**
   * Durations in milliseconds: `imageMs`, encoding new pictures and videos; `prefillMs`, computing the prompt; `ttftMs`,
   * from the call to the first token; `decodeMs`, from the first to the last token. `decodeTps` is the number of tokens a
   * second after the first token.
   */
  timings: { imageMs: number; prefillMs: number; ttftMs: number; decodeMs: number; decodeTps: number };
  /** The pictures of this prompt, in order. */
  images: ImageInfo[];
  /** The videos of this prompt, in order. */
  videos: VideoInfo[];
}
