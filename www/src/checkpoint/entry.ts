// The bytes of one file while it is loaded. If files are stored on the disk, downloaded bytes are written there and read
// back. Otherwise they stay in memory until Rust has read them and they are hashed.

import { type Hasher, hasherFor } from "./hash.js";
import type { Part } from "./http.js";
import { Pieces } from "./pieces.js";
import { type Range, Ranges } from "./ranges.js";
import { type BlobFacts, blobLock, hold, type Store, type Stored, type Writer } from "./store.js";

export interface RemoteFile extends BlobFacts {
  name: string;
  url: URL;
  /** The key under which the file is stored. Absent for a file that may have changed by the next time. */
  key?: string | undefined;
  /** The beginning of the file, if it has been downloaded already. */
  head?: Uint8Array;
  /** Whether the server sends ranges of the file. Absent if that is not known. */
  ranges?: boolean;
}

/** What storing files needs: the store, a hash, and a listener for a full disk. */
export interface Keeper {
  /** Absent if nothing is to be stored. */
  store: Store | undefined;
  sha256: () => Hasher;
  /** Called once for each file that cannot be stored on the disk. */
  onFull: (reason: string) => void;
}

/** A file while it is loaded: which of its bytes are in memory or on the disk, and which are being downloaded. */
export class Entry {
  readonly #keeper: Keeper;
  /** Bytes that can be read now. */
  readonly here = new Ranges();
  /** Bytes that are being downloaded. */
  readonly claimed = new Ranges();
  /** All bytes that have ever been here, for showing progress. */
  readonly seen = new Ranges();
  /** What Rust has said it will read, and has not read yet. Absent before Rust has said anything. */
  expected: Ranges | undefined;
  /** Whether it is decided where the bytes are stored, so that they may be downloaded ahead. */
  ready = false;
  /** How many bytes will be here in the end. */
  total = 0;
  network = 0;
  readonly memory = new Pieces();
  stored: Stored | undefined;
  writer: Writer | undefined;
  /** Bytes that are written, but not yet flushed and recorded. */
  readonly unsafe = new Ranges();
  recorded = 0;
  /** Pending while the file is closed for writing and opened for reading. */
  reopening: Promise<unknown> | undefined;
  /** Releases the lock of the blob. */
  release = (): void => {};
  /** The single request for the whole file, if the server does not send ranges. */
  stream: Part | undefined;
  hash: { hasher: Hasher; at: number; running: boolean } | undefined;
  /** Ranges for which reads are waiting. */
  readonly urgent = new Set<Range>();

  constructor(readonly file: RemoteFile, keeper: Keeper) {
    this.#keeper = keeper;
    this.total = file.size;
    if (file.head) this.keep(0, file.head);
  }

  get facts(): BlobFacts {
    const { size, sha256, sha1, from } = this.file;
    return { size, sha256, sha1, from };
  }

  /** Finds out which bytes are on the disk. */
  async open(): Promise<void> {
    const { store } = this.#keeper;
    if (this.file.key && store) {
      this.stored = await store.blob(this.file.key, this.facts).catch(() => undefined);
      this.arrived(this.stored?.ranges ?? []);
    }
    if (!this.stored?.complete || this.stored.due) this.#startHash();
  }

  /** Begins to hash the file from its start, if there is anything to compare the hash with. */
  #startHash(): void {
    const hasher = hasherFor(this.file, this.#keeper.sha256);
    this.hash = hasher && { hasher, at: 0, running: false };
  }

  /** Stores downloaded bytes: on the disk if the file is open for writing, otherwise in memory. */
  put(at: number, bytes: Uint8Array): void {
    if (!this.#write(at, bytes)) this.keep(at, bytes);
  }

  keep(at: number, bytes: Uint8Array): void {
    this.memory.add(at, bytes);
    this.arrived([[at, at + bytes.length]]);
  }

  /** Notes that these ranges can be read now. */
  arrived(ranges: Iterable<Range>): void {
    for (const [start, end] of ranges) {
      this.here.add(start, end);
      this.seen.add(start, end);
    }
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    await this.reopening;
    const bytes = new Uint8Array(end - start);
    for (const [from, to] of this.memory.copy(start, bytes)) {
      const part = this.writer ? this.writer.read(from, to) : await this.stored?.read(from, to);
      if (part?.length !== to - from) throw new Error(`the disk has no bytes ${from} to ${to} of ${this.file.name}`);
      bytes.set(part, from - start);
    }
    return bytes;
  }

  /** Drops bytes in memory that are no longer needed. */
  settle(): void {
    // Before it is decided where the bytes are stored, all of them may have to be written to the disk.
    if (!this.expected || !this.ready) return;
    for (const [start, end] of [...this.memory.ranges]) {
      const stop = this.hash ? Math.min(end, this.hash.at) : end;
      for (const [from, to] of this.expected.missing(start, Math.max(start, stop))) {
        this.memory.drop(from, to);
        this.here.remove(from, to);
      }
    }
  }

  // ── To the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether the file is to be stored on the disk and is not complete there. */
  get wanted(): boolean {
    return this.#keeper.store !== undefined && Boolean(this.file.key) && !this.stored?.complete;
  }

  /** Waits until no other tab writes the file, and locks it until `shut`. */
  async lock(): Promise<void> {
    this.release = (await hold(blobLock(this.file.key ?? ""))) ?? this.release;
  }

  /** Opens the file for writing, unless another tab has completed it meanwhile. The caller holds the lock. */
  async openWriter(): Promise<void> {
    const { store } = this.#keeper;
    const { key } = this.file;
    if (!store || !key) return;
    try {
      this.stored = await store.blob(key, this.facts);
      if (!this.stored?.complete) this.writer = await store.writer(key, this.facts);
    } catch (error) {
      this.#full(error);
      return;
    }
    this.arrived(this.writer?.ranges ?? this.stored?.ranges ?? []);
    if (!this.writer) {
      if (!this.stored?.due) this.hash = undefined;
      this.release();
      return;
    }
    this.stored = undefined;
    for (const [at, bytes] of this.memory.drain()) this.put(at, bytes);
  }

  /** Flushes and records what was written to the disk, so that it survives if the tab dies. */
  record(): void {
    if (!this.writer || this.unsafe.size === 0) return;
    this.recorded = performance.now();
    try {
      this.writer.record(this.unsafe);
      this.unsafe.remove(0, this.file.size);
    } catch (error) {
      this.#full(error);
    }
  }

  /** Stores a small file that is completely in memory and has been checked. */
  async keepWhole(bytes: Uint8Array): Promise<void> {
    this.hash = undefined;
    const { store, onFull } = this.#keeper;
    const { key, name } = this.file;
    if (!store || !key) return;
    try {
      await navigator.locks.request(blobLock(key), { ifAvailable: true }, async (lock) => {
        if (lock) await store.put(key, this.facts, bytes);
      });
      this.stored = await store.blob(key, this.facts);
      if (this.stored?.complete) this.memory.drain();
    } catch (error) {
      await store.discard(key).catch(() => {});
      onFull(`${name} is not kept: ${String(error)}`);
    }
  }

  /** Marks the file as complete, after its hash was found correct. From now on it is read like any other file. */
  async complete(): Promise<void> {
    this.hash = undefined;
    this.record();
    const { key, size } = this.file;
    if (this.stored?.complete && key) return this.#keeper.store?.checked(key).catch(() => {});
    if (!this.writer || !key) return;
    try {
      if (!this.writer.ranges.covers(0, size)) throw new Error("the disk lacks what the hash has seen");
      this.writer.complete();
      this.reopening = this.#keeper.store?.blob(key, this.facts).then(
        (stored) => (this.stored = stored),
        (error: unknown) => this.#full(error),
      );
      this.shut();
      await this.reopening;
    } catch (error) {
      this.#full(error);
    }
  }

  /** Deletes what is stored, after the hash was found wrong. */
  async discard(): Promise<void> {
    this.writer?.close();
    this.writer = undefined;
    this.memory.drain();
    this.loseDisk();
    const { key } = this.file;
    if (key) await this.#keeper.store?.discard(key).catch(() => {});
    this.release();
  }

  /** After an error of the disk: from now on the file is downloaded into memory. Returns false if it was not on the disk at all. */
  giveUpDisk(error: unknown): boolean {
    if (!this.writer && !this.stored) return false;
    this.#full(error, this.writer !== undefined);
    return true;
  }

  /** Stops using the disk: from now on only bytes in memory can be read. */
  loseDisk(): void {
    const { size } = this.file;
    if (this.stored?.complete) this.#startHash();
    this.stored = undefined;
    this.unsafe.remove(0, size);
    this.here.remove(0, size);
    for (const [start, end] of this.memory.ranges) this.here.add(start, end);
  }

  /** Ends writing and lets other tabs open the file. */
  shut(): void {
    this.record();
    this.writer?.close();
    this.writer = undefined;
    this.release();
  }

  #write(at: number, bytes: Uint8Array): boolean {
    if (!this.writer) return false;
    try {
      this.writer.write(at, bytes);
    } catch (error) {
      this.#full(error);
      return false;
    }
    this.arrived([[at, at + bytes.length]]);
    this.unsafe.add(at, at + bytes.length);
    return true;
  }

  /** Handles a full or failing disk: what was written of the file is deleted, and the rest only passes through memory. */
  #full(error: unknown, written = true): void {
    this.writer?.close();
    this.writer = undefined;
    this.loseDisk();
    const { key } = this.file;
    const gone = key && written ? this.#keeper.store?.discard(key).catch(() => {}) : undefined;
    void Promise.resolve(gone).then(this.release);
    this.#keeper.onFull(`${this.file.name} is not kept: ${String(error)}`);
  }
}
