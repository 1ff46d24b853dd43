// The surface of the wasm module (src/web/) as the worker uses it.

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

/** What is known of a video before its frames are decoded: upright pixels, and when each frame is shown, in seconds. */
export type Track = { width: number; height: number } & ({ times: number[] } | { frames: number; fps: number });

/** How to choose; `everyFrame`: somebody has chosen already, and only the context may ask for fewer. */
export type PlanOptions = VideoOptions & { everyFrame?: boolean };

/** Which frames the model sees, and how large. */
export interface VideoPlan {
  indices: number[];
  /** Of the frames at `indices`, in seconds. */
  times: number[];
  sampleFps: number;
  width: number;
  height: number;
  tokens: number;
  /** With the times that some models are told in words. */
  promptTokens: number;
  decisions: string[];
}

/** Sampled frames, which are resized as they come. */
export interface VideoInput {
  push(rgba: Uint8Array, width: number, height: number, timestamp: number): void;
  /** A frame that is an encoded picture. */
  pushEncoded(bytes: Uint8Array, timestamp: number): void;
  free(): void;
}

export interface WasmModule {
  default(options: { module_or_path: Response | WebAssembly.Module }): Promise<{ memory: WebAssembly.Memory } | undefined>;
  Sha256: new () => Hasher;
  VideoInput: new (plan: VideoPlan) => VideoInput;
  /** Of an encoded picture, upright. */
  imageSize(bytes: Uint8Array): { width: number; height: number };
  /** Of a model that runs elsewhere, by its `model_type`. */
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
  /** Opens another device and loads the same from there, in the formats of before. Sessions stay. */
  reload(reader: Reader, options: EngineOptions): Promise<void>;
  /** Resolves with the reason when the device is lost. */
  lost(): Promise<string>;
  info(): Omit<ModelInfo, "adapter" | "cache" | "commit" | "loadMs" | "wasmBytes">;
  session(options: Calls["session"]["args"]): WasmSession;
  /** JSON of a `Track` and of `PlanOptions` with `mostTokens`, what the context leaves. */
  planVideo(track: string, options: string): VideoPlan;
  locate(text: string, pictures: Sizes[]): Located[];
  document(html: string, picture: Sizes): Block[];
  events(text: string): VideoEvent[];
  /** What an answer may be, as the grammar's module reads it; undefined where it may be anything. */
  constraint(options: Pick<PromptOptions, "tools" | "toolChoice" | "responseConstraint">): string | undefined;
  /** The tokens of the model: their bytes end to end, where those of each id end, which stand for themselves, which end an answer. */
  vocabulary(): { bytes: Uint8Array; ends: Uint32Array; control: Uint8Array; stop: Uint32Array };
}

export interface WasmSession {
  /** What the texts, calls and pictures of these messages, and tools, take of the context. */
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
  /** Videos are used up. */
  plan(messages: string, images: Uint8Array[], videos: VideoInput[], options: PromptOptions): Omit<Plan, "videos">;
  /** Adds messages and computes what can be computed before an answer. Resolves with the conversation's tokens. */
  append(
    messages: string,
    images: Uint8Array[],
    videos: VideoInput[],
    options: PromptOptions,
    cancelled: () => boolean,
  ): Promise<number>;
  /** Goes on with a `prompt` or an `append` that rejected with "device_lost", once the engine has been reloaded. */
  resume(onDelta: (delta: Delta) => void, cancelled: () => boolean): Promise<Result | number>;
  clone(): WasmSession;
  free(): void;
}

/** The surface of the grammar's module (grammar/src/web.rs). */
export interface GrammarModule {
  default(options: { module_or_path: Response }): Promise<unknown>;
  Grammar: new (bytes: Uint8Array, ends: Uint32Array, control: Uint8Array, stop: Uint32Array) => WasmGrammar;
}

export interface WasmGrammar {
  constraint(spec: string): WasmConstraint;
}

/** What may come next in one answer. */
export interface WasmConstraint {
  /** Bit `id % 32` of word `id / 32`. */
  mask(): Uint32Array;
  allows(id: number): boolean;
  commit(id: number): void;
  complete(): boolean;
  free(): void;
}
