// What the engine reads a checkpoint through, wherever its files are.

import type { CacheInfo, Keeping, Progress } from "../types.js";
import type { Hasher } from "./hash.js";

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

export interface SourceOptions {
  cache: Keeping;
  /** What prepared weights depend on besides the checkpoint. */
  wish: string;
  /** Whether weights will be read, and not the small files alone. */
  loads: boolean;
  timeoutMs: number;
  sha256: () => Hasher;
  onProgress: (progress: Progress) => void;
}

export interface Source extends Reader {
  /** All names, where they are known. */
  readonly names: string[] | undefined;
  readonly commit?: string | undefined;
  readonly cache: Omit<CacheInfo, "persisted">;
  /** Whether anything is on its way over the network. */
  readonly downloading: boolean;
  /** Waits for what is still being fetched and checked, and notes what is kept. */
  finish(): Promise<void>;
  close(): void;
}
