// Loading a model: the options, the progress, the memory it needs, and what was loaded.

import type { AdapterInfo } from "./device.js";
import type { CacheInfo, Keeping } from "./kept.js";
import type { PixelLimits } from "./media.js";

/**
 * How floating-point weights are stored on the device: "keep" leaves them as they are, "q8" and "q4" quantize them in
 * blocks of 32, with 8.5 or 5 bits per weight.
 */
export type WeightFormat = "keep" | "q8" | "q4";

/** How keys and values are stored: "f32" as they are computed, or "q8" in 8 bits with one scale for every 16. */
export type KvCacheFormat = "f32" | "q8";

/**
 * How a model is loaded, how it is stored on the device, and what is kept for next time. By default, everything is as the
 * checkpoint has it.
 */
export interface LoadOptions extends PixelLimits {
  /**
   * Branch, tag or commit of a repository on the Hub; `main` by default. It is resolved to a commit once, and all files are
   * read from that commit.
   */
  revision?: string;
  /** A server with the same paths as the Hub, to use instead of https://huggingface.co. */
  endpoint?: string;
  /**
   * The access token for gated and private repositories. It is sent only to the origin of the endpoint and never stored.
   */
  token?: string;
  /**
   * Quantizes f32, f16 and bf16 weights while they are loaded, for a device that has no room for the weights as the
   * checkpoint stores them. Parts that are not named keep their weights. Weights that are already quantized in a GGUF file
   * are never changed.
   */
  weights?: "auto" | WeightFormat | { vision?: WeightFormat; text?: WeightFormat; embeddings?: WeightFormat };
  /**
   * How a session stores the keys and values of its tokens: "f32" as they are computed, or "q8" in 8 bits with one scale
   * for every 16, which takes 31 % of the memory. Default: "f32"; with `weights: "auto"`, "q8" if the model would not fit
   * otherwise.
   */
  kvCache?: KvCacheFormat;
  /**
   * How many bytes the model may take, for `weights: "auto"`. That setting makes the model smaller until it fits, in this
   * order: weights to 8 bits, the key-value cache to 8 bits, weights to 4 bits, then a shorter context, then smaller
   * pictures. WebGPU does not report the memory of the device; the default is half of `navigator.deviceMemory`, or 4 GiB.
   */
  memory?: number;
  /** Which `.gguf` file to load, if the repository or folder has several. */
  gguf?: string;
  /**
   * The file with the vision encoder of a GGUF model, in the same folder. Where files can be listed and there is only one,
   * it is found without this option.
   */
  mmproj?: string;
  /** The largest number of tokens in a session, pictures and answers included. Default: the checkpoint's own limit. */
  contextLength?: number;
  /**
   * What is kept in the origin's private file system for next time. "opfs" keeps the files as they are. "quantized" is for
   * a repository on the Hub that is loaded with quantized `weights`: it keeps only the quantized weights and removes the
   * large original files, so the next load with the same options reads no more than that. "none" keeps nothing. Default:
   * "opfs".
   */
  cache?: Keeping;
  /** A request that receives no data for this long is tried again. Default: 30 000 ms. */
  timeoutMs?: number;
  /**
   * Creates the worker. Needed if a bundler has to see `new Worker(…)` in your own code, or if the worker's script has another address:
   * `() => new Worker(new URL("fanlight/worker", import.meta.url), { type: "module" })`.
   */
  worker?: () => Worker;
  /** The engine's wasm file, if it is not next to the package's own files. A `Response` can be used only once. */
  wasm?: URL | string | Response | WebAssembly.Module;
  /** Called with the progress while the model is loaded. */
  onProgress?: (progress: Progress) => void;
  /**
   * Aborts loading, which then rejects with code "aborted". What was downloaded is kept, and the next load continues from
   * there.
   */
  signal?: AbortSignal;
}

/** The progress of one file of a download. */
export interface FileProgress {
  /** Its name in the repository. */
  file: string;
  /** Bytes that are on this device. */
  loaded: number;
  /** The size of the file in bytes. */
  total: number;
  /** Whether no part of the file was downloaded. */
  fromCache: boolean;
}

/** How far loading has come. */
export interface Progress {
  /**
   * What is being done: "resolve" finds out which files there are; "download" downloads them; "upload" copies weights to
   * the device; "quantize" does so and quantizes them on the way; "compile" prepares the kernels.
   */
  phase: "resolve" | "download" | "upload" | "quantize" | "compile";
  /** Bytes of this phase that are done. */
  loaded: number;
  /** All bytes of this phase. 0 while that is unknown, and always for "compile". */
  total: number;
  /** Whether nothing was downloaded. */
  fromCache?: boolean;
  /** The speed of the download, averaged over about a second. */
  bytesPerSecond?: number;
  /** The files that are being downloaded, in the phase "download". */
  files?: FileProgress[];
  /** Another tab is downloading a file. This tab reads it once it is complete. */
  waiting?: true;
}

/** What loading would need, computed before any weights are downloaded. All sizes are in bytes. */
export interface MemoryPlan {
  /** The model family, for example "qwen2_5_vl". */
  modelType: string;
  /** The number of parameters of the model. */
  parameters: number;
  /** Bytes that are read from the files, whether they are downloaded or on the device already. */
  downloadBytes: number;
  /** The weights on the device, by part. `vision` is absent for a model that takes no pictures. */
  weightBytes: { vision?: number; text?: number; embeddings?: number };
  /** The keys and values of a conversation of `contextLength` tokens. */
  kvBytes: number;
  /**
   * Temporary memory while a picture of `maxPixels` is encoded (`vision`) and while a prompt is computed (`prefill`). The
   * two are never needed at the same time.
   */
  activationBytes: { vision: number; prefill: number };
  /** Temporary buffers for copying: weights to the device while loading, later uploads and readbacks. */
  stagingBytes: number;
  /** Weights, keys and values, the larger of the two activations, and the buffers for copying. */
  totalBytes: number;
  /** The buffer that comes closest to the device's limit for a single buffer. */
  largestBuffer: { name: string; bytes: number; limit: number };
  /** Whether every buffer is within the device's limits, and the total within `memoryBytes` if that is known. */
  fits: boolean;
  /** Why it fits or does not fit, in words. If it does not fit, also what to lower. */
  reason: string;
  /** The largest number of tokens in a conversation. */
  contextLength: number;
  /** Pixels of the largest picture; null for a model that takes no pictures. */
  maxPixels: number | null;
  /** The memory that the plan was compared with, if known. */
  memoryBytes: number | null;
  /** The formats of floating-point weights, by part. */
  weights: { vision: string; text: string; embeddings: string };
  /** How sessions will store keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
}

/** What was loaded, and onto which device. */
export interface ModelInfo {
  /** The model family, for example "qwen2_5_vl". */
  modelType: string;
  /** The number of parameters of the model. */
  parameters: number;
  /** Bytes the weights take on the device. */
  weightBytes: number;
  /** The largest number of tokens in a session. */
  contextLength: number;
  /** The most pixels of a picture after resizing, unless a prompt sets its own limit. */
  maxPixels: number;
  /**
   * The prompts that this checkpoint was trained with for the tasks, if its `config.json` names them
   * (`task_specific_params`).
   */
  taskPrompts: Record<string, string>;
  /** The formats of floating-point weights: "keep", "q8" or "q4", or one for each part. */
  weights: string;
  /** How sessions store keys and values. */
  kvCache: KvCacheFormat;
  /** What "auto" changed and why, one sentence each. */
  decisions: string[];
  /** The graphics adapter on which the model runs. */
  adapter: AdapterInfo;
  /** The commit that the revision resolved to, for a repository on the Hub. */
  commit?: string;
  /** What was kept for next time. */
  cache: CacheInfo;
  /** The engine's own memory, which is largest while loading. Weights only pass through it on their way to the device. */
  wasmBytes: number;
  /** How long loading took, in milliseconds. */
  loadMs: number;
}
