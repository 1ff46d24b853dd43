// What the browser keeps of checkpoints, in the origin's private file system:
//
//   fanlight/blobs/KEY           a file's bytes, perhaps not all of them yet
//   fanlight/blobs/KEY.journal   a line of JSON each: what the file is, every range that is safely there, "complete"
//   fanlight/models/ID.json      which files make a checkpoint
//
// KEY is the file's sha256 where the Hub names it. A range is written to the journal after its bytes were flushed, so a
// tab that dies loses what came after the last line and nothing else. Only the holder of the Web Lock of a KEY writes it.

import { type Range, Ranges } from "./ranges.js";

/** What a blob is. It must be the same for what is there to count. */
export interface BlobFacts {
  size: number;
  sha256?: string | undefined;
}

export interface ManifestFile {
  size: number;
  key: string;
  sha256?: string | undefined;
  sha1?: string | undefined;
  /** A load has read all that it needs of it. */
  read?: true;
}

/** A checkpoint of which files were kept. */
export interface Manifest {
  id: string;
  /** `ORG/NAME`, or the address of a folder. */
  model: string;
  endpoint?: string;
  commit?: string;
  /** The revisions that meant this commit when they were last looked up. */
  revisions: string[];
  /** Every file of the commit, as the Hub lists them, or those that were read. */
  files: Record<string, ManifestFile>;
  /** Names of those that were read when it was loaded. */
  needed: string[];
  /** When it was last loaded, in milliseconds since 1970. */
  used: number;
}

/** Only dedicated workers have it; typings of pages do not. */
interface SyncHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(bytes: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}

const sync = (file: FileSystemFileHandle): Promise<SyncHandle> =>
  (file as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();

export const blobLock = (key: string): string => `fanlight:blob:${key}`;
/** Held, shared, while a checkpoint is being loaded. */
export const modelLock = (id: string): string => `fanlight:model:${id}`;
const MANIFESTS_LOCK = "fanlight:models";

/** Takes a Web Lock. Gives what releases it; nothing where it is taken and `ifAvailable` was asked for. */
export function hold(name: string, options: LockOptions = {}): Promise<(() => void) | undefined> {
  return new Promise((settle, reject) => {
    const held = (lock: Lock | null) => (lock ? new Promise<void>(settle) : settle(undefined));
    navigator.locks.request(name, options, held).catch(reject);
  });
}

export class Store {
  readonly #blobs: FileSystemDirectoryHandle;
  readonly #models: FileSystemDirectoryHandle;

  private constructor(blobs: FileSystemDirectoryHandle, models: FileSystemDirectoryHandle) {
    this.#blobs = blobs;
    this.#models = models;
  }

  /** Throws what the browser throws where there is no such file system: in some private windows, for example. */
  static async open(): Promise<Store> {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("fanlight", { create: true });
    const folder = (name: string) => root.getDirectoryHandle(name, { create: true });
    return new Store(await folder("blobs"), await folder("models"));
  }

  /** What is there of a blob; `undefined` for nothing that is of use. */
  async blob(key: string, facts?: BlobFacts): Promise<Stored | undefined> {
    const journal = await this.#text(this.#blobs, `${key}.journal`);
    const data = await file(this.#blobs, key);
    return journal === undefined || !data ? undefined : Stored.parse(data, journal, facts);
  }

  /** Opens a blob for writing, with what is there of it. The caller holds its lock. */
  async writer(key: string, facts: BlobFacts): Promise<Writer> {
    const stored = await this.blob(key, facts);
    const handles: SyncHandle[] = [];
    try {
      for (const name of [key, `${key}.journal`]) {
        handles.push(await sync(await this.#blobs.getFileHandle(name, { create: true })));
      }
      const [data, journal] = handles as [SyncHandle, SyncHandle];
      return new Writer(data, journal, facts, stored);
    } catch (error) {
      for (const handle of handles) handle.close();
      throw error;
    }
  }

  /** Keeps a whole small file. The caller holds its lock. */
  async put(key: string, facts: BlobFacts, bytes: Uint8Array): Promise<void> {
    const writer = await this.writer(key, facts);
    try {
      writer.write(0, bytes);
      writer.record([[0, bytes.length]]);
      writer.complete();
    } finally {
      writer.close();
    }
  }

  async discard(key: string): Promise<void> {
    // The journal goes first: without it the data count for nothing.
    for (const name of [`${key}.journal`, key]) await remove(this.#blobs, name);
  }

  async manifests(): Promise<Manifest[]> {
    const manifests: Manifest[] = [];
    for (const name of await names(this.#models)) {
      try {
        manifests.push(JSON.parse((await this.#text(this.#models, name)) ?? "") as Manifest);
      } catch {
        // Torn by a tab that died; the next load writes it again.
      }
    }
    return manifests;
  }

  /** Writes a manifest, joined with what others have written to it meanwhile. */
  async keep(manifest: Manifest): Promise<void> {
    await navigator.locks.request(MANIFESTS_LOCK, async () => {
      const others = await this.manifests();
      const old = others.find(({ id }) => id === manifest.id);
      const revisions = [...new Set([...(old?.revisions ?? []), ...manifest.revisions])];
      const joined = { ...manifest, revisions, files: { ...old?.files, ...manifest.files } };
      for (const [name, file] of Object.entries(joined.files)) {
        const before = old?.files[name];
        if (before?.read && before.key === file.key) joined.files[name] = { ...file, read: true };
      }
      await this.#write(joined);
      // A revision means one commit at a time.
      for (const other of others) {
        const stays = other.revisions.filter((revision) => !manifest.revisions.includes(revision));
        const same = other.model === manifest.model && other.endpoint === manifest.endpoint && other.id !== manifest.id;
        if (same && stays.length < other.revisions.length) await this.#write({ ...other, revisions: stays });
      }
    });
  }

  /** Removes a manifest and every blob that no other one names. */
  async drop(id: string): Promise<void> {
    await navigator.locks.request(MANIFESTS_LOCK, async () => {
      await remove(this.#models, `${id}.json`);
      const named = new Set((await this.manifests()).flatMap(({ files }) => Object.values(files).map(({ key }) => key)));
      for (const name of await names(this.#blobs)) {
        const key = name.replace(/\.journal$/, "");
        if (named.has(key)) continue;
        // One that another tab is writing stays: it will be named when that tab is done.
        await navigator.locks.request(blobLock(key), { ifAvailable: true }, (lock) => lock && this.discard(key));
      }
    });
  }

  /** Bytes on disk of a blob. */
  async bytes(key: string): Promise<number> {
    return (await file(this.#blobs, key))?.size ?? 0;
  }

  async #write(manifest: Manifest): Promise<void> {
    const handle = await sync(await this.#models.getFileHandle(`${manifest.id}.json`, { create: true }));
    try {
      handle.truncate(0);
      handle.write(new TextEncoder().encode(JSON.stringify(manifest)), { at: 0 });
      handle.flush();
    } finally {
      handle.close();
    }
  }

  async #text(folder: FileSystemDirectoryHandle, name: string): Promise<string | undefined> {
    return (await file(folder, name))?.text();
  }
}

/** A blob that can be read, by any number of tabs. */
export class Stored {
  readonly ranges = new Ranges();
  /** All is there and was what it should be. */
  complete = false;
  /** How much of the journal makes sense, in bytes: what follows was being written when a tab died. */
  journalEnd = 0;
  readonly #data: File;

  private constructor(data: File) {
    this.#data = data;
  }

  static parse(data: File, journal: string, facts: BlobFacts | undefined): Stored | undefined {
    const stored = new Stored(data);
    let said = false;
    for (const line of journal.split("\n").slice(0, -1)) {
      const entry = parsed(line);
      if (stored.journalEnd === 0) {
        const written = entry as Partial<BlobFacts> | undefined;
        if (typeof written?.size !== "number") return undefined;
        if (facts && (written.size !== facts.size || written.sha256 !== facts.sha256)) return undefined;
        stored.complete = data.size === written.size;
      } else if (Array.isArray(entry)) {
        stored.ranges.add(entry[0] as number, entry[1] as number);
      } else if (entry !== "complete") {
        break;
      }
      said = entry === "complete";
      stored.journalEnd += line.length + 1;
    }
    // Whatever the journal says, bytes that are not there are not there.
    stored.ranges.remove(data.size, Number.POSITIVE_INFINITY);
    stored.complete &&= said && stored.ranges.covers(0, data.size);
    return stored.journalEnd > 0 ? stored : undefined;
  }

  get size(): number {
    return this.#data.size;
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    return new Uint8Array(await this.#data.slice(start, end).arrayBuffer());
  }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A blob being written: both of its files are open, and no other tab can open them. */
export class Writer {
  /** What is safely there. */
  readonly ranges: Ranges;
  readonly #data: SyncHandle;
  readonly #journal: SyncHandle;
  #journalEnd: number;

  constructor(data: SyncHandle, journal: SyncHandle, facts: BlobFacts, stored: Stored | undefined) {
    this.#data = data;
    this.#journal = journal;
    this.ranges = stored?.ranges ?? new Ranges();
    this.#journalEnd = stored?.journalEnd ?? 0;
    journal.truncate(this.#journalEnd);
    if (!stored) this.restart(facts);
  }

  /** Throws `QuotaExceededError` when the disk or the quota is full. */
  write(at: number, bytes: Uint8Array): void {
    if (this.#data.write(bytes, { at }) !== bytes.length) {
      throw new DOMException("the file could not grow", "QuotaExceededError");
    }
  }

  read(start: number, end: number): Uint8Array {
    const bytes = new Uint8Array(end - start);
    const count = this.#data.read(bytes, { at: start });
    return bytes.subarray(0, count);
  }

  /** Makes what was written to these ranges safe. */
  record(ranges: Iterable<Range>): void {
    this.#data.flush();
    for (const [start, end] of ranges) {
      this.ranges.add(start, end);
      this.#append([start, end]);
    }
    this.#journal.flush();
  }

  /** Says that all is there and is what it should be. */
  complete(): void {
    this.#append("complete");
    this.#journal.flush();
  }

  /** Says anew what the file is; nothing of it is there yet. */
  restart(facts: BlobFacts): void {
    this.#data.truncate(0);
    this.#journal.truncate(0);
    this.#journalEnd = 0;
    this.ranges.remove(0, Number.POSITIVE_INFINITY);
    this.#append({ size: facts.size, sha256: facts.sha256 });
  }

  /** Gives the file its length: what was not written is zeros. */
  resize(size: number): void {
    this.#data.truncate(size);
  }

  close(): void {
    this.#data.close();
    this.#journal.close();
  }

  #append(entry: unknown): void {
    const line = new TextEncoder().encode(`${JSON.stringify(entry)}\n`);
    if (this.#journal.write(line, { at: this.#journalEnd }) !== line.length) {
      throw new DOMException("the journal could not grow", "QuotaExceededError");
    }
    this.#journalEnd += line.length;
  }
}

async function file(folder: FileSystemDirectoryHandle, name: string): Promise<File | undefined> {
  try {
    return await (await folder.getFileHandle(name)).getFile();
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return undefined;
    throw error;
  }
}

async function remove(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  try {
    await folder.removeEntry(name);
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotFoundError") throw error;
  }
}

async function names(folder: FileSystemDirectoryHandle): Promise<string[]> {
  const found: string[] = [];
  // Typings of pages lack the iteration.
  for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) found.push(name);
  return found;
}
