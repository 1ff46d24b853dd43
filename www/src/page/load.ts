// Loads a model: finds out where its files are, starts the worker and has it load them.

import { isRepoName, repoId } from "../checkpoint/hub.js";
import { FanlightError } from "../errors.js";
import type { LoadArgs, Place } from "../protocol.js";
import { aborted } from "../shared/abort.js";
import { shown } from "../shared/address.js";
import { requireSecure } from "../shared/support.js";
import type { LoadOptions, MemoryPlan } from "../types.js";
import { WorkerLink } from "./link.js";
import { Model } from "./model.js";
import { portable } from "./script.js";

/**
 * Loads a checkpoint. `model` can be:
 *
 * - `"ORG/NAME"`, a repository on the Hub (see the options `revision`, `endpoint` and `token`);
 * - the address of a folder in Hugging Face layout, or of a `.gguf` file: a `URL`, or a string that has a scheme, starts with
 *   `/` or `.`, or ends with `/` or `.gguf`;
 * - files that a person has picked: a folder (`<input type="file" webkitdirectory>`), or a `.gguf` file with its mmproj file;
 * - the handle of a folder, from `showDirectoryPicker()` or in the origin's private file system;
 * - an object with the address of each file (`{ "config.json": "https://…", "model.safetensors": "https://…?signature=…" }`), for
 *   files that are not in one folder under their own names: files with signed addresses, or files that a bundler has
 *   renamed. `screenReader` of `fanlight/screen-reader` is such an object.
 *
 * ```ts
 * const model = await load("Qwen/Qwen2.5-VL-3B-Instruct", { weights: { text: "q4" } });
 * const session = await model.session();
 * for await (const { text } of session.promptStreaming("What is in this picture?")) print(text);
 * ```
 */
export async function load(model: ModelSource, options: LoadOptions = {}): Promise<Model> {
  return withWorker(options, async (worker) => {
    const args = await loadArgs(model, options);
    // Some browsers ask the person for permission, so persistence is requested only for models from the Hub. Loading does not wait
    // for the answer, which is in `info.cache`.
    if (args.cache !== "none" && args.place.kind === "hub") navigator.storage?.persist?.().catch(() => {});
    return [new Model(worker, await worker.call("load", args, options.onProgress)), "keep"];
  });
}

/**
 * How much memory `load` with the same arguments would need on this device. Reads only the small files and the headers of the
 * large ones, and keeps nothing on the device.
 */
export async function estimate(model: ModelSource, options: LoadOptions = {}): Promise<MemoryPlan> {
  return withWorker(options, async (worker) => {
    return [await worker.call("estimate", await loadArgs(model, options), options.onProgress), "close"];
  });
}

/** Starts a worker and calls `use` with it. The worker is closed if that fails or is aborted, or if `use` says "close". */
async function withWorker<T>(
  { signal, worker: make }: LoadOptions,
  use: (worker: WorkerLink) => Promise<[T, "keep" | "close"]>,
): Promise<T> {
  if (signal?.aborted) throw aborted("loading was aborted");
  requireSecure();
  const worker = new WorkerLink(make);
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

/** The arguments of the worker's call `load`, from the caller's options. */
export async function loadArgs(model: ModelSource, options: LoadOptions): Promise<LoadArgs> {
  const { onProgress: _, signal: __, worker: ___, wasm, weights, revision, endpoint, token, ...rest } = options;
  const { cache = "opfs", timeoutMs = 30_000, ...engine } = rest;
  const { place, gguf } = placeOf(model, { revision, endpoint, token });
  const { deviceMemory = 8 } = navigator as { deviceMemory?: number };
  const memory = engine.memory ?? (weights === "auto" ? deviceMemory * 2 ** 29 : undefined);
  const wanted = { ...engine, memory, gguf: engine.gguf ?? gguf, weights: notation(weights) };
  return { place, cache, timeoutMs, options: wanted, ...(wasm !== undefined && { wasm: await portable(wasm) }) };
}

/** Where a checkpoint can be loaded from; see `load`. */
export type ModelSource =
  | string
  | URL
  | FileList
  | File[]
  | FileSystemDirectoryHandle
  | Readonly<Record<string, string | URL>>;

type HubOptions = Record<"revision" | "endpoint" | "token", string | undefined>;

function placeOf(model: ModelSource, hub: HubOptions): { place: Place; gguf?: string | undefined } {
  // Some browsers do not have this class.
  if (typeof FileSystemDirectoryHandle !== "undefined" && model instanceof FileSystemDirectoryHandle) return { place: { kind: "folder", folder: model } };
  if (model instanceof FileList || Array.isArray(model)) return { place: { kind: "files", files: [...model] } };
  if (typeof model === "string" && isRepoName(model) && !model.endsWith(".gguf")) {
    return { place: { kind: "hub", id: repoId(model, hub.revision, hub.endpoint), token: hub.token } };
  }
  if (typeof model !== "string" && !(model instanceof URL)) {
    const files = Object.entries(model as Record<string, string | URL>);
    if (files.length === 0) throw new FanlightError("bad_request", "the object with the model's files is empty", "Give the address of each file.");
    return { place: { kind: "listed", files: Object.fromEntries(files.map(([name, url]) => [name, absolute(url).href])) } };
  }
  const base = absolute(model);
  // A data: or blob: address is one file, so there is no folder at it.
  if (/^(data|blob|javascript|about):$/.test(base.protocol)) {
    throw new FanlightError("bad_request", `"${shown(base)}" is not the address of a folder or of a .gguf file`, "Give the files by name: { \"config.json\": address, … }.");
  }
  const [, folder, gguf] = /^(.*\/)([^/]+\.gguf)$/.exec(base.pathname) ?? [];
  if (folder !== undefined) base.pathname = folder;
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return { place: { kind: "url", base: base.href }, gguf };
}

function absolute(url: string | URL): URL {
  try {
    return new URL(url, document.baseURI);
  } catch {
    throw new FanlightError("bad_request", `"${shown(url)}" is not a valid address of a model or of its files`);
  }
}

/** Weight formats as the engine writes them: one word, or `text=q4,vision=keep`. */
function notation(weights: LoadOptions["weights"]): string | undefined {
  if (weights === undefined || typeof weights === "string") return weights;
  const named = Object.entries(weights).filter(([, format]) => format !== undefined);
  return named.length > 0 ? named.map(([part, format]) => `${part}=${format}`).join(",") : undefined;
}
