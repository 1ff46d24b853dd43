// The tasks (detect, point, ocr, parseDocument): how they are asked, and the data that they give.

import type { GenerateOptions } from "./generate.js";
import type { PixelLimits } from "./media.js";
import type { Block, Point, Result } from "./results.js";

/** Something found in a picture, in its own pixels. */
export interface Box {
  /** What the model calls it. */
  label: string;
  /** Left, top, right and bottom edge. */
  box: [left: number, top: number, right: number, bottom: number];
}

/** Something that was pointed at in a picture, in its own pixels. */
export interface LabeledPoint {
  /** What the model calls it. */
  label: string;
  /** Where it is. */
  point: Point;
}

/** How a task is put to the model, which gives its likeliest answer unless `temperature` says otherwise. */
export interface TaskOptions extends PixelLimits, Omit<GenerateOptions, "responseConstraint" | "toolChoice"> {
  /** What is asked, in place of what this family was trained to be asked. `{what}` in it is what is looked for. */
  prompt?: string;
  /** Gets the answer that was made data of: its text, why it ended (`"length"`: there may be more), what it took. */
  onResult?: (result: Result) => void;
}

/** A piece of text in a picture: a line, as a rule. */
export interface OcrLine {
  /** What it says. */
  text: string;
  /** Where it stands, if the model said so: in the picture's own pixels. */
  box?: [left: number, top: number, right: number, bottom: number];
}

/** What stands in a picture. */
export interface OcrResult {
  /** All of it, a line for each of `lines`. */
  text: string;
  /** In reading order. */
  lines: OcrLine[];
  /** The model's answer itself, with what it took. */
  result: Result;
}

/** A page as the model wrote it down. */
export interface DocumentResult {
  /** What it wrote: not to be trusted as markup. */
  html: string;
  /** Its pieces in reading order. */
  blocks: Block[];
  /** The whole answer. */
  result: Result;
}
