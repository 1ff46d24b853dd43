// A loaded model, as the page has it. This folder is what runs in the page: models and sessions, whose work the worker does (link.ts is
// the page's end of it), and whatever becomes of pictures and videos before they are sent there.
/// <reference lib="esnext.disposable" preserve="true" />

import type { FanlightError } from "../errors.js";
import { chatCompletions } from "../openai/completions.js";
import type { ChatCompletions } from "../openai/types.js";
import { aborted } from "../shared/abort.js";
import type {
  Block,
  Box,
  DocumentResult,
  EventInfo,
  GenerateOptions,
  ImageSource,
  LabeledPoint,
  Located,
  Message,
  ModelEvent,
  ModelInfo,
  OcrResult,
  Plan,
  SessionOptions,
  Sizes,
  TaskOptions,
  VideoEvent,
} from "../types.js";
import type { WorkerLink } from "./link.js";
import { Session } from "./session.js";
import * as tasks from "./tasks.js";
import { sizes, take } from "./wire.js";

/** A loaded model. It holds the device's memory until `destroy()`. */
export class Model {
  /** What was loaded, and onto what. */
  readonly info: ModelInfo;
  /** Resolves with the reason when the model can no longer be used, `destroy()` included. */
  readonly closed: Promise<FanlightError>;
  /** OpenAI's way to ask: `chat.completions.create({ messages })`. */
  readonly chat: { readonly completions: ChatCompletions };
  readonly #worker: WorkerLink;

  /** @internal */
  constructor(worker: WorkerLink, info: ModelInfo) {
    this.#worker = worker;
    this.info = info;
    this.closed = worker.closed;
    this.chat = { completions: chatCompletions({ info, take, session: () => this.session() }) };
  }

  /** Starts a conversation. It remembers what was said, so a second question does not look at the picture again. */
  async session(options: SessionOptions = {}): Promise<Session> {
    const { messages = [], addVisionId = false, tools = [] } = options;
    const id = await this.#worker.call("session", { addVisionId });
    return new Session(this.#worker, id, { messages, tools, contextWindow: this.info.contextLength });
  }

  /** What a conversation that begins with this prompt would take, and what may go wrong with its pictures: as `Session.plan`. */
  async plan(input: string | Message[], options: SessionOptions & GenerateOptions = {}): Promise<Plan> {
    const { messages = [], addVisionId = false, tools = [], ...rest } = options;
    const session = await this.session({ messages, addVisionId, tools });
    try {
      return await session.plan(input, rest);
    } finally {
      session.destroy();
    }
  }

  /**
   * What a text of this model locates in these pictures (a result's `images`). A result has it already, as `located`; this is
   * for text that was kept or changed.
   */
  locate(text: string, pictures: Sizes[]): Promise<Located[]> {
    return this.#worker.call("locate", { text, pictures: pictures.map(sizes) });
  }

  /** The blocks of a page that this model wrote as HTML ("QwenVL HTML") about a picture, in reading order. */
  document(html: string, picture: Sizes): Promise<Block[]> {
    return this.#worker.call("document", { html, picture: sizes(picture) });
  }

  /** The events of a video that a text tells of, in seconds: from JSON, or from prose with times. */
  events(text: string): Promise<VideoEvent[]> {
    return this.#worker.call("events", { text });
  }

  /** Every `what` in a picture, with its box in the picture's own pixels: `detect(photo, "red button")`. */
  detect(image: ImageSource, what: string, options?: TaskOptions): Promise<Box[]> {
    return tasks.detect(this, image, what, options);
  }

  /** As `detect`, a point on each. */
  point(image: ImageSource, what: string, options?: TaskOptions): Promise<LabeledPoint[]> {
    return tasks.point(this, image, what, options);
  }

  /** Reads all text of a picture, line by line, with their boxes where the family writes them. */
  ocr(image: ImageSource, options?: TaskOptions): Promise<OcrResult> {
    return tasks.ocr(this, image, options);
  }

  /** A page as HTML and as its blocks with their places. "unsupported" for families that were not trained to write that. */
  parseDocument(image: ImageSource, options?: TaskOptions): Promise<DocumentResult> {
    return tasks.parseDocument(this, image, options);
  }

  /**
   * Calls `listener` whenever this happens, until the function that comes back is called. Nothing has to be done about a lost
   * device: a call that it interrupts goes on by itself on another one, as does every later call. It is tried twice in a row;
   * then calls reject with code "device_lost", and the hint says what the person can do.
   */
  on(event: ModelEvent, listener: (info: EventInfo) => void): () => void {
    return this.#worker.onNotice((happened, info) => happened === event && listener(info));
  }

  /** Ends the worker and frees the device's memory. Whatever is pending rejects with code "aborted". */
  destroy(): void {
    this.#worker.close(aborted("the model was destroyed"));
  }

  /** `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }
}
