// A conversation, as the page sees it. The worker holds its tokens.
/// <reference lib="esnext.disposable" preserve="true" />

import type { PromptOptions } from "../protocol.js";
import { aborted } from "../shared/abort.js";
import type { AppendOptions, Delta, GenerateOptions, Message, Plan, Result, Stream, Tool } from "../types.js";
import { wireConstraint, withParsed } from "./constraint.js";
import type { WorkerLink } from "./link.js";
import { streamed } from "./stream.js";
import { take, type Taken, wire } from "./wire.js";

/** A conversation. Its calls run one after another, in the order in which they were made. */
export class Session {
  /** The largest number of tokens in the conversation, pictures and answers included. */
  readonly contextWindow: number;
  readonly #worker: WorkerLink;
  readonly #id: number;
  readonly #destroyed = new AbortController();
  readonly #tools: Tool[];
  /** The messages of `SessionOptions`. They are sent to the worker with the first prompt. */
  #before: Message[];
  #usage: number;
  /** Settles when the last call has. Each call waits for the call before it. */
  #last: Promise<unknown> = Promise.resolve();

  /** @internal `usage`: how many tokens the conversation already has. */
  constructor(worker: WorkerLink, id: number, begin: Beginning, usage = 0) {
    this.#worker = worker;
    this.#id = id;
    this.#before = begin.messages;
    this.#tools = begin.tools;
    this.contextWindow = begin.contextWindow;
    this.#usage = usage;
  }

  /**
   * The number of tokens in the conversation after the last settled call. A call that failed does not change it. The
   * messages that a session begins with are counted only after the first `prompt` or `append`.
   */
  get contextUsage(): number {
    return this.#usage;
  }

  /** Adds a message to the conversation and answers it. */
  prompt(input: string | Message[], options: GenerateOptions = {}): Promise<Result> {
    return this.#prompt(input, options, () => {});
  }

  /** Like `prompt`, but the text can be read while it is generated. Leaving the loop early ends the answer. */
  promptStreaming(input: string | Message[], options: GenerateOptions = {}): Stream {
    return this.#streaming(input, options);
  }

  /**
   * Like `promptStreaming`, but the messages and tools replace the whole conversation so far.
   * @internal
   */
  replacing(messages: Taken[], tools: Tool[], options: GenerateOptions = {}): Stream {
    return this.#streaming(messages, options, { replace: true, ...(tools.length > 0 && { tools }) });
  }

  #streaming(input: string | (Message | Taken)[], options: GenerateOptions, how?: Replacing): Stream {
    return streamed(options.signal, (signal, onDelta) => this.#prompt(input, { ...options, signal }, onDelta, how));
  }

  /**
   * What `prompt` with the same arguments would need, with warnings about its pictures. Nothing is encoded, and the
   * conversation does not change. As with `prompt`, the frames of videos are read, and `VideoFrame`s are closed.
   */
  plan(input: string | Message[], { signal, ...rest }: GenerateOptions = {}): Promise<Plan> {
    const turn = take(input);
    return this.#next(signal, (signal) =>
      this.#send([...this.#before, ...turn], signal, ({ transfer, ...turn }) =>
        this.#worker.call("plan", { session: this.#id, ...turn, options: this.#options(rest) }, undefined, signal, transfer),
      ),
    );
  }

  /**
   * Adds messages to the conversation and processes them ahead of the next prompt, so that its answer begins sooner.
   * Pictures and videos are encoded; nothing is answered. The messages of one turn may be added in several calls: two user
   * messages in a row have the same effect as in one list.
   *
   * If the call is aborted, it rejects with code "aborted", and the conversation is as it was before.
   */
  append(messages: Message[], { signal }: AppendOptions = {}): Promise<void> {
    const added = take(messages);
    return this.#next(signal, async (signal) => {
      this.#usage = await this.#send([...this.#before, ...added], signal, ({ transfer, ...turn }) =>
        this.#worker.call("append", { session: this.#id, ...turn, options: this.#options({}) }, undefined, signal, transfer),
      );
      this.#before = [];
    });
  }

  /**
   * Makes a second conversation with the same content, once pending calls have settled. The two share the memory of what
   * they have in common, also on the device.
   */
  clone(): Promise<Session> {
    return this.#next(undefined, async () => {
      const id = await this.#worker.call("clone", { session: this.#id });
      const begin = { messages: this.#before, tools: this.#tools, contextWindow: this.contextWindow };
      return new Session(this.#worker, id, begin, this.#usage);
    });
  }

  /** Forgets the conversation and frees its memory. An answer that is being generated ends. */
  destroy(): void {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort();
    this.#last.then(() => this.#worker.call("release", { session: this.#id })).catch(() => {});
  }

  /** The same as `destroy()`, for `using`. */
  [Symbol.dispose](): void {
    this.destroy();
  }

  #prompt(
    input: string | (Message | Taken)[],
    options: GenerateOptions,
    onDelta: (delta: Delta) => void,
    how: Partial<Replacing> = {},
  ): Promise<Result> {
    const { signal: callers, ...rest } = options;
    const turn = take(input);
    return this.#next(callers, async (signal) => {
      const all = how.replace ? turn : [...this.#before, ...turn];
      const result = await this.#send(all, signal, ({ transfer, ...turn }) => {
        const args = { session: this.#id, ...turn, options: { ...this.#options(rest), ...how } };
        return this.#worker.call("prompt", args, onDelta, signal, transfer);
      });
      this.#before = [];
      this.#usage = result.usage.promptTokens + result.usage.completionTokens;
      return withParsed(result, options.responseConstraint);
    });
  }

  /** Runs a call when all earlier calls have settled. */
  #next<T>(callers: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = callers ? AbortSignal.any([callers, this.#destroyed.signal]) : this.#destroyed.signal;
    const result = this.#last.then(() => run(signal));
    // The next call waits for the end of this one, also where its caller no longer does.
    this.#last = result.catch(() => {});
    return this.#worker.hurried(result, signal);
  }

  /** The options that are sent to the worker: the caller's, and the tools of the session. */
  #options({ signal: _, responseConstraint: wished, ...rest }: GenerateOptions): PromptOptions {
    const constraint = wished === undefined ? {} : { responseConstraint: wireConstraint(wished) };
    return { ...rest, ...constraint, ...(this.#tools.length > 0 && { tools: this.#tools }) };
  }

  /** Sends messages to the worker with `call`, and releases what they hold afterwards. */
  async #send<T>(messages: (Message | Taken)[], signal: AbortSignal, call: (wired: Wired) => Promise<T>): Promise<T> {
    const { release, ...wired } = await this.#wired(messages, signal);
    try {
      return await call(wired);
    } finally {
      release();
    }
  }

  /** Like `wire`, but ends at once when the call is aborted or the model is destroyed, even if a picture never finishes loading. */
  async #wired(messages: (Message | Taken)[], signal: AbortSignal): ReturnType<typeof wire> {
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

/** Frees what would have been sent to the worker. */
function discard({ release, transfer }: Awaited<ReturnType<typeof wire>>): void {
  for (const moved of transfer) if (moved instanceof VideoFrame) moved.close();
  void release();
}

/** Whether anything has to be fetched or read before the messages can be sent. */
function hasMedia(messages: (Message | Taken)[]): boolean {
  return messages.some(({ content }) => typeof content !== "string" && content.some(({ type }) => type !== "text"));
}

interface Replacing {
  replace: true;
  tools?: Tool[];
}

/** How a conversation begins. */
interface Beginning {
  messages: Message[];
  tools: Tool[];
  contextWindow: number;
}

type Wired = Omit<Awaited<ReturnType<typeof wire>>, "release">;
