// A conversation, as the page has it.

import { wireConstraint } from "./constraint.js";
import type { WorkerLink } from "./link.js";
import type { Calls } from "./protocol.js";
import { wire } from "./wire.js";
import type { Delta, GenerateOptions, Message, Plan, ResponseConstraint, Result, Tool } from "./types.js";

/** The pieces of an answer as they come, and all of it at the end. */
export interface Stream extends AsyncIterable<Delta> {
  /** The whole answer, when it is finished. Rejects with what the loop throws. */
  readonly result: Promise<Result>;
}

/** A conversation. Its prompts run one after the other, in the order in which they were made. */
export class Session {
  readonly #worker: WorkerLink;
  readonly #id: number;
  readonly #destroyed = new AbortController();
  readonly #tools: Tool[];
  #before: Message[];
  /** Prompts of one session run in the order they were made, each after the one before has settled. */
  #last: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(worker: WorkerLink, id: number, before: Message[], tools: Tool[]) {
    this.#worker = worker;
    this.#id = id;
    this.#before = before;
    this.#tools = tools;
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
   * As `promptStreaming`, and the messages take the place of all that was said before.
   * @internal
   */
  replacing(messages: Message[], options: GenerateOptions = {}): Stream {
    return this.#streaming(messages, options, { replace: true });
  }

  #streaming(input: string | Message[], options: GenerateOptions, how?: { replace: true }): Stream {
    const stop = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
    const queue: Delta[] = [];
    let wake = () => {};
    let open = true;
    const result = this.#prompt(input, { ...options, signal }, (delta) => {
      queue.push(delta);
      wake();
    }, how);
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
   * What `prompt` with the same arguments would take, and what may go wrong with its pictures. Nothing is encoded, and the
   * conversation stays as it is; frames of videos are read, and `VideoFrame`s are closed, as there.
   */
  plan(input: string | Message[], options: GenerateOptions = {}): Promise<Plan> {
    return this.#last.then(() => this.#send("plan", input, options, () => {}));
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
    input: string | Message[],
    options: GenerateOptions,
    onDelta: (delta: Delta) => void,
    how?: { replace: true },
  ): Promise<Result> {
    const result = this.#last.then(async () => {
      const result = await this.#send("prompt", input, options, onDelta, how);
      this.#before = [];
      return result.finishReason === "stop" && isSchema(options.responseConstraint) ? withParsed(result) : result;
    });
    this.#last = result.catch(() => {});
    return result;
  }

  async #send<C extends "prompt" | "plan">(
    call: C,
    input: string | Message[],
    options: GenerateOptions,
    onDelta: (delta: Calls[C]["event"]) => void,
    how: { replace?: true } = {},
  ): Promise<Calls[C]["result"]> {
    const { signal: callers, responseConstraint: wished, ...rest } = options;
    const constraint = wished === undefined ? {} : { responseConstraint: wireConstraint(wished) };
    const signal = callers ? AbortSignal.any([callers, this.#destroyed.signal]) : this.#destroyed.signal;
    const turn: Message[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
    const { transfer, release, ...wired } = await wire(how.replace ? turn : [...this.#before, ...turn]);
    try {
      const tools = this.#tools.length > 0 ? { tools: this.#tools } : {};
      const args = { session: this.#id, ...wired, options: { ...rest, ...constraint, ...tools, ...how } };
      return await this.#worker.call(call, args, onDelta, signal, transfer);
    } finally {
      release();
    }
  }
}

function isSchema(constraint?: ResponseConstraint): boolean {
  return constraint !== undefined && "jsonSchema" in wireConstraint(constraint);
}

/** What goes on with a message may be no JSON by itself; then there is nothing to add. */
function withParsed(result: Result): Result {
  try {
    return { ...result, parsed: JSON.parse(result.text) as unknown };
  } catch {
    return result;
  }
}
