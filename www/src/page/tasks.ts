// The tasks (detect, point, ocr, parseDocument): a prompt that the model family was trained with, and its answer as data.

import { FanlightError } from "../errors.js";
import { aborted, orAborted } from "../shared/abort.js";
import type {
  Block,
  Box,
  DocumentResult,
  GenerateOptions,
  ImageSource,
  LabeledPoint,
  Message,
  ModelInfo,
  OcrLine,
  OcrResult,
  PixelLimits,
  Result,
  Sizes,
  TaskOptions,
} from "../types.js";
import { imageBytes } from "./media.js";

/** What a task needs of a model, which may run here or on a server. */
export interface Asking {
  /** If `maxPixels` is absent, it is unknown how limits are applied, so pictures are not enlarged. */
  readonly info: Pick<ModelInfo, "modelType" | "taskPrompts"> & { maxPixels?: number };
  session(): Promise<{
    prompt(input: Message[], options: GenerateOptions): Promise<Result>;
    destroy(): void;
  }>;
  document(html: string, picture: Sizes): Promise<Block[]>;
}

type Task = "detect" | "point" | "ocr" | "document";

/** `{what}` stands for what is looked for. */
interface Question {
  system?: string;
  prompt: string;
  /** Pictures with fewer pixels are enlarged. */
  minPixels?: number;
}

const PARSER =
  "You are an AI specialized in recognizing and extracting text from images. Your mission is to analyze the image document " +
  "and generate the result in QwenVL Document Parser HTML format using specified tags while maintaining user privacy and " +
  "data integrity.";
const SPOTTING = "Spotting all the text in the image with line-level, and output in JSON format.";

/**
 * By `model_type`. Sources, all in github.com/QwenLM/Qwen3-VL, which is where the cookbooks of Qwen2.5-VL were (the 2.5 ones at
 * commits before October 2025):
 *
 * - qwen3_vl: cookbooks/2d_grounding.ipynb and appendix B of the technical report; cookbooks/ocr.ipynb, document_parsing.ipynb.
 * - qwen2_5_vl: cookbooks/spatial_understanding.ipynb ("Outline the position of each small cake and output all the coordinates
 *   in JSON format."; points in the same manner, in our words), ocr.ipynb, document_parsing.ipynb, with their pixel limits.
 * - qwen2_vl: no cookbook, so in our words: it answers a plain request for a box in its own tokens. Points are the middles of
 *   boxes, and it was not trained to write pages.
 */
const QUESTIONS: Record<string, Partial<Record<Task, Question>>> = {
  qwen3_vl: {
    detect: {
      prompt: 'Locate every object that matches the description "{what}" in the image. Report bbox coordinates in JSON format.',
    },
    point: {
      prompt:
        "Locate every {what} with points, report their point coordinates in JSON format like this: " +
        '{"point_2d": [x, y], "label": "{what}"}',
    },
    ocr: { prompt: SPOTTING, minPixels: 512 * 32 * 32 },
    document: { prompt: "qwenvl html", minPixels: 512 * 32 * 32 },
  },
  qwen2_5_vl: {
    detect: { prompt: "Outline the position of each {what} and output all the coordinates in JSON format." },
    point: { prompt: "Locate all {what} in the image as points and output their point coordinates in JSON format." },
    ocr: { prompt: SPOTTING, minPixels: 512 * 28 * 28 },
    // The cookbook has the space at the end too.
    document: { system: PARSER, prompt: "QwenVL HTML ", minPixels: 512 * 28 * 28 },
  },
  qwen2_vl: {
    detect: { prompt: "Detect the bounding box of {what}." },
    point: { prompt: "Detect the bounding box of {what}." },
    ocr: { prompt: "Read all the text in the image." },
  },
};

export async function detect(model: Asking, image: ImageSource, what: string, options: TaskOptions = {}): Promise<Box[]> {
  const { located } = await ask(model, "detect", image, { loopGuard: true, ...options }, what);
  return located.flatMap(({ label = what, ...found }) => {
    if (found.kind === "box") return [{ label, box: found.at }];
    return found.kind === "polygon" ? [{ label, box: around(found.at) }] : [];
  });
}

export async function point(
  model: Asking,
  image: ImageSource,
  what: string,
  options: TaskOptions = {},
): Promise<LabeledPoint[]> {
  const { located } = await ask(model, "point", image, { loopGuard: true, ...options }, what);
  return located.flatMap(({ label = what, ...found }) => {
    if (found.kind === "point") return [{ label, point: found.at }];
    if (found.kind === "box3d") return [];
    const [left, top, right, bottom] = found.kind === "box" ? found.at : around(found.at);
    return [{ label, point: [(left + right) / 2, (top + bottom) / 2] }];
  });
}

export async function ocr(model: Asking, image: ImageSource, options: TaskOptions = {}): Promise<OcrResult> {
  const result = await ask(model, "ocr", image, options);
  const placed = result.located.flatMap(({ label, ...found }): OcrLine[] => {
    if (label === undefined || found.kind === "point" || found.kind === "box3d") return [];
    return [{ text: label, box: found.kind === "box" ? found.at : around(found.at) }];
  });
  const written = () => result.text.split("\n").flatMap((line) => (line.trim() === "" ? [] : [{ text: line.trim() }]));
  const lines: OcrLine[] = placed.length > 0 ? placed : written();
  return { text: lines.map(({ text }) => text).join("\n"), lines, result };
}

export async function parseDocument(model: Asking, image: ImageSource, options: TaskOptions = {}): Promise<DocumentResult> {
  const result = await ask(model, "document", image, options);
  const html = unfenced(result.text);
  const [picture] = result.images;
  return { html, blocks: picture ? await model.document(html, picture) : [], result };
}

/** Asks in a new conversation. The model writes its most likely answer, unless the caller sets a temperature. */
async function ask(model: Asking, task: Task, image: ImageSource, options: TaskOptions, what = ""): Promise<Result> {
  const { prompt, minPixels, maxPixels, onResult, ...generation } = options;
  const { signal } = options;
  if (signal?.aborted) throw aborted("the task was aborted");
  const question = prompt === undefined ? questionOf(model.info, task) : { prompt };
  const limits: PixelLimits = { ...(maxPixels !== undefined && { maxPixels }) };
  const most = maxPixels ?? model.info.maxPixels;
  const least = minPixels ?? (model.info.maxPixels === undefined ? undefined : question.minPixels);
  if (least !== undefined) limits.minPixels = Math.min(least, most ?? least);
  // Read the picture now, because what a canvas shows may change.
  const bytes = await orAborted(imageBytes(image), signal, "the task was aborted");
  const text = question.prompt.replaceAll("{what}", () => what);
  const messages: Message[] = [{ role: "user", content: [{ type: "image", image: bytes as BufferSource, ...limits }, { type: "text", text }] }];
  if (question.system !== undefined) messages.unshift({ role: "system", content: question.system });
  const session = await model.session();
  try {
    const result = await session.prompt(messages, { temperature: 0, ...generation });
    if (result.finishReason === "abort") throw aborted("the task was aborted");
    onResult?.(result);
    return result;
  } finally {
    session.destroy();
  }
}

/**
 * The prompt of the checkpoint, or of its family. A checkpoint that names prompts for some tasks was not trained for the
 * others.
 */
function questionOf({ modelType, taskPrompts }: Asking["info"], task: Task): Question {
  const own = taskPrompts[task];
  if (own !== undefined) return { prompt: own };
  const tasks: Task[] = ["detect", "point", "ocr", "document"];
  const question = tasks.some((name) => taskPrompts[name] !== undefined) ? undefined : QUESTIONS[modelType]?.[task];
  if (question) return question;
  const hint = "If you want to try it with this model, give your own prompt in the option `prompt`.";
  throw new FanlightError("unsupported", `this model (${modelType}) was not trained for "${task}"`, hint);
}

function around(corners: [number, number][]): Box["box"] {
  const [xs, ys] = [corners.map(([x]) => x), corners.map(([, y]) => y)];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** Removes the marks of a code block. An answer that was cut off has only the first one. */
function unfenced(text: string): string {
  const [, inside] = /^\s*```(?:html)?\s*\n?([\s\S]*?)(?:\n?```\s*)?$/.exec(text) ?? [];
  return inside ?? text;
}
