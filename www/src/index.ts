// The package: `support`, `load`, and what they give. The engine runs in a worker; nothing here blocks the page.

import { type ErrorFields, FanlightError } from "./errors.js";
import { isRepoName, repoId } from "./hub.js";
import { imageBytes } from "./media.js";
import type { Call, Calls, FromWorker, ToWorker, WireMessage, WireVideo } from "./protocol.js";
import type { Place } from "./source.js";
import type {
  Block,
  Delta,
  GenerateOptions,
  LoadOptions,
  Located,
  MemoryPlan,
  Message,
  ModelInfo,
  Part,
  Result,
  SessionOptions,
  Sizes,
  VideoEvent,
} from "./types.js";
import { outgoing, type Outgoing, videoOptions } from "./video.js";

export { type ErrorCode, FanlightError } from "./errors.js";
export { models } from "./models.js";
export { support } from "./support.js";
export type * from "./types.js";

/**
 * Loads a checkpoint:
 *
 * - `"ORG/NAME"`, a repository on the Hub (`revision`, `endpoint`, `token`);
 * - the address of a folder in Hugging Face layout, or of a `.gguf` file: a `URL`, or a string with a scheme, with a
 *   `/` or `.` at its beginning, or with a `/` or `.gguf` at its end;
 * - files that a person picked: a folder (`<input type="file" webkitdirectory>`) or a `.gguf` with its mmproj;
 * - a folder's handle, from `showDirectoryPicker()` or in the origin's private file system.
 *
 * ```ts
 * const model = await load("Qwen/Qwen2.5-VL-3B-Instruct", { weights: { text: "q4" } });
 * const session = await model.session();
 * for await (const { text } of session.promptStreaming("What is in this picture?")) print(text);
 * ```
 */
export async function load(model: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return withWorker(options, async (worker) => {
    const args = loadArgs(model, options);
    // The browser may ask the person, so it is asked for what is large; loading does not wait, `info.cache` has the answer.
    if (args.cache !== "none" && args.place.kind === "hub") navigator.storage?.persist?.().catch(() => {});
    return [new Model(worker, await worker.call("load", args, options.onProgress)), "keep"];
  });
}

/**
 * What `load` with the same arguments would take of this device. Reads the small files and the headers of the others, and
 * keeps nothing on the device.
 */
export async function estimate(model: ModelSource, options: LoadOptions = {}): Promise<MemoryPlan> {
  return withWorker(options, async (worker) => {
    return [await worker.call("estimate", loadArgs(model, options), options.onProgress), "close"];
  });
}

/** Starts a worker for one call. It ends when the call fails or is aborted, or is of no more use. */
async function withWorker<T>(
  { signal }: LoadOptions,
  use: (worker: WorkerLink) => Promise<[T, "keep" | "close"]>,
): Promise<T> {
  if (signal?.aborted) throw aborted("loading was aborted");
  const worker = new WorkerLink();
  const stop = () => worker.close(aborted("loading was aborted"));
  signal?.addEventListener("abort", stop);
  try {
    const [result, then] = await use(worker);
    if (then === "close") worker.close(aborted("done"));
    return result;
  } catch (error) {
    worker.close(aborted("the model could not be loaded"));
    throw error;
  } finally {
    signal?.removeEventListener("abort", stop);
  }
}

/** What the worker needs of the caller's options. */
function loadArgs(model: ModelSource, options: LoadOptions): Calls["load"]["args"] {
  const { onProgress: _, signal: __, weights, revision, endpoint, token, cache = "opfs", timeoutMs = 30_000, ...rest } = options;
  const { place, gguf } = placeOf(model, { revision, endpoint, token });
  const { deviceMemory = 8 } = navigator as { deviceMemory?: number };
  const memory = rest.memory ?? (weights === "auto" ? deviceMemory * 2 ** 29 : undefined);
  return { place, cache, timeoutMs, options: { ...rest, memory, gguf: rest.gguf ?? gguf, weights: notation(weights) } };
}

/** What `load` takes a checkpoint from. */
export type ModelSource = string | URL | FileList | File[] | FileSystemDirectoryHandle;

type HubOptions = Record<"revision" | "endpoint" | "token", string | undefined>;

function placeOf(model: ModelSource, hub: HubOptions): { place: Place; gguf?: string | undefined } {
  if (model instanceof FileSystemDirectoryHandle) return { place: { kind: "folder", folder: model } };
  if (typeof model !== "string" && !(model instanceof URL)) return { place: { kind: "files", files: [...model] } };
  if (typeof model === "string" && isRepoName(model) && !model.endsWith(".gguf")) {
    return { place: { kind: "hub", id: repoId(model, hub.revision, hub.endpoint), token: hub.token } };
  }
  const base = new URL(model, document.baseURI);
  const [, folder, gguf] = /^(.*\/)([^/]+\.gguf)$/.exec(base.pathname) ?? [];
  if (folder !== undefined) base.pathname = folder;
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return { place: { kind: "url", base: base.href }, gguf };
}

/** The engine's notation of weight formats: one word, or `text=q4,vision=keep`. */
function notation(weights: LoadOptions["weights"]): string | undefined {
  if (weights === undefined || typeof weights === "string") return weights;
  const named = Object.entries(weights).filter(([, format]) => format !== undefined);
  return named.length > 0 ? named.map(([part, format]) => `${part}=${format}`).join(",") : undefined;
}

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
    const turn: Message[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
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

/** Messages as they cross to the worker: pictures become encoded bytes beside them, videos what the worker can take. */
async function wire(messages: Message[]) {
  const images: Promise<Uint8Array>[] = [];
  const videos: Promise<Outgoing>[] = [];
  const wired = messages.map(({ role, content }): WireMessage => {
    if (typeof content === "string") return { role, content };
    const parts = content.map((part: Part) => {
      if (part.type === "image") return { ...part, image: images.push(imageBytes(part.image)) - 1 };
      if (part.type === "video") return { ...videoOptions(part), type: part.type, video: videos.push(outgoing(part)) - 1 };
      return part;
    });
    return { role, content: parts };
  });
  const release = async () => {
    for (const video of await Promise.allSettled(videos)) if (video.status === "fulfilled") video.value.release();
  };
  try {
    const [out, bytes] = await Promise.all([Promise.all(videos), Promise.all(images)]);
    return {
      messages: wired,
      images: bytes,
      videos: out.map(({ video }): WireVideo => video),
      transfer: out.flatMap(({ transfer }) => transfer),
      release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Nothing but what can cross to the worker. */
const sizes = ({ original, resized }: Sizes): Sizes => ({ original, resized });

function aborted(message: string): FanlightError {
  return new FanlightError("aborted", message);
}

interface Pending {
  resolve(result: never): void;
  reject(error: FanlightError): void;
  onEvent(event: never): void;
}

/** The page's end of the worker. Once closed, for whatever reason, every call rejects with that reason. */
class WorkerLink {
  readonly closed: Promise<FanlightError>;
  readonly #worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "fanlight" });
  readonly #pending = new Map<number, Pending>();
  readonly #watch = new AbortController();
  #reason: FanlightError | undefined;
  #resolveClosed: (reason: FanlightError) => void = () => {};
  #lastId = 0;

  constructor() {
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    this.#worker.onmessageerror = () => this.close(died("a message from the worker could not be read"));
    this.#worker.onerror = (event) => this.close(died(event.message || "the worker's script could not be loaded"));
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
        const hint = "A VideoFrame can be given once, and not after close().";
        return reject(new FanlightError("bad_request", `this cannot be sent to the worker: ${String(error)}`, hint));
      }
      signal?.addEventListener("abort", abort);
    });
    return settled.finally(() => signal?.removeEventListener("abort", abort));
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
    if ("alive" in message) return this.#waitForDeath(message.alive);
    if ("fatal" in message) return this.close(FanlightError.from(message.fatal));
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if ("event" in message) return pending.onEvent(message.event as never);
    this.#pending.delete(message.id);
    if ("result" in message) pending.resolve(message.result as never);
    else pending.reject(FanlightError.from(message.error satisfies ErrorFields));
  }

  #waitForDeath(lock: string): void {
    const gone = () => this.close(died("the worker is gone"));
    navigator.locks.request(lock, { signal: this.#watch.signal }, gone).catch(() => {});
  }
}

function died(message: string): FanlightError {
  return new FanlightError("internal", message, "Load the model again; reload the page if that fails too.", true);
}
