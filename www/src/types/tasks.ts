// The tasks (detect, point, ocr, parseDocument): their options and their results.

import type { GenerateOptions } from "./generate.js";
import type { PixelLimits } from "./media.js";
import type { Block, Point, Result } from "./results.js";

/** An object that was found in a picture. */
export interface Box {
  /** The model's name for the object. */
  label: string;
  /** The left, top, right and bottom edges, in pixels of the original picture. */
  box: [left: number, top: number, right: number, bottom: number];
}

/** A point on an object in a picture. */
export interface LabeledPoint {
  /** The model's name for the object. */
  label: string;
  /** Where the point is, in pixels of the original picture. */
  point: Point;
}

/** Options of the tasks. Unless `temperature` is given, the model writes its most likely answer. */
export interface TaskOptions extends PixelLimits, Omit<GenerateOptions, "responseConstraint" | "toolChoice"> {
  /**
   * The prompt to use instead of the one that this model family was trained with. `{what}` stands for what is being looked
   * for.
   */
  prompt?: string;
  /**
   * Called with the answer from which the data was read: its text, why it ended (with `"length"`, there may be more), and
   * the tokens and time it took.
   */
  onResult?: (result: Result) => void;
}

/** A piece of text in a picture, usually a line. */
export interface OcrLine {
  /** The text of the line. */
  text: string;
  /** Where the text is, in pixels of the original picture, if the model said so. */
  box?: [left: number, top: number, right: number, bottom: number];
}

/** The text in a picture. */
export interface OcrResult {
  /** All text, with one line for each of `lines`. */
  text: string;
  /** The lines, in reading order. */
  lines: OcrLine[];
  /** The model's whole answer, with the tokens and the time it took. */
  result: Result;
}

/** A page of a document, read by the model. */
export interface DocumentResult {
  /** The page as the model wrote it. Do not insert it into a page without sanitizing it. */
  html: string;
  /** The parts of the page, in reading order. */
  blocks: Block[];
  /** The model's whole answer, with the tokens and the time it took. */
  result: Result;
}
