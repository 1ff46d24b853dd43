// What the browser stores of checkpoints, in the origin's private file system:
//
//   fanlight/blobs/KEY           the bytes of a file, perhaps not all of them yet
//   fanlight/blobs/KEY.journal   lines of JSON: what the file is, every range that has been written, "complete", and when the
//                                whole file was last found correct
//   fanlight/models/ID.json      the files of a checkpoint, and a line with the hash of that list
//
// KEY is the file's sha256 or git's sha1 if the server lists it, so that servers share what they have in common. What a server lists
// is only a claim: a file is complete, and used by checkpoints of other servers, only after its hash was found correct. A range is added to the journal only after its bytes were flushed, so if a
// tab dies, only the bytes after the last line are lost. Only the tab that holds the Web Lock of a KEY writes its files.

import { hex } from "./hash.js";
import { type Range, Ranges } from "./ranges.js";

/** What a blob is. Stored bytes are used only if this is the same. */
export interface BlobFacts {
  size: number;
  sha256?: string | undefined;
  /** The sha1 of git's blob. */
  sha1?: string | undefined;
  /** The server that sent the bytes. Before a file is complete and correct, what one server sent is not continued with another. */
  from?: string | undefined;
}

/** After this time a stored file is hashed again when it is next used, because disks change bytes too. */
const CHECK_MS = 30 * 24 * 3600 * 1000;

export interface ManifestFile {
  size: number;
  key: string;
  sha256?: string | undefined;
  sha1?: string | undefined;
  /** Whether a load has read everything that it needs from the file. */
  read?: true;
}

/** A checkpoint of which files are stored. */
export interface Manifest {
  id: string;
  /** `ORG/NAME`, or the address of a folder. */
  model: string;
  endpoint?: string;
  commit?: string;
  /** The revisions that pointed to this commit when they were last looked up. */
  revisions: string[];
  /** Every file of the commit, as the Hub lists them, or the files that were read. */
  files: Record<string, ManifestFile>;
  /** The names of the files that the last load read. */
  needed: string[];
  /** When it was last loaded, in milliseconds since 1970. */
  used: number;
}

/** Exists only in dedicated workers; TypeScript's types for pages do not have it. */
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
/** Held in shared mode while a checkpoint is being loaded. */
export const modelLock = (id: string): string => `fanlight:model:${id}`;
const MANIFESTS_LOCK = "fanlight:models";

/**
 * Takes a Web Lock and returns a function that releases it. Returns nothing if `ifAvailable` is set and the lock is taken.
 */
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

  /** Throws the browser's error if there is no such file system, for example in some private windows. */
  static async open(): Promise<Store> {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("fanlight", { create: true });
    const folder = (name: string) => root.getDirectoryHandle(name, { create: true });
    return new Store(await folder("blobs"), await folder("models"));
  }

  /** What is stored of a blob; `undefined` if nothing usable is. */
  async blob(key: string, facts?: BlobFacts): Promise<Stored | undefined> {
    const journal = await this.#text(this.#blobs, `${key}.journal`);
    const data = await file(this.#blobs, key);
    return journal === undefined || !data ? undefined : Stored.parse(data, journal, facts);
  }

  /** Opens a blob for writing and keeps what is stored of it. The caller holds its lock. */
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
      for (const handle of handles) quietly(() => handle.close());
      throw error;
    }
  }

  /** Stores a whole small file. The caller holds its lock. */
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

  /** Records that a complete blob was found correct again. */
  async checked(key: string): Promise<void> {
    const line = new TextEncoder().encode(`${JSON.stringify({ checked: Date.now() })}\n`);
    await navigator.locks.request(blobLock(key), { ifAvailable: true }, async (lock) => {
      if (!lock) return;
      const journal = await sync(await this.#blobs.getFileHandle(`${key}.journal`));
      try {
        journal.write(line, { at: journal.getSize() });
        journal.flush();
      } finally {
        quietly(() => journal.close());
      }
    });
  }

  async discard(key: string): Promise<void> {
    // Delete the journal first: without it, the data are ignored.
    for (const name of [`${key}.journal`, key]) await remove(this.#blobs, name);
  }

  async manifests(): Promise<Manifest[]> {
    const manifests: Manifest[] = [];
    for (const name of await names(this.#models)) {
      try {
        const [text = "", hash] = ((await this.#text(this.#models, name)) ?? "").split("\n");
        const manifest = JSON.parse(text) as unknown;
        if (isManifest(manifest) && hash === (await textHash(text))) manifests.push(manifest);
      } catch {
        // A tab died while it wrote this file, or the file was changed. The next load writes it again.
      }
    }
    return manifests;
  }

  /** Writes a manifest, merged with what other tabs have written to it meanwhile. */
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
      // A revision points to one commit at a time.
      for (const other of others) {
        const stays = other.revisions.filter((revision) => !manifest.revisions.includes(revision));
        const same = other.model === manifest.model && other.endpoint === manifest.endpoint && other.id !== manifest.id;
        if (same && stays.length < other.revisions.length) await this.#write({ ...other, revisions: stays });
      }
    });
  }

  /** Removes a manifest and every blob that no other manifest names. */
  async drop(id: string): Promise<void> {
    await navigator.locks.request(MANIFESTS_LOCK, async () => {
      await remove(this.#models, `${id}.json`);
      const named = new Set((await this.manifests()).flatMap(({ files }) => Object.values(files).map(({ key }) => key)));
      for (const name of await names(this.#blobs)) {
        const key = name.replace(/\.journal$/, "");
        if (named.has(key)) continue;
        // A blob that another tab is writing stays. That tab will add it to a manifest when it is done.
        await navigator.locks.request(blobLock(key), { ifAvailable: true }, (lock) => lock && this.discard(key));
      }
    });
  }

  /** Bytes on disk of a blob. */
  async bytes(key: string): Promise<number> {
    return (await file(this.#blobs, key))?.size ?? 0;
  }

  async #write(manifest: Manifest): Promise<void> {
    const json = JSON.stringify(manifest);
    const text = `${json}\n${await textHash(json)}`;
    const handle = await sync(await this.#models.getFileHandle(`${manifest.id}.json`, { create: true }));
    try {
      handle.truncate(0);
      const bytes = new TextEncoder().encode(text);
      if (handle.write(bytes, { at: 0 }) !== bytes.length) throw new DOMException("the list of files could not grow", "QuotaExceededError");
      handle.flush();
    } finally {
      quietly(() => handle.close());
    }
  }

  async #text(folder: FileSystemDirectoryHandle, name: string): Promise<string | undefined> {
    return (await file(folder, name))?.text();
  }
}

const textHash = (text: string): Promise<string> => hex("SHA-256", new TextEncoder().encode(text));

/** Whether what was read has the fields of a manifest. */
function isManifest(value: unknown): value is Manifest {
  if (typeof value !== "object" || value === null) return false;
  const { id, model, revisions, files, needed } = value as Partial<Record<keyof Manifest, unknown>>;
  const lists = Array.isArray(revisions) && Array.isArray(needed);
  return typeof id === "string" && typeof model === "string" && lists && typeof files === "object" && files !== null;
}

/** A stored blob. Any number of tabs can read it at the same time. */
export class Stored {
  readonly ranges = new Ranges();
  /** Whether the blob is complete and correct. */
  complete = false;
  /** When the whole blob was last found correct, in milliseconds since 1970. */
  #checked = 0;
  /** How many bytes of the journal are valid. What follows was being written when a tab died. */
  journalEnd = 0;
  readonly #data: File;

  private constructor(data: File) {
    this.#data = data;
  }

  static parse(data: File, journal: string, facts: BlobFacts | undefined): Stored | undefined {
    const stored = new Stored(data);
    let said = false;
    let from: string | undefined;
    for (const line of journal.split("\n").slice(0, -1)) {
      const entry = parsed(line);
      if (stored.journalEnd === 0) {
        const written = entry as Partial<BlobFacts> | undefined;
        if (typeof written?.size !== "number") return undefined;
        if (facts && (written.size !== facts.size || written.sha256 !== facts.sha256 || written.sha1 !== facts.sha1)) return undefined;
        from = written.from;
        stored.complete = data.size === written.size;
      } else if (Array.isArray(entry)) {
        if (!isRange(entry)) break;
        stored.ranges.add(...entry);
        said = false;
      } else if (entry === "complete") {
        said = true;
      } else if (isCheck(entry)) {
        stored.#checked = entry.checked;
      } else {
        break;
      }
      stored.journalEnd += line.length + 1;
    }
    // The journal may list bytes that the file does not have.
    stored.ranges.remove(data.size, Number.POSITIVE_INFINITY);
    stored.complete &&= said && stored.ranges.covers(0, data.size);
    // Nobody has checked bytes of an incomplete file, so those of another server are not continued.
    if (!stored.complete && facts?.from !== undefined && from !== facts.from) return undefined;
    return stored.journalEnd > 0 ? stored : undefined;
  }

  /** Whether the blob was last found correct so long ago that it should be hashed again. */
  get due(): boolean {
    return Math.abs(Date.now() - this.#checked) > CHECK_MS;
  }

  get size(): number {
    return this.#data.size;
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    return new Uint8Array(await this.#data.slice(start, end).arrayBuffer());
  }
}

const isRange = (entry: unknown[]): entry is Range =>
  entry.length === 2 && entry.every((place) => Number.isSafeInteger(place) && (place as number) >= 0);
const isCheck = (entry: unknown): entry is { checked: number } => typeof (entry as { checked?: unknown } | undefined)?.checked === "number";

function parsed(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A blob that is open for writing. No other tab can open its two files. */
export class Writer {
  /** The ranges that are recorded in the journal. */
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

  /** Flushes these ranges and records them in the journal. */
  record(ranges: Iterable<Range>): void {
    this.#data.flush();
    for (const [start, end] of ranges) {
      this.ranges.add(start, end);
      this.#append([start, end]);
    }
    this.#journal.flush();
  }

  /** Records that the blob is complete and correct. */
  complete(): void {
    this.#append("complete");
    this.#append({ checked: Date.now() });
    this.#journal.flush();
  }

  /** Empties the blob and records what the file is. */
  restart(facts: BlobFacts): void {
    this.#data.truncate(0);
    this.#journal.truncate(0);
    this.#journalEnd = 0;
    this.ranges.remove(0, Number.POSITIVE_INFINITY);
    const { size, sha256, sha1, from } = facts;
    this.#append({ size, sha256, sha1, from });
  }

  /** Sets the length of the file. Bytes that were not written are zero. */
  resize(size: number): void {
    this.#data.truncate(size);
  }

  /** What was recorded is flushed already, so an error here changes nothing. */
  close(): void {
    for (const handle of [this.#data, this.#journal]) quietly(() => handle.close());
  }

  #append(entry: unknown): void {
    const line = new TextEncoder().encode(`${JSON.stringify(entry)}\n`);
    if (this.#journal.write(line, { at: this.#journalEnd }) !== line.length) {
      throw new DOMException("the journal could not grow", "QuotaExceededError");
    }
    this.#journalEnd += line.length;
  }
}

function quietly(work: () => void): void {
  try {
    work();
  } catch {
    // Nothing depends on it.
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
  // TypeScript's types for pages lack the iteration.
  for await (const name of (folder as unknown as { keys(): AsyncIterable<string> }).keys()) found.push(name);
  return found;
}
