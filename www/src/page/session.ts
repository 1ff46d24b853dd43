// A conversation, as the page has it.
/// <reference lib="esnext.disposable" preserve="true" />

import type { PromptOptions } from "../protocol.js";
import { aborted } from "../shared/abort.js";
import type { AppendOptions, Delta, GenerateOptions, Message, Plan, Result, Stream, Tool } from "../types.js";
import { wireConstraint, withParsed } from "./constraint.js";
import type { WorkerLink } from "./link.js";
import { streamed } from "./stream.js";
import { take, type Taken, wire } from "./wire.js";

/** A conversation. Its prompts run one after the other, in the order in which they were made. */
export class Session {
  /** Tokens that the conversation may have, pictures and answers included. */
  readonly contextWindow: number;
  readonly #worker: WorkerLink;
  readonly #id: number;
  readonly #destroyed = new AbortController();
  readonly #tools: Tool[];
  /** Of `SessionOptions`: they go to the worker with the first prompt. */
  #before: Message[];
  #usage: number;
  /** Calls of one session run in the order they were made, each after the one before has settled. */
  #last: Promise<unknown> = Promise.resolve();

  /** @internal `usage`: tokens that it holds already. */
  constructor(worker: WorkerLink, id: number, begin: Beginning, usage = 0) {
    this.#worker = worker;
    this.#id = id;
    this.#before = begin.messages;
    this.#tools = begin.tools;
    this.contextWindow = begin.contextWindow;
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
    return this.#streaming(input, options);
  }

  /**
   * As `promptStreaming`, and the messages and tools take the place of all that was said before.
   * @internal
   */
  replacing(messages: Taken[], tools: Tool[], options: GenerateOptions = {}): Stream {
    return this.#streaming(messages, options, { replace: true, ...(tools.length > 0 && { tools }) });
  }

  #streaming(input: string | (Message | Taken)[], options: GenerateOptions, how?: Replacing): Stream {
    return streamed(options.signal, (signal, onDelta) => this.#prompt(input, { ...options, signal }, onDelta, how));
  }

  /**
   * What `prompt` with the same arguments would take, and what may go wrong with its pictures. Nothing is encoded, and the
   * conversation stays as it is; frames of videos are read, and `VideoFrame`s are closed, as there.
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
   * Adds to the conversation and lets the model look at it, so that an answer begins sooner: pictures and videos are encoded,
   * and everything is read. Nothing is answered; the next prompt goes on from here. Messages that belong to one turn may come
   * in several calls: two user messages in a row are what they would be in one list.
   *
   * An aborted call rejects with code "aborted", and the conversation is as it was before.
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
   * Another conversation that has come as far as this one, calls that are pending included. They share memory, on the device
   * too, until they differ, and then what they have in common.
   */
  clone(): Promise<Session> {
    return this.#next(undefined, async () => {
      const id = await this.#worker.call("clone", { session: this.#id });
      const begin = { messages: this.#before, tools: this.#tools, contextWindow: this.contextWindow };
      return new Session(this.#worker, id, begin, this.#usage);
    });
  }

  /** Forgets the conversation and frees its memory. An answer that is being written ends. */
  destroy(): void {
    if (this.#destroyed.signal.aborted) return;
    this.#destroyed.abort();
    this.#last.then(() => this.#worker.call("release", { session: this.#id })).catch(() => {});
  }

  /** `destroy()`, for `using`. */
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

  /** Runs when everything before has settled. */
  #next<T>(callers: AbortSignal | undefined, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const signal = callers ? AbortSignal.any([callers, this.#destroyed.signal]) : this.#destroyed.signal;
    const result = this.#last.then(() => run(signal));
    this.#last = result.catch(() => {});
    return result;
  }

  /** What crosses of a caller's options, with what goes with every prompt. */
  #options({ signal: _, responseConstraint: wished, ...rest }: GenerateOptions): PromptOptions {
    const constraint = wished === undefined ? {} : { responseConstraint: wireConstraint(wished) };
    return { ...rest, ...constraint, ...(this.#tools.length > 0 && { tools: this.#tools }) };
  }

  /** Brings messages to the worker. */
  async #send<T>(messages: (Message | Taken)[], signal: AbortSignal, call: (wired: Wired) => Promise<T>): Promise<T> {
    const { release, ...wired } = await this.#wired(messages, signal);
    try {
      return await call(wired);
    } finally {
      release();
    }
  }

  /** As `wire`. A picture that never comes must not keep an abort, or a model that was destroyed, from settling the call. */
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

/** Gives back what would have gone to the worker. */
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

/** What a conversation begins with. */
interface Beginning {
  messages: Message[];
  tools: Tool[];
  contextWindow: number;
}

type Wired = Omit<Awaited<ReturnType<typeof wire>>, "release">;
