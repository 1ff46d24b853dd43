// The surface of the wasm module (src/web.rs) as the worker uses it.

import type { Hasher } from "./download.js";
import type { EngineOptions } from "./protocol.js";
import type { Block, GenerateOptions, Located, MemoryPlan, ModelInfo, Progress, Result, Sizes, VideoEvent } from "./types.js";

/** Rust pulls: it asks for byte ranges of the checkpoint's files, by name. */
export interface Reader {
  /** The file's length, or undefined if there is no such file. */
  size(file: string): Promise<number | undefined>;
  read(file: string, start: number, end: number): Promise<Uint8Array>;
  /** What will be read from now on, in order. */
  expect(reads: { file: string; start: number; end: number }[]): Promise<void>;
  /** Whether reads that jump about are dear. */
  sequential(): boolean;
  /** The file of weights that an earlier load has prepared with the same options, if there is one. */
  prepared(): string | undefined;
  /** Whether prepared weights of this size are wanted; then `keep` gets their bytes, those from 0 on first. */
  keeps(size: number): boolean;
  keep(offset: number, bytes: Uint8Array): void;
}

export interface WasmModule {
  default(options: { module_or_path: URL | string }): Promise<{ memory: WebAssembly.Memory } | undefined>;
  Sha256: new () => Hasher;
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
  info(): Omit<ModelInfo, "adapter" | "cache" | "commit" | "loadMs" | "wasmBytes">;
  session(options: { addVisionId: boolean }): WasmSession;
  locate(text: string, pictures: Sizes[]): Located[];
  document(html: string, picture: Sizes): Block[];
  events(text: string): VideoEvent[];
}

export interface WasmSession {
  prompt(
    messages: string,
    images: Uint8Array[],
    options: Omit<GenerateOptions, "signal">,
    onDelta: (text: string) => void,
    cancelled: () => boolean,
  ): Promise<Result>;
  free(): void;
}
