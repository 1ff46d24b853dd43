// The files of one checkpoint while it is loaded. What Rust asks for comes from the disk where it is there, else from the
// network; once Rust has said what it will read (`expect`), that is fetched ahead, several requests at a time.
//
// With a disk, bytes go from the network to the file and are read back, so nothing piles up in memory. Without one they
// wait in memory until Rust has read them and they are hashed, and no more than WINDOW of them are fetched ahead.

import { FanlightError } from "../errors.js";
import type { Progress } from "../types.js";
import type { Http, Part } from "./http.js";
import { type Range, Ranges } from "./ranges.js";
import { type BlobFacts, blobLock, hold, type Store, type Stored, type Writer } from "./store.js";

const CONNECTIONS = 4;
/** One request on the way to the disk, and one on the way to memory. */
const SEGMENT = { disk: 16 << 20, memory: 4 << 20 };
/** Most bytes that wait in memory. */
const WINDOW = 32 << 20;
/** A read of a file's beginning brings this much, because more of it will be asked for. */
const AHEAD = 256 << 10;
/** How long written bytes may wait to become safe. */
const RECORD_MS = 250;
const HASH_STEP = 4 << 20;
/** Files up to this size that are read whole are checked before Rust sees them. */
const SMALL = 64 << 20;
const EVENT_MS = 100;

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

/** A running sha256. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** In hexadecimal digits. */
  finish(): string | Promise<string>;
}

export interface DownloadOptions {
  http: Http;
  /** Nothing where nothing is kept. */
  store: Store | undefined;
  sha256: () => Hasher;
  onProgress: (progress: Progress) => void;
  /** Called once, when what was to be kept on the disk is not. */
  onFull: (reason: string) => void;
}

class Entry {
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

  constructor(readonly file: RemoteFile) {
    this.total = file.size;
    if (file.head) this.keep(0, file.head);
  }

  get facts(): BlobFacts {
    return { size: this.file.size, sha256: this.file.sha256 };
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
}

export class Download {
  readonly #options: DownloadOptions;
  readonly #entries = new Map<string, Entry>();
  /** What Rust will read, in its order. */
  #queue: { entry: Entry; start: number; end: number }[] = [];
  #active = 0;
  #failed: FanlightError | undefined;
  #closed = false;
  #changed = deferred();
  #lastEvent = { time: 0, bytes: 0, rate: 0 };

  constructor(options: DownloadOptions) {
    this.#options = options;
  }

  /** Takes a file in; what the disk has of it counts. */
  async open(file: RemoteFile): Promise<void> {
    const entry = new Entry(file);
    this.#entries.set(file.name, entry);
    if (file.key && this.#options.store) {
      entry.stored = await this.#options.store.blob(file.key, entry.facts).catch(() => undefined);
      entry.arrived(entry.stored?.ranges ?? []);
    }
    if (!entry.stored?.complete && file.sha256) entry.hash = { hasher: this.#options.sha256(), at: 0, running: false };
  }

  /** The files that were expected: the large ones. */
  get expected(): RemoteFile[] {
    return [...this.#entries.values()].filter(({ expected }) => expected).map(({ file }) => file);
  }

  /** Whether reads that jump about would fetch things twice. */
  get sequential(): boolean {
    return !this.#options.store || [...this.#entries.values()].some(({ file }) => !file.key);
  }

  async read(name: string, start: number, end: number): Promise<Uint8Array> {
    const entry = this.#entry(name);
    const { size } = entry.file;
    if (!(0 <= start && start <= end && end <= size)) {
      throw new FanlightError("bad_model", `${name}: bytes ${start} to ${end} of a file of ${size} were asked for`);
    }
    const whole = start === 0 && end === size && size <= SMALL && !entry.expected;
    for (;;) {
      await this.#until(entry, start, end);
      try {
        const bytes = await entry.read(start, end);
        if (whole && !entry.stored?.complete) await this.#keepSmall(entry, bytes);
        entry.expected?.remove(start, end);
        entry.settle();
        this.#pump();
        return bytes;
      } catch (error) {
        if (this.#failed) throw this.#failed;
        // A file that another tab is writing cannot be read here; the network can.
        if (error instanceof FanlightError || entry.writer || !entry.stored) throw error;
        this.#loseDisk(entry);
      }
    }
  }

  /** Says what will be read, in order. Settles when the files are ready for it: another tab may be fetching them. */
  async expect(reads: { file: string; start: number; end: number }[]): Promise<void> {
    this.#queue = reads.map(({ file, start, end }) => ({ entry: this.#entry(file), start, end }));
    const entries = [...new Set(this.#queue.map(({ entry }) => entry))];
    for (const entry of entries) entry.expected = new Ranges();
    for (const { entry, start, end } of this.#queue) entry.expected?.add(start, end);
    for (const entry of entries) entry.total = entry.hash || entry.stored?.complete ? entry.file.size : (entry.expected?.size ?? 0);
    // One order for all tabs, so that no two wait for each other.
    const key = ({ file }: Entry) => file.key ?? "";
    for (const entry of entries.sort((a, b) => (key(a) < key(b) ? -1 : 1))) {
      await this.#prepare(entry);
      entry.ready = true;
      // Of a short file everything may be here already.
      void this.#hash(entry);
      this.#pump();
    }
    this.#event(true);
  }

  /** Waits until every file that was expected is complete and is what it should be. */
  async finish(): Promise<void> {
    const open = () => [...this.#entries.values()].some((entry) => entry.expected && entry.hash);
    while (open()) {
      if (this.#failed) throw this.#failed;
      this.#pump();
      await this.#changed.promise;
    }
    if (this.#failed) throw this.#failed;
    this.#event(true);
    this.close();
  }

  /** Bytes that came over the network. */
  get networkBytes(): number {
    const entries = [...this.#entries.values()];
    return entries.reduce((total, { network, file }) => total + network + (file.head?.length ?? 0), 0);
  }

  /** Whether anything is still to come from the network. */
  get downloading(): boolean {
    return this.#active > 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const entry of this.#entries.values()) this.#shut(entry);
    this.#change();
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw new FanlightError("not_found", `${name} is not there`, "Check that the checkpoint is complete.");
    return entry;
  }

  async #until(entry: Entry, start: number, end: number): Promise<void> {
    const urgent: Range = [start, entry.expected ? end : Math.min(Math.max(end, start + AHEAD), entry.file.size)];
    try {
      for (;;) {
        if (this.#failed) throw this.#failed;
        if (this.#closed) throw new FanlightError("aborted", "loading was aborted");
        if (entry.here.covers(start, end)) return;
        if (!entry.urgent.has(urgent)) {
          entry.urgent.add(urgent);
          // Whoever holds bytes back because memory is full looks again.
          this.#change();
        }
        this.#pump();
        await this.#changed.promise;
      }
    } finally {
      entry.urgent.delete(urgent);
    }
  }

  // ── Which bytes next ──────────────────────────────────────────────────────────────────────────────────────────────

  #pump(): void {
    while (this.#active < CONNECTIONS && !this.#closed && !this.#failed) {
      const next = this.#next();
      if (!next) return;
      void this.#fetch(next.entry, ...next.range);
    }
  }

  #next(): { entry: Entry; range: Range } | undefined {
    for (const entry of this.#entries.values()) {
      for (const [start, end] of entry.urgent) {
        const range = this.#hole(entry, start, end);
        if (range) return { entry, range };
      }
    }
    // What has been read, or is on the disk, is not looked at again.
    while (this.#queue[0] && done(this.#queue[0])) this.#queue.shift();
    for (const { entry, start, end } of this.#queue) {
      if (!entry.ready) continue;
      // Without a disk a file that is hashed has to come in order, holes included.
      const range =
        entry.hash && !entry.writer
          ? this.#hole(entry, entry.hash.at, entry.file.size)
          : this.#hole(entry, start, end, entry.hash ? undefined : entry.expected);
      if (range) return this.#mayStart(entry) ? { entry, range } : undefined;
    }
    // What nobody reads is fetched for the hash, last.
    for (const entry of this.#entries.values()) {
      const range = entry.ready && entry.hash && this.#hole(entry, entry.hash.at, entry.file.size);
      if (range) return this.#mayStart(entry) ? { entry, range } : undefined;
    }
    return undefined;
  }

  /** The first bytes from `start` to `end`, and of `only`, that are neither here nor on their way. */
  #hole(entry: Entry, start: number, end: number, only?: Ranges): Range | undefined {
    if (entry.stream || entry.stored?.complete) return undefined;
    const known = entry.here.with(entry.claimed);
    for (const [from, to] of only?.missing(start, end) ?? []) known.add(from, to);
    const [hole] = known.missing(start, end);
    if (!hole) return undefined;
    if (entry.file.ranges === false) return [0, entry.file.size];
    if (!entry.writer) return [hole[0], Math.min(hole[1], hole[0] + SEGMENT.memory)];
    // On the disk all of a file that is hashed is wanted, so a request need not end where a read does.
    const [[from, to]] = entry.hash ? (known.missing(hole[0], entry.file.size) as [Range]) : [hole];
    return [from, Math.min(to, from + SEGMENT.disk)];
  }

  #mayStart(entry: Entry): boolean {
    if (entry.writer) return true;
    let held = SEGMENT.memory;
    for (const { memory, claimed, here, writer } of this.#entries.values()) {
      if (writer) continue;
      held += memory.ranges.size;
      for (const [start, end] of claimed) for (const [from, to] of here.missing(start, end)) held += to - from;
    }
    return held <= WINDOW;
  }

  // ── One request ───────────────────────────────────────────────────────────────────────────────────────────────────

  async #fetch(entry: Entry, start: number, end: number): Promise<void> {
    const { name, url, size } = entry.file;
    const part: Part = { url, file: name, start, end, size };
    this.#active++;
    entry.claimed.add(start, end);
    if (entry.file.ranges === false) entry.stream = part;
    const whole = () => {
      if (entry.stream && entry.stream !== part) throw new Superseded();
      entry.stream = part;
      entry.file.ranges = false;
      [part.start, part.end] = [0, size];
      entry.claimed.add(0, size);
    };
    try {
      await this.#options.http.read(part, (at, bytes) => this.#take(entry, part, at, bytes), whole);
    } catch (error) {
      if (!(error instanceof Superseded)) this.#fail(error);
    } finally {
      this.#active--;
      entry.claimed.remove(Math.min(start, part.start), Math.max(end, part.end));
      if (entry.stream === part) entry.stream = undefined;
      this.#record(entry);
      this.#event(this.#active === 0);
      this.#change();
      this.#pump();
    }
  }

  async #take(entry: Entry, part: Part, at: number, bytes: Uint8Array): Promise<void> {
    if (this.#closed || this.#failed) throw new Superseded();
    entry.network += bytes.length;
    const end = at + bytes.length;
    for (const [from, to] of entry.here.missing(at, end)) {
      const piece = bytes.subarray(from - at, to - at);
      if (!this.#toDisk(entry, from, piece)) entry.keep(from, piece);
    }
    if (performance.now() - entry.recorded >= RECORD_MS) this.#record(entry);
    void this.#hash(entry);
    entry.settle();
    this.#event(false);
    this.#change();
    if (entry.stream === part) await this.#room(entry, end);
  }

  /** Holds a stream back while memory is full, unless someone waits for what it brings. */
  async #room(entry: Entry, at: number): Promise<void> {
    const full = () => !entry.writer && entry.expected && entry.memory.ranges.size > WINDOW;
    while (full() && !this.#closed && !this.#failed) {
      const waiting = [...entry.urgent];
      // It is past what is wanted: begin again.
      if (waiting.some(([start, end]) => !entry.here.covers(start, Math.min(end, at)))) throw new Superseded();
      if (waiting.length > 0) return;
      await this.#changed.promise;
    }
  }

  // ── To the disk ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Opens an expected file for writing, unless all of it is there. */
  async #prepare(entry: Entry): Promise<void> {
    const { store } = this.#options;
    const { key } = entry.file;
    if (!store || !key || entry.stored?.complete) return;
    const waiting = setInterval(() => this.#event(true, "wait"), 10 * EVENT_MS);
    entry.release = (await hold(blobLock(key))) ?? entry.release;
    clearInterval(waiting);
    try {
      entry.stored = await store.blob(key, entry.facts);
      if (!entry.stored?.complete) entry.writer = await store.writer(key, entry.facts);
    } catch (error) {
      this.#full(entry, error);
      return;
    }
    entry.arrived(entry.writer?.ranges ?? entry.stored?.ranges ?? []);
    if (!entry.writer) {
      // Another tab has fetched it meanwhile.
      entry.hash = undefined;
      entry.release();
      return;
    }
    entry.stored = undefined;
    for (const [at, bytes] of entry.memory.drain()) {
      if (!this.#toDisk(entry, at, bytes)) entry.keep(at, bytes);
    }
  }

  #toDisk(entry: Entry, at: number, bytes: Uint8Array): boolean {
    if (!entry.writer) return false;
    try {
      entry.writer.write(at, bytes);
    } catch (error) {
      this.#full(entry, error);
      return false;
    }
    entry.arrived([[at, at + bytes.length]]);
    entry.unsafe.add(at, at + bytes.length);
    return true;
  }

  #record(entry: Entry): void {
    if (!entry.writer || entry.unsafe.size === 0) return;
    entry.recorded = performance.now();
    try {
      entry.writer.record(entry.unsafe);
      entry.unsafe.remove(0, entry.file.size);
    } catch (error) {
      this.#full(entry, error);
    }
  }

  /** The disk takes no more: the rest of the file passes through memory, and what was written of it goes. */
  #full(entry: Entry, error: unknown): void {
    entry.writer?.close();
    entry.writer = undefined;
    this.#loseDisk(entry);
    const { key } = entry.file;
    const gone = key ? this.#options.store?.discard(key).catch(() => {}) : undefined;
    void Promise.resolve(gone).then(entry.release);
    this.#options.onFull(`${entry.file.name} is not kept: ${String(error)}`);
  }

  /** Only what is in memory can be read from now on. */
  #loseDisk(entry: Entry): void {
    const { size, sha256 } = entry.file;
    if (entry.stored?.complete && sha256) entry.hash = { hasher: this.#options.sha256(), at: 0, running: false };
    entry.stored = undefined;
    entry.unsafe.remove(0, size);
    entry.here.remove(0, size);
    for (const [start, end] of entry.memory.ranges) entry.here.add(start, end);
  }

  // ── Is it what it should be ───────────────────────────────────────────────────────────────────────────────────────

  async #hash(entry: Entry): Promise<void> {
    const { hash } = entry;
    if (!hash || hash.running || !entry.ready) return;
    hash.running = true;
    try {
      for (;;) {
        const end = Math.min(entry.here.reach(hash.at), hash.at + HASH_STEP);
        if (end === hash.at || this.#closed || this.#failed) break;
        hash.hasher.update(await entry.read(hash.at, end));
        hash.at = end;
        entry.settle();
        this.#change();
        // Room for what the network and Rust have to do.
        await new Promise((resolve) => setTimeout(resolve));
      }
      if (hash.at === entry.file.size && entry.hash === hash) await this.#verify(entry, await hash.hasher.finish());
    } catch (error) {
      this.#fail(error);
    } finally {
      hash.running = false;
    }
  }

  async #verify(entry: Entry, found: string): Promise<void> {
    const { key, name, sha256 } = entry.file;
    if (found !== sha256) {
      // Said first: nobody reads from what is on its way out.
      this.#fail(damaged(name, `sha256 ${sha256}`, found));
      entry.writer?.close();
      entry.writer = undefined;
      if (key) await this.#options.store?.discard(key).catch(() => {});
      return;
    }
    entry.hash = undefined;
    this.#record(entry);
    if (entry.writer && key) {
      try {
        if (!entry.writer.ranges.covers(0, entry.file.size)) throw new Error("the disk lacks what the hash has seen");
        entry.writer.complete();
        entry.reopening = this.#options.store?.blob(key, entry.facts).then((stored) => (entry.stored = stored));
        this.#shut(entry);
        await entry.reopening;
      } catch (error) {
        this.#full(entry, error);
      }
    }
    entry.settle();
    this.#change();
  }

  /** Checks a small file before anybody reads it, and keeps it. */
  async #keepSmall(entry: Entry, bytes: Uint8Array): Promise<void> {
    const { key, name, sha1, sha256 } = entry.file;
    const [expected, found] = sha256
      ? [`sha256 ${sha256}`, `sha256 ${await hex("SHA-256", bytes)}`]
      : sha1
        ? [`git's sha1 ${sha1}`, `git's sha1 ${await gitBlob(bytes)}`]
        : ["", ""];
    if (expected !== found) {
      const error = damaged(name, expected, found);
      this.#fail(error);
      throw error;
    }
    entry.hash = undefined;
    const { store } = this.#options;
    if (!store || !key) return;
    try {
      await navigator.locks.request(blobLock(key), { ifAvailable: true }, async (lock) => {
        if (lock) await store.put(key, entry.facts, bytes);
      });
      entry.stored = await store.blob(key, entry.facts);
      if (entry.stored?.complete) entry.memory.drain();
    } catch (error) {
      await store.discard(key).catch(() => {});
      this.#options.onFull(`${name} is not kept: ${String(error)}`);
    }
  }

  // ── What others see ───────────────────────────────────────────────────────────────────────────────────────────────

  #shut(entry: Entry): void {
    this.#record(entry);
    entry.writer?.close();
    entry.writer = undefined;
    entry.release();
  }

  #fail(error: unknown): void {
    const { message } = error as Error;
    this.#failed ??= error instanceof FanlightError ? error : new FanlightError("internal", String(message ?? error));
    this.#change();
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = deferred();
  }

  #event(always: boolean, wait?: "wait"): void {
    const now = performance.now();
    const passed = now - this.#lastEvent.time;
    if (!always && passed < EVENT_MS) return;
    const entries = [...this.#entries.values()].filter(({ expected }) => expected);
    const files = entries.map(({ file, seen, total, network }) => {
      return { file: file.name, loaded: Math.min(seen.size, total), total, fromCache: network === 0 };
    });
    const sum = (of: (file: (typeof files)[number]) => number) => files.reduce((total, file) => total + of(file), 0);
    const bytes = entries.reduce((total, { network }) => total + network, 0);
    if (passed >= EVENT_MS) {
      const rate = (1000 * (bytes - this.#lastEvent.bytes)) / passed;
      // Smoothed over about a second.
      const share = Math.min(1, passed / 1000);
      const smooth = this.#lastEvent.time === 0 ? rate : share * rate + (1 - share) * this.#lastEvent.rate;
      this.#lastEvent = { time: now, bytes, rate: smooth };
    }
    const { rate } = this.#lastEvent;
    this.#options.onProgress({
      phase: "download",
      loaded: sum(({ loaded }) => loaded),
      total: sum(({ total }) => total),
      fromCache: bytes === 0,
      bytesPerSecond: Math.round(rate),
      files,
      ...(wait && { waiting: true }),
    });
  }
}

/** Whether a part of the queue needs nothing more from the network. */
function done({ entry, start, end }: { entry: Entry; start: number; end: number }): boolean {
  if (entry.stored?.complete) return true;
  if (entry.writer) return entry.here.covers(start, end);
  const [read] = entry.expected?.missing(start, end) ?? [];
  return read?.[0] === start && read[1] === end;
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

/** Ends a request whose bytes nobody needs any more. */
class Superseded extends Error {}

/** Bytes in memory, as they came. */
class Pieces {
  readonly ranges = new Ranges();
  #pieces: { at: number; bytes: Uint8Array }[] = [];

  add(at: number, bytes: Uint8Array): void {
    this.#pieces.push({ at, bytes });
    this.ranges.add(at, at + bytes.length);
  }

  /** Fills `into` with bytes from `start` on; says which are not here. */
  copy(start: number, into: Uint8Array): Range[] {
    const end = start + into.length;
    for (const { at, bytes } of this.#pieces) {
      const [from, to] = [Math.max(start, at), Math.min(end, at + bytes.length)];
      if (from < to) into.set(bytes.subarray(from - at, to - at), from - start);
    }
    return this.ranges.missing(start, end);
  }

  drop(start: number, end: number): void {
    this.ranges.remove(start, end);
    this.#pieces = this.#pieces.flatMap(({ at, bytes }) => {
      const before = { at, bytes: bytes.subarray(0, Math.max(0, start - at)) };
      const after = Math.min(Math.max(0, end - at), bytes.length);
      const rest = { at: at + after, bytes: bytes.subarray(after) };
      return at + bytes.length <= start || at >= end ? [{ at, bytes }] : [before, rest].filter((p) => p.bytes.length > 0);
    });
  }

  /** Everything, which is then no longer here. */
  drain(): [number, Uint8Array][] {
    const all = this.#pieces.map(({ at, bytes }): [number, Uint8Array] => [at, bytes]);
    this.#pieces = [];
    this.ranges.remove(0, Number.POSITIVE_INFINITY);
    return all;
  }
}

function damaged(name: string, expected: string, found: string): FanlightError {
  const message = `${name} arrived damaged and was discarded: expected ${expected}, found ${found}`;
  return new FanlightError("integrity", message, "Load the model again; if it stays so, the server's file is broken.", true);
}

export async function hex(algorithm: "SHA-1" | "SHA-256", bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest(algorithm, bytes as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** As git names a file's content. */
async function gitBlob(bytes: Uint8Array): Promise<string> {
  const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const all = new Uint8Array(header.length + bytes.length);
  all.set(header);
  all.set(bytes, header.length);
  return hex("SHA-1", all);
}
