// The connection from the page to its worker.

import { type ErrorFields, FanlightError } from "../errors.js";
import type { Call, Calls, FromWorker, ToWorker } from "../protocol.js";
import type { EventInfo, ModelEvent } from "../types.js";
import { notStarted, packageWorker } from "./script.js";

interface Pending {
  resolve(result: never): void;
  reject(error: FanlightError): void;
  onEvent(event: never): void;
}

/**
 * The connection from the page to its worker. Once it is closed, for whatever reason, every call rejects with that reason.
 */
export class WorkerLink {
  readonly closed: Promise<FanlightError>;
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #watch = new AbortController();
  readonly #listeners = new Set<(event: ModelEvent, info: EventInfo) => void>();
  #reason: FanlightError | undefined;
  #resolveClosed: (reason: FanlightError) => void = () => {};
  #lastId = 0;
  /** Whether the worker's script has started and said so. */
  #alive = false;

  /** @param make creates the worker, instead of the package's own function */
  constructor(make?: () => Worker) {
    try {
      this.#worker = (make ?? packageWorker)();
    } catch (error) {
      const hint = "The page's Content-Security-Policy must allow the worker's script in worker-src. If the script has another origin, it must also allow blob:.";
      throw new FanlightError("network", `the worker could not be created: ${String(error)}`, hint);
    }
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    this.#worker.onmessageerror = () => this.close(died("a message from the worker could not be read"));
    this.#worker.onerror = async ({ message }) => {
      const words = message ? `: ${message}` : "";
      this.close(this.#alive ? died(`the worker failed${words}`) : await notStarted(make === undefined, words));
    };
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
    const abort = () => this.#worker.postMessage({ abort: id } satisfies ToWorker);
    const settled = new Promise<Calls[C]["result"]>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onEvent });
      try {
        this.#worker.postMessage({ id, call, args, aborted: signal?.aborted ?? false }, transfer);
      } catch (error) {
        this.#pending.delete(id);
        const hint = "Each VideoFrame can be given only once, and only before close().";
        return reject(new FanlightError("bad_request", `this cannot be sent to the worker: ${String(error)}`, hint));
      }
      signal?.addEventListener("abort", abort);
    });
    return settled.finally(() => signal?.removeEventListener("abort", abort));
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
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(reason);
    this.#pending.clear();
    this.#resolveClosed(reason);
  }

  #receive(message: FromWorker): void {
    if (this.#reason) return;
    if ("alive" in message) {
      this.#alive = true;
      return this.#waitForDeath(message.alive);
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

  #waitForDeath(lock: string): void {
    const gone = () => this.close(died("the worker has ended unexpectedly"));
    navigator.locks.request(lock, { signal: this.#watch.signal }, gone).catch(() => {});
  }
}

function died(message: string): FanlightError {
  return new FanlightError("internal", message, "Load the model again. If that fails too, reload the page.", true);
}
