// The connection from the page to its worker.

import { type ErrorFields, FanlightError } from "../errors.js";
import type { Call, Calls, FromWorker, LoadArgs, ToWorker } from "../protocol.js";
import { aborted } from "../shared/abort.js";
import type { EventInfo, ModelEvent } from "../types.js";
import { notStarted, packageWorker } from "./script.js";

interface Pending {
  resolve(result: never): void;
  reject(error: FanlightError): void;
  onEvent(event: never): void;
  /** For a call that needs no conversation: sends it to the worker that replaces a stuck one, once. */
  again: (() => void) | undefined;
}

/** A call that was aborted is settled after this time, whatever the worker does. */
const GRACE_MS = 1000;
/** How often the worker is asked whether it still answers, while calls are pending. */
const BEAT_MS = 5000;
/**
 * How many questions in a row a worker may leave without an answer. The questions stop while the page is frozen, so a page that was
 * frozen does not end its worker. Without an abort the patience is long, since decoding a large picture takes seconds on a slow machine.
 */
const PATIENCE = { idle: 12, aborted: 2 };

/** How long a worker is waited for. A test sets these to smaller values. */
export const watch = { graceMs: GRACE_MS, beatMs: BEAT_MS };

/**
 * The connection from the page to its worker. Once it is closed, for whatever reason, every call rejects with that reason.
 *
 * A worker that is stuck in wasm answers nothing, not even an abort. It is ended, and another one loads the model again, so that the
 * model can still be used. The conversations that the worker held are lost; calls that need none of them are made again.
 */
export class WorkerLink {
  readonly closed: Promise<FanlightError>;
  readonly #make: () => Worker;
  readonly #own: boolean;
  #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #watch = new AbortController();
  readonly #listeners = new Set<(event: ModelEvent, info: EventInfo) => void>();
  #reason: FanlightError | undefined;
  #resolveClosed: (reason: FanlightError) => void = () => {};
  #lastId = 0;
  /** Whether the worker's script has started and said so. */
  #alive = false;
  /** Whether a model is to be loaded, and how it was; absent before it was. */
  #begun = false;
  #loaded: LoadArgs | undefined;
  /** Asks the worker whether it still answers, while calls are pending. */
  #beat: ReturnType<typeof setInterval> | undefined;
  /** How many questions have not been answered, and how many may be. */
  #silence = 0;
  #patience = PATIENCE.idle;

  /** @param make creates the worker, instead of the package's own function */
  constructor(make?: () => Worker) {
    this.#own = make === undefined;
    this.#make = make ?? packageWorker;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#worker = this.#start();
  }

  #start(): Worker {
    let worker: Worker;
    try {
      worker = this.#make();
    } catch (error) {
      const hint = "The page's Content-Security-Policy must allow the worker's script in worker-src. If the script has another origin, it must also allow blob:.";
      throw new FanlightError("network", `the worker could not be created: ${String(error)}`, hint);
    }
    const current = () => this.#worker === worker;
    this.#alive = false;
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => current() && this.#receive(data, worker);
    worker.onmessageerror = () => current() && this.close(died("a message from the worker could not be read"));
    worker.onerror = async ({ message }) => {
      if (!current()) return;
      const words = message ? `: ${message}` : "";
      this.close(this.#alive ? died(`the worker failed${words}`) : await notStarted(this.#own, words));
    };
    return worker;
  }

  call<C extends Call>(
    call: C,
    args: Calls[C]["args"],
    onEvent: (event: Calls[C]["event"]) => void = () => {},
    signal?: AbortSignal,
    transfer: Transferable[] = [],
  ): Promise<Calls[C]["result"]> {
    if (this.#reason) return Promise.reject(this.#reason);
    const id = ++this.#lastId;
    if (call === "load" || call === "estimate") this.#begun = true;
    let grace: ReturnType<typeof setTimeout> | undefined;
    const abort = () => {
      this.#worker.postMessage({ abort: id } satisfies ToWorker);
      grace = setTimeout(() => this.#suspect(id), watch.graceMs);
    };
    const settled = new Promise<Calls[C]["result"]>((resolve, reject) => {
      const done = (result: Calls[C]["result"]) => {
        if (call === "load") this.#loaded = args as LoadArgs;
        resolve(result);
      };
      const send = (transfer: Transferable[] = []) =>
        this.#worker.postMessage({ id, call, args, aborted: signal?.aborted ?? false }, transfer);
      this.#pending.set(id, { resolve: done, reject, onEvent, again: "session" in args ? undefined : () => send() });
      try {
        send(transfer);
      } catch (error) {
        this.#pending.delete(id);
        const hint = "Each VideoFrame can be given only once, and only before close().";
        return reject(new FanlightError("bad_request", `this cannot be sent to the worker: ${String(error)}`, hint));
      }
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort);
      this.#beat ??= setInterval(() => this.#ask(), watch.beatMs);
    });
    return settled.finally(() => {
      clearTimeout(grace);
      signal?.removeEventListener("abort", abort);
      if (this.#pending.size > 0) return;
      clearInterval(this.#beat);
      this.#beat = undefined;
    });
  }

  /**
   * The result of a call for the caller: a moment after an abort it rejects with "aborted", even if the worker is busy with the call for
   * longer. What is to happen after the call must wait for the call itself.
   */
  hurried<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const over = new AbortController();
      let grace: ReturnType<typeof setTimeout> | undefined;
      const abort = () => {
        grace = setTimeout(() => reject(aborted("this was aborted, and the worker was busy")), watch.graceMs);
      };
      if (signal.aborted) abort();
      else signal.addEventListener("abort", abort, { signal: over.signal });
      result.then(resolve, reject).finally(() => {
        clearTimeout(grace);
        over.abort();
      });
    });
  }

  /** The worker has not settled a call a moment after its abort: from now on there is less patience with it. */
  #suspect(id: number): void {
    if (!this.#pending.has(id)) return;
    this.#patience = PATIENCE.aborted;
    this.#ask();
  }

  #ask(): void {
    if (this.#reason || !this.#alive) return;
    if (this.#silence >= this.#patience) return this.#restart();
    this.#silence++;
    this.#worker.postMessage({ ping: this.#silence } satisfies ToWorker);
  }

  /** Ends a worker that does not answer. If it had a model, another worker loads it; later calls wait there for their turn. */
  #restart(): void {
    const seconds = Math.round((this.#silence * watch.beatMs) / 1000);
    const message = `the worker did not answer for ${seconds} s and was ended`;
    this.#worker.terminate();
    this.#silence = 0;
    this.#patience = PATIENCE.idle;
    if (this.#begun && !this.#loaded) return this.close(died(message));
    const hint = "Ask again in a new session: the model is being loaded again. Conversations that had begun are lost.";
    const lost = new FanlightError("internal", message, hint, true);
    const waiting = [...this.#pending].filter(([, { again }]) => again);
    const gone = [...this.#pending.values()].filter(({ again }) => !again);
    this.#pending.clear();
    for (const { reject } of gone) reject(lost);
    if (this.#loaded) this.#tell("devicelost", { message });
    try {
      this.#worker = this.#start();
    } catch (error) {
      return this.close(error as FanlightError);
    }
    // A worker without a model reads texts of a model on a server.
    if (this.#loaded) {
      this.call("load", this.#loaded).then(
        () => this.#tell("recovered", { message }),
        (error: unknown) => this.close(error as FanlightError),
      );
    }
    for (const [id, pending] of waiting) {
      this.#pending.set(id, { ...pending, again: undefined });
      pending.again?.();
    }
  }

  /** Calls `tell` for every event of the model, until the returned function is called. */
  onNotice(tell: (event: ModelEvent, info: EventInfo) => void): () => void {
    // A wrapper, so that adding the same function twice makes two listeners.
    const listener: typeof tell = (event, info) => tell(event, info);
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /**
   * Calls `tell` when the connection is closed, unless `signal` is aborted before. (A handler of the promise `closed` could
   * not be removed.)
   */
  onClosed(tell: (reason: FanlightError) => void, signal: AbortSignal): void {
    const reason = () => this.#reason && tell(this.#reason);
    if (this.#reason) reason();
    else this.#watch.signal.addEventListener("abort", reason, { signal });
  }

  close(reason: FanlightError): void {
    if (this.#reason) return;
    this.#reason = reason;
    this.#watch.abort();
    clearInterval(this.#beat);
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    this.#resolveClosed(reason);
  }

  #receive(message: FromWorker, worker: Worker): void {
    if (this.#reason) return;
    // A worker that sends any message is not stuck.
    this.#silence = 0;
    if ("pong" in message) {
      this.#patience = PATIENCE.idle;
      return;
    }
    if ("alive" in message) {
      this.#alive = true;
      return this.#waitForDeath(message.alive, worker);
    }
    if ("fatal" in message) return this.close(FanlightError.from(message.fatal));
    if ("notice" in message) return this.#tell(message.notice, message.info);
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if ("event" in message) return pending.onEvent(message.event as never);
    this.#pending.delete(message.id);
    if ("result" in message) pending.resolve(message.result as never);
    else pending.reject(FanlightError.from(message.error satisfies ErrorFields));
  }

  #tell(event: ModelEvent, info: EventInfo): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event, info);
      } catch (error) {
        // Report an error of a listener in the page; it must not affect other listeners.
        reportError(error);
      }
    }
  }

  #waitForDeath(lock: string, worker: Worker): void {
    const gone = () => {
      if (this.#worker === worker) this.close(died("the worker has ended unexpectedly"));
    };
    // Pages over plain http have no locks. Only `connect` works there.
    navigator.locks?.request(lock, { signal: this.#watch.signal }, gone).catch(() => {});
  }
}

function died(message: string): FanlightError {
  return new FanlightError("internal", message, "Load the model again. If that fails too, reload the page.", true);
}
