// The files of one checkpoint while it is loaded. Bytes that Rust asks for are read from the disk if they are there,
// otherwise from the network. As soon as Rust has said what it will read (`expect`), those bytes are downloaded ahead, with
// several requests at a time.
//
// queue.ts decides which bytes are downloaded next, entry.ts where the bytes of a file are stored, and hash.ts whether a file
// is correct.
// If bytes are stored on the disk, they do not accumulate in memory. Otherwise at most WINDOW bytes are downloaded ahead.

import { FanlightError } from "../errors.js";
import type { Progress } from "../types.js";
import { Entry, type Keeper, type RemoteFile } from "./entry.js";
import { damaged, fault, listed } from "./hash.js";
import type { Http, Part } from "./http.js";
import { EVENT_MS, Meter } from "./progress.js";
import { Queue, type Read, WINDOW } from "./queue.js";
import { type Range, Ranges } from "./ranges.js";

const CONNECTIONS = 4;
/** A read at the beginning of a file downloads at least this many bytes, because more of them will be needed soon. */
const AHEAD = 256 << 10;
/** How long written bytes may wait until they are flushed and recorded in the journal. */
const RECORD_MS = 250;
const HASH_STEP = 4 << 20;
/** Files up to this size that are read whole are checked before Rust sees them. */
const SMALL = 64 << 20;

export interface DownloadOptions extends Keeper {
  http: Http;
  onProgress: (progress: Progress) => void;
}

export class Download {
  readonly #options: DownloadOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new Queue(this.#entries);
  readonly #meter: Meter;
  #active = 0;
  #failed: FanlightError | undefined;
  #closed = false;
  #changed = deferred();

  constructor(options: DownloadOptions) {
    this.#options = options;
    this.#meter = new Meter(this.#entries, options.onProgress);
  }

  /** Adds a file, with the bytes of it that are already on the disk. */
  async open(file: RemoteFile): Promise<void> {
    const entry = new Entry(file, this.#options);
    this.#entries.set(file.name, entry);
    await entry.open();
  }

  /** The files that `expect` named: the large ones. */
  get expected(): RemoteFile[] {
    return [...this.#entries.values()].filter(({ expected }) => expected).map(({ file }) => file);
  }

  /** Whether reads that do not follow the order of the file would download bytes twice. */
  get sequential(): boolean {
    return !this.#options.store || [...this.#entries.values()].some(({ file }) => !file.key);
  }

  async read(name: string, start: number, end: number): Promise<Uint8Array> {
    const entry = this.#entry(name);
    const { size } = entry.file;
    if (!(0 <= start && start <= end && end <= size)) {
      throw new FanlightError("bad_model", `${name}: bytes ${start} to ${end} were requested, but the file has ${size} bytes`);
    }
    const whole = start === 0 && end === size && size <= SMALL && !entry.expected;
    for (;;) {
      await this.#until(entry, start, end);
      try {
        const bytes = await entry.read(start, end);
        // Small files are always checked: that takes no time, and a wrong one harms everything that is read after it.
        if (whole && !(await this.#checkSmall(entry, bytes))) continue;
        entry.expected?.remove(start, end);
        entry.settle();
        this.#pump();
        return bytes;
      } catch (error) {
        if (this.#failed) throw this.#failed;
        // What cannot be read from the disk (another tab may be writing it, or the disk fails) can still be downloaded.
        if (error instanceof FanlightError || !entry.giveUpDisk(error)) throw error;
      }
    }
  }

  /**
   * Says what will be read, in order. Settles when the files are ready for that; another tab may still be downloading them.
   */
  async expect(reads: { file: string; start: number; end: number }[]): Promise<void> {
    const expected = reads.map(({ file, start, end }): Read => ({ entry: this.#entry(file), start, end }));
    this.#queue.expect(expected);
    const entries = [...new Set(expected.map(({ entry }) => entry))];
    for (const entry of entries) entry.expected = new Ranges();
    for (const { entry, start, end } of expected) entry.expected?.add(start, end);
    for (const entry of entries) entry.total = entry.hash || entry.stored?.complete ? entry.file.size : (entry.expected?.size ?? 0);
    // The same order in all tabs, so that no two tabs wait for each other.
    const key = ({ file }: Entry) => file.key ?? "";
    for (const entry of entries.sort((a, b) => (key(a) < key(b) ? -1 : 1))) {
      await this.#prepare(entry);
      entry.ready = true;
      // All bytes of a short file may be here already.
      void this.#hash(entry);
      this.#pump();
    }
    this.#meter.tell(true);
  }

  /** Waits until every expected file is complete and correct. */
  async finish(): Promise<void> {
    const open = () => [...this.#entries.values()].some((entry) => entry.expected && entry.hash);
    while (open()) {
      if (this.#failed) throw this.#failed;
      this.#pump();
      await this.#changed.promise;
    }
    if (this.#failed) throw this.#failed;
    this.#meter.tell(true);
    this.close();
  }

  /** Bytes that were downloaded. */
  get networkBytes(): number {
    const entries = [...this.#entries.values()];
    return entries.reduce((total, { network, file }) => total + network + (file.head?.length ?? 0), 0);
  }

  /** Whether any request is still running. */
  get downloading(): boolean {
    return this.#active > 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const entry of this.#entries.values()) entry.shut();
    this.#change();
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw new FanlightError("not_found", `the file ${name} does not exist`, "Check that the checkpoint is complete.");
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
          // A stream that is held back because memory is full has to check again whether its bytes are needed now.
          this.#change();
        }
        this.#pump();
        await this.#changed.promise;
      }
    } finally {
      entry.urgent.delete(urgent);
    }
  }

  #pump(): void {
    while (this.#active < CONNECTIONS && !this.#closed && !this.#failed) {
      const next = this.#queue.next();
      if (!next) return;
      void this.#fetch(next.entry, ...next.range);
    }
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
      entry.record();
      this.#meter.tell(this.#active === 0);
      this.#change();
      this.#pump();
    }
  }

  async #take(entry: Entry, part: Part, at: number, bytes: Uint8Array): Promise<void> {
    if (this.#closed || this.#failed) throw new Superseded();
    entry.network += bytes.length;
    const end = at + bytes.length;
    for (const [from, to] of entry.here.missing(at, end)) {
      entry.put(from, bytes.subarray(from - at, to - at));
    }
    if (performance.now() - entry.recorded >= RECORD_MS) entry.record();
    void this.#hash(entry);
    entry.settle();
    this.#meter.tell(false);
    this.#change();
    if (entry.stream === part) await this.#room(entry, end);
  }

  /** Holds a stream back while memory is full, unless a read waits for its bytes. */
  async #room(entry: Entry, at: number): Promise<void> {
    const full = () => !entry.writer && entry.expected && entry.memory.ranges.size > WINDOW;
    while (full() && !this.#closed && !this.#failed) {
      const waiting = [...entry.urgent];
      // A read waits for bytes before this position, so a new request must begin there.
      if (waiting.some(([start, end]) => !entry.here.covers(start, Math.min(end, at)))) throw new Superseded();
      if (waiting.length > 0) return;
      await this.#changed.promise;
    }
  }

  /** Opens an expected file for writing, unless all of it is on the disk. */
  async #prepare(entry: Entry): Promise<void> {
    if (!entry.wanted) return;
    const waiting = setInterval(() => this.#meter.tell(true, "wait"), 10 * EVENT_MS);
    await entry.lock();
    clearInterval(waiting);
    await entry.openWriter();
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
        // Gives the network and Rust time to work.
        await new Promise((resolve) => setTimeout(resolve));
      }
      if (hash.at === entry.file.size && entry.hash === hash) await this.#verify(entry, await hash.hasher.finish());
    } catch (error) {
      if (error instanceof FanlightError || !entry.giveUpDisk(error)) this.#fail(error);
    } finally {
      hash.running = false;
    }
    this.#change();
    this.#pump();
  }

  async #verify(entry: Entry, found: string): Promise<void> {
    const expected = listed(entry.file) ?? "";
    if (found !== expected) {
      // Report the failure first, so that nobody reads from a file that is about to be deleted.
      this.#fail(damaged(entry.file.name, expected, found));
      await entry.discard();
      return;
    }
    await entry.complete();
    entry.settle();
    this.#change();
  }

  /**
   * Checks a small file before it is used, and stores it. Returns false if what was stored of it is wrong: then it is deleted, and
   * has to be downloaded again.
   */
  async #checkSmall(entry: Entry, bytes: Uint8Array): Promise<boolean> {
    const error = await fault(entry.file, bytes);
    if (!error) {
      entry.hash = undefined;
      if (!entry.stored?.complete) await entry.keepWhole(bytes);
      return true;
    }
    const kept = entry.stored !== undefined;
    await entry.discard();
    if (kept) return false;
    this.#fail(error);
    throw error;
  }

  // ── What others see ───────────────────────────────────────────────────────────────────────────────────────────────

  #fail(error: unknown): void {
    const { message } = error as Error;
    const io = error instanceof DOMException;
    this.#failed ??= error instanceof FanlightError ? error : new FanlightError(io ? "io" : "internal", String(message ?? error));
    this.#change();
  }

  #change(): void {
    this.#changed.resolve();
    this.#changed = deferred();
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}

/** Ends a request whose bytes are no longer needed. */
class Superseded extends Error {}

