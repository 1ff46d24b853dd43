// Where the bytes of one file are while it is loaded. With a disk they go from the network to the file and are read back; without
// one they wait in memory until Rust has read them and they are hashed.

import type { Hasher } from "./hash.js";
import type { Part } from "./http.js";
import { Pieces } from "./pieces.js";
import { type Range, Ranges } from "./ranges.js";
import { type BlobFacts, blobLock, hold, type Store, type Stored, type Writer } from "./store.js";

export interface RemoteFile extends BlobFacts {
  name: string;
  url: URL;
  /** Of git's blob. */
  sha1?: string | undefined;
  /** What it is stored under; nothing for a file that may have changed by the next time. */
  key?: string | undefined;
  /** Bytes that are known already: the beginning. */
  head?: Uint8Array;
  /** Whether its server sends parts of it; not known if absent. */
  ranges?: boolean;
}

/** What keeps files, if anything does. */
export interface Keeper {
  /** Nothing where nothing is kept. */
  store: Store | undefined;
  sha256: () => Hasher;
  /** Called once for each file, when what was to be kept on the disk is not. */
  onFull: (reason: string) => void;
}

/** A file while it is loaded: which of its bytes are here, in memory or on the disk, and which are on their way. */
export class Entry {
  readonly #keeper: Keeper;
  /** What can be read now. */
  readonly here = new Ranges();
  /** What is being fetched. */
  readonly claimed = new Ranges();
  /** All that was ever here, for showing progress. */
  readonly seen = new Ranges();
  /** What Rust has said it will read and has not yet read; nothing before it has said anything. */
  expected: Ranges | undefined;
  /** It is known where its bytes go, so they may be fetched ahead. */
  ready = false;
  /** Bytes that will be here in the end. */
  total = 0;
  network = 0;
  readonly memory = new Pieces();
  stored: Stored | undefined;
  writer: Writer | undefined;
  /** Written and not yet safe. */
  readonly unsafe = new Ranges();
  recorded = 0;
  /** Between writing and reading. */
  reopening: Promise<unknown> | undefined;
  /** Gives the blob's lock back. */
  release = (): void => {};
  /** The one request for all of it, from a server that has no ranges. */
  stream: Part | undefined;
  hash: { hasher: Hasher; at: number; running: boolean } | undefined;
  /** What reads wait for. */
  readonly urgent = new Set<Range>();

  constructor(readonly file: RemoteFile, keeper: Keeper) {
    this.#keeper = keeper;
    this.total = file.size;
    if (file.head) this.keep(0, file.head);
  }

  get facts(): BlobFacts {
    return { size: this.file.size, sha256: this.file.sha256 };
  }

  /** Looks what the disk has of it. */
  async open(): Promise<void> {
    const { store, sha256 } = this.#keeper;
    if (this.file.key && store) {
      this.stored = await store.blob(this.file.key, this.facts).catch(() => undefined);
      this.arrived(this.stored?.ranges ?? []);
    }
    if (!this.stored?.complete && this.file.sha256) this.hash = { hasher: sha256(), at: 0, running: false };
  }

  /** Takes bytes in: to the disk if they go there, else into memory. */
  put(at: number, bytes: Uint8Array): void {
    if (!this.#write(at, bytes)) this.keep(at, bytes);
  }

  keep(at: number, bytes: Uint8Array): void {
    this.memory.add(at, bytes);
    this.arrived([[at, at + bytes.length]]);
  }

  /** These can be read now. */
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

  /** Forgets what waits in memory for nobody. */
  settle(): void {
    // Before it is known where the bytes go, all of them may be wanted there.
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

  /** Whether its bytes are to go to the disk, and are not all there. */
  get wanted(): boolean {
    return this.#keeper.store !== undefined && Boolean(this.file.key) && !this.stored?.complete;
  }

  /** Waits until no other tab writes the file, and keeps them from it until `shut`. */
  async lock(): Promise<void> {
    this.release = (await hold(blobLock(this.file.key ?? ""))) ?? this.release;
  }

  /** Opens the file for writing, unless another tab has fetched it meanwhile. The lock is held. */
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
      this.hash = undefined;
      this.release();
      return;
    }
    this.stored = undefined;
    for (const [at, bytes] of this.memory.drain()) this.put(at, bytes);
  }

  /** Makes what was written to the disk safe, so that it is still there after a tab that dies. */
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

  /** Keeps a small file of which all bytes are in memory and are what they should be. */
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

  /** Its hash is what it should be: what was written is complete, and is read like any other file from now on. */
  async complete(): Promise<void> {
    this.hash = undefined;
    this.record();
    const { key, size } = this.file;
    if (!this.writer || !key) return;
    try {
      if (!this.writer.ranges.covers(0, size)) throw new Error("the disk lacks what the hash has seen");
      this.writer.complete();
      this.reopening = this.#keeper.store?.blob(key, this.facts).then((stored) => (this.stored = stored));
      this.shut();
      await this.reopening;
    } catch (error) {
      this.#full(error);
    }
  }

  /** Its hash is not what it should be: what was written of it goes. */
  async discard(): Promise<void> {
    this.writer?.close();
    this.writer = undefined;
    const { key } = this.file;
    if (key) await this.#keeper.store?.discard(key).catch(() => {});
  }

  /** Only what is in memory can be read from now on. */
  loseDisk(): void {
    const { size, sha256 } = this.file;
    if (this.stored?.complete && sha256) this.hash = { hasher: this.#keeper.sha256(), at: 0, running: false };
    this.stored = undefined;
    this.unsafe.remove(0, size);
    this.here.remove(0, size);
    for (const [start, end] of this.memory.ranges) this.here.add(start, end);
  }

  /** Ends writing and lets other tabs at the file. */
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

  /** The disk takes no more: the rest of the file passes through memory, and what was written of it goes. */
  #full(error: unknown): void {
    this.writer?.close();
    this.writer = undefined;
    this.loseDisk();
    const { key } = this.file;
    const gone = key ? this.#keeper.store?.discard(key).catch(() => {}) : undefined;
    void Promise.resolve(gone).then(this.release);
    this.#keeper.onFull(`${this.file.name} is not kept: ${String(error)}`);
  }
}
