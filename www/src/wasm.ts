// The surface of the wasm module (src/web.rs) as the worker uses it.

import type { EngineOptions } from "./protocol.js";
import type { GenerateOptions, ModelInfo, Progress, Result } from "./types.js";

/** Rust pulls: it asks for byte ranges of the checkpoint's files, by name. */
export interface Reader {
  /** The file's length, or undefined if there is no such file. */
  size(file: string): Promise<number | undefined>;
  read(file: string, start: number, end: number): Promise<Uint8Array>;
}

export interface WasmModule {
  default(options: { module_or_path: URL | string }): Promise<unknown>;
  Engine: {
    load(
      reader: Reader,
      options: EngineOptions,
      onProgress: (progress: Progress) => void,
    ): Promise<WasmEngine>;
  };
}

export interface WasmEngine {
  info(): Omit<ModelInfo, "adapter" | "loadMs">;
  session(options: { addVisionId: boolean }): WasmSession;
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
