// A conversation, as the page has it.

import { aborted, type WorkerLink } from "./link.js";
import { wire } from "./wire.js";
import type { AppendOptions, Delta, GenerateOptions, Message, Result } from "./types.js";

/** The pieces of an answer as they come, and all of it at the end. */
export interface Stream extends AsyncIterable<Delta> {
  readonly result: Promise<Result>;
}

export class Session {
  /** Tokens that the conversation may have, pictures and answers included. */
  readonly contextWindow: number;
  readonly #worker: WorkerLink;
  readonly #id: number;
  readonly #destroyed = new AbortController();
  /** Of `SessionOptions`: they go to the worker with the first prompt. */
  #before: Message[];
  #usage: number;
  /** Calls of one session run in the order they were made, each after the one before has settled. */
  #last: Promise<unknown> = Promise.resolve();

  /** @internal `usage`: tokens that it holds already. */
  constructor(worker: WorkerLink, id: number, before: Message[], window: number, usage = 0) {
    this.#worker = worker;
    this.#id = id;
    this.#before = before;
    this.contextWindow = window;
    this.#usage = usage;
  }

  /**
   * Tokens that the conversation has by now, as of the last call that has settled; one that failed has changed nothing. The
   * messages that a session begins with count from the first prompt or `append` on.
   */
  get contextUsage(): number {
    return this.#usage;
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

  /**
   * Adds to the conversation and lets the model look at it, so that an answer begins sooner: pictures and videos are encoded,
   * and everything is read. Nothing is answered; the next prompt goes on from here. Messages that belong to one turn may come
   * in several calls: two user messages in a row are what they would be in one list.
   *
   * An aborted call rejects with code "aborted", and the conversation is as it was before.
   */
  append(messages: Message[], { signal }: AppendOptions = {}): Promise<void> {
    return this.#next(signal, async (signal) => {
      this.#usage = await this.#send(messages, signal, ({ transfer, ...turn }) =>
        this.#worker.call("append", { session: this.#id, ...turn }, undefined, signal, transfer),
      );
    });
  }

  /**
   * Another conversation that has come as far as this one, calls that are pending included. They share memory, on the device
   * too, until they differ, and then what they have in common.
   */
  clone(): Promise<Session> {
    return this.#next(undefined, async () => {
      const id = await this.#worker.call("clone", { session: this.#id });
      return new Session(this.#worker, id, this.#before, this.contextWindow, this.#usage);
    });
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
    const turn: Message[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
    return this.#next(callers, async (signal) => {
      const result = await this.#send(turn, signal, ({ transfer, ...wired }) =>
        this.#worker.call("prompt", { session: this.#id, ...wired, options: rest }, onDelta, signal, transfer),
      );
      this.#usage = result.usage.promptTokens + result.usage.completionTokens;
      return result;
    });
  }

  /** Runs when everything before has settled. */
  #next<T>(callers: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = callers ? AbortSignal.any([callers, this.#destroyed.signal]) : this.#destroyed.signal;
    const result = this.#last.then(() => run(signal));
    this.#last = result.catch(() => {});
    return result;
  }

  /** Brings messages to the worker, with those that the session begins with if it does not have them yet. */
  async #send<T>(turn: Message[], signal: AbortSignal, call: (wired: Wired) => Promise<T>): Promise<T> {
    const { release, ...wired } = await this.#wired([...this.#before, ...turn], signal);
    try {
      const result = await call(wired);
      this.#before = [];
      return result;
    } finally {
      release();
    }
  }

  /** As `wire`. A picture that never comes must not keep an abort, or a model that was destroyed, from settling the call. */
  async #wired(messages: Message[], signal: AbortSignal): ReturnType<typeof wire> {
    const wiring = wire(messages);
    if (!hasMedia(messages)) return wiring;
    const over = new AbortController();
    const ended = new Promise<never>((_, reject) => {
      const abort = () => reject(aborted("this was aborted while pictures and videos were read"));
      if (signal.aborted) abort();
      signal.addEventListener("abort", abort, { signal: over.signal });
      this.#worker.onClosed(reject, over.signal);
    });
    try {
      return await Promise.race([wiring, ended]);
    } catch (error) {
      wiring.then(discard, () => {});
      throw error;
    } finally {
      over.abort();
    }
  }
}

/** Gives back what would have gone to the worker. */
function discard({ release, transfer }: Awaited<ReturnType<typeof wire>>): void {
  for (const moved of transfer) if (moved instanceof VideoFrame) moved.close();
  void release();
}

/** Whether anything has to be fetched or read before the messages can be sent. */
function hasMedia(messages: Message[]): boolean {
  return messages.some(({ content }) => typeof content !== "string" && content.some(({ type }) => type !== "text"));
}

type Wired = Omit<Awaited<ReturnType<typeof wire>>, "release">;
