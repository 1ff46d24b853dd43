// The interface of the wasm module (src/web/), as the worker uses it.

import type { Hasher } from "../checkpoint/hash.js";
import type { Reader } from "../checkpoint/source.js";
import type { Calls, EngineOptions, PromptOptions } from "../protocol.js";
import type {
  Block,
  Delta,
  ImageInfo,
  Located,
  MemoryPlan,
  ModelInfo,
  PixelLimits,
  Plan,
  Progress,
  Result,
  Sizes,
  VideoEvent,
  VideoOptions,
} from "../types.js";

/** What is known of a video before its frames are decoded: the upright size, and when each frame is shown, in seconds. */
export type Track = { width: number; height: number } & ({ times: number[] } | { frames: number; fps: number });

/**
 * How frames are chosen. `everyFrame`: the caller has chosen the frames, and they are reduced only if the context is too
 * short.
 */
export type PlanOptions = VideoOptions & { everyFrame?: boolean };

/** Which frames the model sees, and how large. */
export interface VideoPlan {
  indices: number[];
  /** The times of the frames at `indices`, in seconds. */
  times: number[];
  sampleFps: number;
  width: number;
  height: number;
  tokens: number;
  /** The tokens in the prompt, including the times that some model families have as text. */
  promptTokens: number;
  decisions: string[];
}

/** Sampled frames. Each is resized when it is pushed. */
export interface VideoInput {
  push(rgba: Uint8Array, width: number, height: number, timestamp: number): void;
  /** Adds a frame that is an encoded picture. */
  pushEncoded(bytes: Uint8Array, timestamp: number): void;
  free(): void;
}

export interface WasmModule {
  default(options: { module_or_path: Response | WebAssembly.Module }): Promise<{ memory: WebAssembly.Memory } | undefined>;
  Sha256: new () => Hasher;
  VideoInput: new (plan: VideoPlan) => VideoInput;
  /** The upright size of an encoded picture. */
  imageSize(bytes: Uint8Array): { width: number; height: number };
  /** These three are for a model that runs elsewhere, by its `model_type`. */
  sizesFor(modelType: string, width: number, height: number, limits: PixelLimits): ImageInfo;
  locateFor(modelType: string, text: string, pictures: Sizes[]): Located[];
  documentFor(modelType: string, html: string, picture: Sizes): Block[];
  estimate(reader: Reader, options: EngineOptions): Promise<MemoryPlan>;
  Engine: {
    load(
      reader: Reader,
      options: EngineOptions,
      onProgress: (progress: Progress) => void,
    ): Promise<WasmEngine>;
  };
}

export interface WasmEngine {
  /** Opens another device and loads the same model onto it, in the same formats. Sessions stay. */
  reload(reader: Reader, options: EngineOptions): Promise<void>;
  /** Resolves with the reason when the device is lost. */
  lost(): Promise<string>;
  info(): Omit<ModelInfo, "adapter" | "cache" | "commit" | "loadMs" | "wasmBytes">;
  session(options: Calls["session"]["args"]): WasmSession;
  /** Takes JSON of a `Track` and of `PlanOptions`, with `mostTokens`: how many tokens remain in the context. */
  planVideo(track: string, options: string): VideoPlan;
  locate(text: string, pictures: Sizes[]): Located[];
  document(html: string, picture: Sizes): Block[];
  events(text: string): VideoEvent[];
  /** The constraint in the form that the grammar module reads; undefined if the answer is not constrained. */
  constraint(options: Pick<PromptOptions, "tools" | "toolChoice" | "responseConstraint">): string | undefined;
  /**
   * The tokens of the model: their bytes in one array, where the bytes of each token end, which tokens are control tokens,
   * and which end an answer.
   */
  vocabulary(): { bytes: Uint8Array; ends: Uint32Array; control: Uint8Array; stop: Uint32Array };
}

export interface WasmSession {
  /** How many tokens the texts, calls and pictures of these messages and the tools take in the context. */
  tokens(messages: string, images: Uint8Array[], tools: string): number;
  prompt(
    messages: string,
    images: Uint8Array[],
    videos: VideoInput[],
    options: PromptOptions,
    onDelta: (delta: Delta) => void,
    cancelled: () => boolean,
    constraint?: WasmConstraint,
  ): Promise<Result>;
  /** Uses up the videos: they cannot be passed again. */
  plan(messages: string, images: Uint8Array[], videos: VideoInput[], options: PromptOptions): Omit<Plan, "videos">;
  /**
   * Adds messages and computes what can be computed before an answer. Resolves with the number of tokens in the
   * conversation.
   */
  append(
    messages: string,
    images: Uint8Array[],
    videos: VideoInput[],
    options: PromptOptions,
    cancelled: () => boolean,
  ): Promise<number>;
  /** Continues a `prompt` or `append` that rejected with "device_lost", after the engine has been reloaded. */
  resume(onDelta: (delta: Delta) => void, cancelled: () => boolean): Promise<Result | number>;
  clone(): WasmSession;
  free(): void;
}

/** The interface of the grammar module (grammar/src/web.rs). */
export interface GrammarModule {
  default(options: { module_or_path: Response }): Promise<unknown>;
  Grammar: new (bytes: Uint8Array, ends: Uint32Array, control: Uint8Array, stop: Uint32Array) => WasmGrammar;
}

export interface WasmGrammar {
  constraint(spec: string): WasmConstraint;
}

/** The state of a constraint: which tokens may come next in an answer. */
export interface WasmConstraint {
  /** The allowed tokens: bit `id % 32` of word `id / 32`. */
  mask(): Uint32Array;
  allows(id: number): boolean;
  commit(id: number): void;
  complete(): boolean;
  free(): void;
}
