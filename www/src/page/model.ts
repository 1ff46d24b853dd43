// A loaded model, as the page sees it. The code in this folder runs in the page: models and sessions, which pass their calls to the
// worker (link.ts), and the reading of pictures and videos before they are sent to the worker.
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
  /** What was loaded, and onto which device. */
  readonly info: ModelInfo;
  /** Resolves with the reason when the model can no longer be used, also after `destroy()`. */
  readonly closed: Promise<FanlightError>;
  /** The interface of OpenAI's client: `chat.completions.create({ messages })`. */
  readonly chat: { readonly completions: ChatCompletions };
  readonly #worker: WorkerLink;

  /** @internal */
  constructor(worker: WorkerLink, info: ModelInfo) {
    this.#worker = worker;
    this.info = info;
    this.closed = worker.closed;
    this.chat = { completions: chatCompletions({ info, take, session: () => this.session() }) };
  }

  /**
   * Starts a conversation. The conversation keeps what was said, so a second question about a picture does not process the
   * picture again.
   */
  async session(options: SessionOptions = {}): Promise<Session> {
    const { messages = [], addVisionId = false, tools = [] } = options;
    const id = await this.#worker.call("session", { addVisionId });
    return new Session(this.#worker, id, { messages, tools, contextWindow: this.info.contextLength });
  }

  /** What a new conversation with this prompt would need, with warnings about its pictures. Like `Session.plan`. */
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
   * The places that a text of this model gives in these pictures (`images` of a result). A result already has them as
   * `located`; this method is for text that was stored or changed.
   */
  locate(text: string, pictures: Sizes[]): Promise<Located[]> {
    return this.#worker.call("locate", { text, pictures: pictures.map(sizes) });
  }

  /** The blocks of a document page that this model wrote as HTML ("QwenVL HTML"), in reading order. */
  document(html: string, picture: Sizes): Promise<Block[]> {
    return this.#worker.call("document", { html, picture: sizes(picture) });
  }

  /**
   * The events of a video that a text of this model describes, in JSON or in sentences with times. The times of the result
   * are in seconds.
   */
  events(text: string): Promise<VideoEvent[]> {
    return this.#worker.call("events", { text });
  }

  /**
   * Finds every `what` in a picture and returns its box in pixels of the original picture: `detect(photo, "red button")`.
   */
  detect(image: ImageSource, what: string, options?: TaskOptions): Promise<Box[]> {
    return tasks.detect(this, image, what, options);
  }

  /** Finds every `what` in a picture, like `detect`, and returns a point on each. */
  point(image: ImageSource, what: string, options?: TaskOptions): Promise<LabeledPoint[]> {
    return tasks.point(this, image, what, options);
  }

  /** Reads all text in a picture, line by line. The lines have boxes if the model family writes them. */
  ocr(image: ImageSource, options?: TaskOptions): Promise<OcrResult> {
    return tasks.ocr(this, image, options);
  }

  /**
   * Reads a page of a document and returns it as HTML and as blocks with their places. Rejects with code "unsupported" for
   * model families that were not trained for this.
   */
  parseDocument(image: ImageSource, options?: TaskOptions): Promise<DocumentResult> {
    return tasks.parseDocument(this, image, options);
  }

  /**
   * Calls `listener` for every such event. The returned function removes the listener. A page does not have to do anything
   * about a lost device: the call that was interrupted continues on a new device, and so do all later calls. If devices are
   * lost again and again, Fanlight gives up after two attempts in a row: calls then reject with code "device_lost", and the
   * hint says what the person can do.
   */
  on(event: ModelEvent, listener: (info: EventInfo) => void): () => void {
    return this.#worker.onNotice((happened, info) => happened === event && listener(info));
  }

  /** Ends the worker and frees the device's memory. Pending calls reject with code "aborted". */
  destroy(): void {
    this.#worker.close(aborted("the model was destroyed"));
  }

  /** The same as `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }
}
