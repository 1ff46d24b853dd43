// A conversation, as the page has it.
/// <reference lib="esnext.disposable" preserve="true" />

import type { WorkerLink } from "./link.js";
import { take, wire } from "./wire.js";
import type { Delta, GenerateOptions, Message, Result } from "./types.js";

/** The pieces of an answer as they come, and all of it at the end. */
export interface Stream extends AsyncIterable<Delta> {
  readonly result: Promise<Result>;
}

export class Session {
  readonly #worker: WorkerLink;
  readonly #id: number;
  readonly #destroyed = new AbortController();
  #before: Message[];
  /** Prompts of one session run in the order they were made, each after the one before has settled. */
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(worker: WorkerLink, id: number, before: Message[]) {
    this.#worker = worker;
    this.#id = id;
    this.#before = before;
  }

  /** Adds to the conversation and answers. */
  prompt(input: string | Message[], options: GenerateOptions = {}): Promise<Result> {
    return this.#prompt(input, options, () => {});
  }

  /** As `prompt`, and the text arrives as it is written. Leaving the loop early ends the answer. */
  promptStreaming(input: string | Message[], options: GenerateOptions = {}): Stream {
    const stop = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
    const queue: Delta[] = [];
    let wake = () => {};
    let open = true;
    const result = this.#prompt(input, { ...options, signal }, (delta) => {
      queue.push(delta);
      wake();
    });
    const end = () => {
      open = false;
      wake();
    };
    // Someone who only iterates gets the error from the loop; it must not count as unhandled as well.
    result.then(end, end);
    async function* deltas(): AsyncGenerator<Delta> {
      try {
        for (;;) {
          const delta = queue.shift();
          if (delta) yield delta;
          else if (open) await new Promise<void>((resolve) => (wake = resolve));
          else break;
        }
        await result;
      } finally {
        stop.abort();
      }
    }
    return { result, [Symbol.asyncIterator]: deltas };
  }

  /** Forgets the conversation and frees its memory. An answer that is being written ends. */
  destroy(): void {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort();
    this.#last.then(() => this.#worker.call("release", { session: this.#id })).catch(() => {});
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #prompt(input: string | Message[], options: GenerateOptions, onDelta: (delta: Delta) => void): Promise<Result> {
    const { signal: callers, ...rest } = options;
    const signal = callers ? AbortSignal.any([callers, this.#destroyed.signal]) : this.#destroyed.signal;
    const turn = take(typeof input === "string" ? [{ role: "user", content: input }] : input);
    const result = this.#last.then(async () => {
      const { transfer, release, ...wired } = await wire([...this.#before, ...turn]);
      try {
        const args = { session: this.#id, ...wired, options: rest };
        const result = await this.#worker.call("prompt", args, onDelta, signal, transfer);
        this.#before = [];
        return result;
      } finally {
        release();
      }
    });
    this.#last = result.catch(() => {});
    return result;
  }
}
