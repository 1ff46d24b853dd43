// Loading a model: what is asked for, how far it is, what it takes, and what was loaded.

import type { AdapterInfo } from "./device.js";
import type { CacheInfo, Keeping } from "./kept.js";
import type { PixelLimits } from "./media.js";

/** What floats become on the device: themselves, or blocks of 32 in 8.5 or 5 bits each. */
export type WeightFormat = "keep" | "q8" | "q4";

/** How keys and values are kept: as they are computed, or in 8 bits with a scale for every 16. */
export type KvCacheFormat = "f32" | "q8";

/** What to load, how it lies on the device, and what is kept. Without any, everything is as the checkpoint has it. */
export interface LoadOptions extends PixelLimits {
  /** Branch, tag or commit of a repository on the Hub; `main` if not given. It is looked up once and pinned for the load. */
  revision?: string;
  /** A server that speaks the Hub's paths, instead of https://huggingface.co. */
  endpoint?: string;
  /** For gated and private repositories. Sent to the endpoint's own origin alone, and never stored. */
  token?: string;
  /**
   * Quantizes f32, f16 and bf16 weights while they are loaded, for a device that cannot hold what the checkpoint stores.
   * A part that is not named keeps its weights; so does everything in a GGUF file that is quantized already.
   */
  weights?: "auto" | WeightFormat | { vision?: WeightFormat; text?: WeightFormat; embeddings?: WeightFormat };
  /**
   * How a session keeps the keys and values of its tokens: "f32" as they are computed, or "q8" in 8 bits with a scale for
   * every 16, in 31 % of the memory. Not given: "f32", unless `weights: "auto"` finds that it has to be "q8".
   */
  kvCache?: KvCacheFormat;
  /**
   * Bytes that the model may take, for `weights: "auto"`, which then lowers formats (those of the weights to 8 bits, the
   * cache's, those of the weights to 4), context and max_pixels, in this order, until all fits. WebGPU does not say how much there is: not given, it is half of `navigator.deviceMemory`, or 4 GiB.
   */
  memory?: number;
  /** The `.gguf` file of a repository or folder that has several. */
  gguf?: string;
  /** The file of the vision tower of a GGUF model, in the same folder. Where files can be listed, the only one is found. */
  mmproj?: string;
  /** Tokens a session may hold, picture and answer included. The checkpoint's own limit if not given. */
  contextLength?: number;
  /**
   * What is kept for next time, in the origin's private file system: the files as they are; or where `weights` are
   * quantized, for a repository on the Hub, only what that makes of them, so that the next start with the same options reads
   * no more than that, and the large files are removed again; or nothing.
   */
  cache?: Keeping;
  /** A connection that brings nothing for this long is tried again: 30 000 ms. */
  timeoutMs?: number;
  /**
   * Makes the worker, where a bundler has to see `new Worker(…)` itself or its script lies elsewhere:
   * `() => new Worker(new URL("fanlight/worker", import.meta.url), { type: "module" })`.
   */
  worker?: () => Worker;
  /** The engine's wasm, where it is not beside the package's own files. A response is used up. */
  wasm?: URL | string | Response | WebAssembly.Module;
  /** How far it is, as it goes. */
  onProgress?: (progress: Progress) => void;
  /** Ends loading: it rejects with code "aborted". What was downloaded is kept and goes on next time. */
  signal?: AbortSignal;
}

/** One file of a download. */
export interface FileProgress {
  /** Its name in the repository. */
  file: string;
  /** Bytes that are there. */
  loaded: number;
  /** Bytes that it has. */
  total: number;
  /** Nothing of it came over the network. */
  fromCache: boolean;
}

/** How far loading is. */
export interface Progress {
  /** Finding out what there is; fetching it; moving what is there to the device; quantizing on that way; preparing kernels. */
  phase: "resolve" | "download" | "upload" | "quantize" | "compile";
  /** Bytes. `total` is 0 while it is unknown, and for "compile", which has none. */
  loaded: number;
  /** Bytes of this phase. */
  total: number;
  /** Nothing of it came over the network. */
  fromCache?: boolean;
  /** What the network brings, smoothed over about a second. */
  bytesPerSecond?: number;
  /** Those that are being fetched, while "download". */
  files?: FileProgress[];
  /** Another tab is fetching a file that this one will read when it is there. */
  waiting?: true;
}

/** What loading would take, known before a weight is fetched. Bytes, all of them. */
export interface MemoryPlan {
  /** The family: "qwen2_5_vl". */
  modelType: string;
  /** How many numbers the model has. */
  parameters: number;
  /** What is read from the files, from the network or not. */
  downloadBytes: number;
  /** On the device. `vision` is absent for a model without eyes. */
  weightBytes: { vision?: number; text?: number; embeddings?: number };
  /** Keys and values of a conversation of `contextLength` tokens. */
  kvBytes: number;
  /** While a picture of `maxPixels` is encoded, and while a prompt is computed: one at a time. */
  activationBytes: { vision: number; prefill: number };
  /** What passes: weights on their way to the device, later uploads and readbacks. */
  stagingBytes: number;
  /** Weights, cache, the larger of the activations, and what passes. */
  totalBytes: number;
  /** The buffer that comes nearest to the device's limit on one. */
  largestBuffer: { name: string; bytes: number; limit: number };
  /** Every buffer keeps to the device's limits, and the total to `memoryBytes` if that is known. */
  fits: boolean;
  /** Why, in words; where it does not fit, with what to lower. */
  reason: string;
  /** Tokens of the longest conversation. */
  contextLength: number;
  /** Pixels of the largest picture; null for a model without eyes. */
  maxPixels: number | null;
  /** What it was held against, if that is known. */
  memoryBytes: number | null;
  /** Formats of floats, by part. */
  weights: { vision: string; text: string; embeddings: string };
  /** How sessions will keep keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
}

/** What was loaded, and onto what. */
export interface ModelInfo {
  /** The family: "qwen2_5_vl". */
  modelType: string;
  /** How many numbers the model has. */
  parameters: number;
  /** Bytes the weights take on the device. */
  weightBytes: number;
  /** Tokens that a session may hold. */
  contextLength: number;
  /** Most pixels of a picture after resizing, where its prompt does not say otherwise. */
  maxPixels: number;
  /** What this checkpoint was trained to be asked for a task, where its `config.json` says so (`task_specific_params`). */
  taskPrompts: Record<string, string>;
  /** Formats of floats: "keep", "q8", "q4" or by part. */
  weights: string;
  /** How sessions keep keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
  /** What it runs on. */
  adapter: AdapterInfo;
  /** The commit that the revision meant, for a repository on the Hub. */
  commit?: string;
  /** What became of the wish to keep it. */
  cache: CacheInfo;
  /** The engine's own memory, at its largest while loading. Weights pass through it and do not stay. */
  wasmBytes: number;
  /** How long loading took. */
  loadMs: number;
}
