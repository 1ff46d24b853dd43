// A loaded model, as the page has it.
/// <reference lib="esnext.disposable" preserve="true" />

import type { FanlightError } from "./errors.js";
import { aborted, type WorkerLink } from "./link.js";
import { Session } from "./session.js";
import type { Block, Located, ModelInfo, SessionOptions, Sizes, VideoEvent } from "./types.js";

/** A loaded model. It holds the device's memory until `destroy()`. */
export class Model {
  readonly info: ModelInfo;
  /** Resolves with the reason when the model can no longer be used, `destroy()` included. */
  readonly closed: Promise<FanlightError>;
  readonly #worker: WorkerLink;

  /** @internal */
  constructor(worker: WorkerLink, info: ModelInfo) {
    this.#worker = worker;
    this.info = info;
    this.closed = worker.closed;
  }

  /** Starts a conversation. It remembers what was said, so a second question does not look at the picture again. */
  async session(options: SessionOptions = {}): Promise<Session> {
    const { messages = [], addVisionId = false } = options;
    const id = await this.#worker.call("session", { addVisionId });
    return new Session(this.#worker, id, messages);
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

  /** Ends the worker and frees the device's memory. Whatever is pending rejects with code "aborted". */
  destroy(): void {
    this.#worker.close(aborted("the model was destroyed"));
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** Nothing but what can cross to the worker. */
const sizes = ({ original, resized }: Sizes): Sizes => ({ original, resized });
