// The interface through which the engine reads a checkpoint, wherever its files are.

import type { CacheInfo, Keeping, Progress } from "../types.js";
import type { Hasher } from "./hash.js";

/** Rust requests ranges of bytes from the checkpoint's files, by name. */
export interface Reader {
  /** The file's length, or undefined if there is no such file. */
  size(file: string): Promise<number | undefined>;
  read(file: string, start: number, end: number): Promise<Uint8Array>;
  /** Says what will be read from now on, in order. */
  expect(reads: { file: string; start: number; end: number }[]): Promise<void>;
  /** Whether reads that do not follow the order of a file are expensive. */
  sequential(): boolean;
  /** The file with weights that an earlier load prepared with the same options, if there is one. */
  prepared(): string | undefined;
  /** Whether prepared weights of this size are to be stored. If so, `keep` receives their bytes, starting from 0. */
  keeps(size: number): boolean;
  keep(offset: number, bytes: Uint8Array): void;
}

export interface SourceOptions {
  cache: Keeping;
  /** What prepared weights depend on besides the checkpoint. */
  wish: string;
  /** Whether weights will be read, and not only the small files. */
  loads: boolean;
  timeoutMs: number;
  sha256: () => Hasher;
  onProgress: (progress: Progress) => void;
}

export interface Source extends Reader {
  /** The names of all files, if they are known. */
  readonly names: string[] | undefined;
  readonly commit?: string | undefined;
  readonly cache: Omit<CacheInfo, "persisted">;
  /** Whether any download is running. */
  readonly downloading: boolean;
  /** Waits for running downloads and checks, and records what is stored. */
  finish(): Promise<void>;
  close(): void;
}
