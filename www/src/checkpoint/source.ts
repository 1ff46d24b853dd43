// Where a checkpoint's files are: a repository on the Hub, a folder behind an address, files with an address each, or files that
// a person picked.

import { FanlightError } from "../errors.js";
import type { EngineOptions, Place, RepoId } from "../protocol.js";
import { dataBytes } from "../shared/data-url.js";
import type { CacheInfo, Keeping, Progress } from "../types.js";
import { Download, type DownloadOptions, hex, type RemoteFile } from "./download.js";
import { Http, type HttpOptions } from "./http.js";
import { fileUrl, isCommit, list, type RepoFile, resolve } from "./hub.js";
import { Prepared } from "./prepared.js";
import { hold, type Manifest, modelLock, Store } from "./store.js";

const named = async (text: string): Promise<string> => (await hex("SHA-256", new TextEncoder().encode(text))).slice(0, 32);

/** What the manifest of a commit, or of a folder, is stored under. */
export const repoManifest = ({ endpoint, repo }: RepoId, commit: string): Promise<string> => named(`${endpoint}${repo}@${commit}`);
export const folderManifest = (base: URL): Promise<string> => named(base.href);

const preparedKey = async (manifest: string, wish: string): Promise<string> => `prepared-${await named(`${manifest}\n${wish}`)}`;

/** What the weights that are kept for these options are stored under; nothing where the files are kept as they are. */
export function preparedFor(manifest: string, cache: Keeping, options: EngineOptions): Promise<string> | undefined {
  return keeping(cache, options) === "quantized" ? preparedKey(manifest, wishOf(options)) : undefined;
}

/** What is kept as it is needs nothing prepared. */
export function keeping(cache: Keeping, { weights = "keep" }: EngineOptions): Keeping {
  return cache === "quantized" && weights === "keep" ? "opfs" : cache;
}

/** All that prepared weights depend on besides the checkpoint. */
export function wishOf({ weights = "keep", memory, contextLength, maxPixels, kvCache }: EngineOptions): string {
  return JSON.stringify([weights, ...(weights === "auto" ? [memory, contextLength, maxPixels, kvCache] : [])]);
}

export interface SourceOptions {
  cache: Keeping;
  /** What prepared weights depend on besides the checkpoint. */
  wish: string;
  /** Whether weights will be read, and not the small files alone. */
  loads: boolean;
  timeoutMs: number;
  sha256: DownloadOptions["sha256"];
  onProgress: (progress: Progress) => void;
}

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

type RemotePlace = Exclude<Place, { kind: "files" | "folder" }>;

export async function openSource(place: Place, options: SourceOptions): Promise<Source> {
  if (place.kind === "files") return new PickedFiles(place.files.map((file) => [file.webkitRelativePath || file.name, file]));
  if (place.kind === "folder") return new PickedFiles(await filesOf(place.folder));
  const remote = new Remote(options, place.kind === "hub" ? place : undefined);
  await remote.open(place);
  return remote;
}

/** A name may come from an index file that someone else wrote: it stays inside the folder. */
function checkName(file: string): void {
  if (!/^[\w.+=-]+(\/[\w.+=-]+)*$/.test(file) || file.split("/").some((part) => part.endsWith("."))) {
    throw new FanlightError("bad_model", `"${file}" is no file name of a checkpoint`);
  }
}

const FIRST_BYTES = 256 * 1024;
/** Attempts to ask what a revision means where that is known from last time. */
const IMPATIENT = 2;
/** What Rust calls the file of prepared weights. */
const PREPARED = "prepared.fanlight";

class Remote implements Source {
  names: string[] | undefined;
  commit: string | undefined;
  readonly cache: Omit<CacheInfo, "persisted">;
  readonly #options: SourceOptions;
  readonly #http: Http;
  readonly #abort = new AbortController();
  #store: Store | undefined;
  #download: Download | undefined;
  #locate: (file: string) => Promise<RemoteFile | undefined> = async () => undefined;
  /** Files by name, with those that are not there. */
  readonly #files = new Map<string, Promise<RemoteFile | undefined>>();
  #manifest: Manifest | undefined;
  #releaseModel = (): void => {};
  #prepared: Prepared | undefined;

  constructor(options: SourceOptions, hub: { id: RepoId; token?: string | undefined } | undefined) {
    this.#options = options;
    this.cache = { kind: options.cache, networkBytes: 0 };
    const http: HttpOptions = { timeoutMs: options.timeoutMs, signal: this.#abort.signal };
    if (hub?.token) http.token = { value: hub.token, origin: new URL(hub.id.endpoint).origin };
    this.#http = new Http(http);
  }

  async open(place: RemotePlace): Promise<void> {
    this.#options.onProgress({ phase: "resolve", loaded: 0, total: 0 });
    if (this.#options.cache !== "none") {
      try {
        this.#store = await Store.open();
      } catch (error) {
        this.#notKept(`this browser keeps no files here: ${String(error)}`);
      }
    }
    const { sha256 } = this.#options;
    this.#download = new Download({
      http: this.#http,
      store: this.#store,
      sha256,
      onProgress: this.#options.onProgress,
      onFull: (reason) => this.#notKept(reason),
    });
    if (place.kind === "hub") await this.#openRepo(place.id);
    else if (place.kind === "url") await this.#openFolder(new URL(place.base));
    else await this.#openListed(place.files);
    if (this.#manifest) await this.#lockModel(this.#manifest.id);
    if (this.#options.cache === "quantized" && this.cache.kind !== "none" && !this.commit) this.cache.kind = "opfs";
    // Only a commit says that the files are still those that the weights were made of.
    if (this.#manifest && this.#store && this.commit && this.#options.cache === "quantized") {
      const key = await preparedKey(this.#manifest.id, this.#options.wish);
      this.#prepared = await Prepared.open(this.#store, key, this.#options.loads, (reason) => this.#notKept(reason));
    }
  }

  async size(file: string): Promise<number | undefined> {
    return file === this.prepared() ? this.#prepared?.size : (await this.#file(file))?.size;
  }

  async read(file: string, start: number, end: number): Promise<Uint8Array> {
    if (this.#prepared && file === this.prepared()) return this.#prepared.read(start, end);
    if (!(await this.#file(file))) {
      throw new FanlightError("not_found", `${file} is not there`, "Check that the checkpoint is complete.");
    }
    return this.#running.read(file, start, end);
  }

  async expect(reads: { file: string; start: number; end: number }[]): Promise<void> {
    // Noted first: a load that is cut off is found again by its files.
    await this.#keepManifest();
    await this.#running.expect(reads.filter(({ file }) => file !== this.prepared()));
  }

  sequential(): boolean {
    return this.#running.sequential;
  }

  prepared(): string | undefined {
    return this.#prepared?.complete ? PREPARED : undefined;
  }

  keeps(size: number): boolean {
    return this.#prepared?.begin(size) ?? false;
  }

  keep(offset: number, bytes: Uint8Array): void {
    this.#prepared?.write(offset, bytes);
  }

  get downloading(): boolean {
    return this.#running.downloading;
  }

  async finish(): Promise<void> {
    await this.#running.finish();
    this.cache.networkBytes = this.#running.networkBytes;
    await this.#settlePrepared();
    for (const name of this.#manifest?.needed ?? []) {
      const file = this.#manifest?.files[name];
      if (file) file.read = true;
    }
    await this.#keepManifest();
    this.close();
  }

  close(): void {
    this.#abort.abort();
    this.#download?.close();
    this.#prepared?.close();
    this.#releaseModel();
  }

  get #running(): Download {
    if (!this.#download) throw new FanlightError("internal", "a file was asked for before its place was known");
    return this.#download;
  }

  #file(name: string): Promise<RemoteFile | undefined> {
    checkName(name);
    let file = this.#files.get(name);
    if (!file) {
      file = this.#locate(name).then(async (found) => {
        if (found) await this.#running.open(found);
        if (found?.key) this.#manifest?.needed.push(name);
        return found;
      });
      this.#files.set(name, file);
      // A failure is not remembered: the next call asks again.
      file.catch(() => this.#files.delete(name));
    }
    return file;
  }

  // ── The Hub ───────────────────────────────────────────────────────────────────────────────────────────────────────

  async #openRepo(id: RepoId): Promise<void> {
    const known = (await this.#store?.manifests().catch(() => [])) ?? [];
    const ours = known.filter(({ model, endpoint }) => model === id.repo && endpoint === id.endpoint);
    const kept = ours.find(({ revisions }) => revisions.includes(id.revision));
    let commit: string | undefined;
    try {
      commit = await resolve(this.#http, id, kept ? IMPATIENT : undefined);
    } catch (error) {
      // No network: what the revision meant last time has to do, if there is one.
      const away = error instanceof FanlightError && (error.code === "network" || error.code === "cors");
      if (!kept?.commit || !away) throw error;
      commit = kept.commit;
    }
    if (!commit) return this.#openUnlisted(id);
    this.commit = commit;
    const listed = ours.find((manifest) => manifest.commit === commit);
    const files = listed ? new Map(Object.entries(listed.files)) : await list(this.#http, id, commit);
    this.names = [...files.keys()];
    const { endpoint, repo: model, revision } = id;
    this.#manifest = {
      id: await repoManifest(id, commit),
      model,
      endpoint,
      commit,
      revisions: isCommit(revision) ? [] : [revision],
      files: {},
      needed: [],
      used: Date.now(),
    };
    for (const [name, { size, sha256, sha1 }] of files) {
      this.#manifest.files[name] = { size, sha256, sha1, key: blobKey(files.get(name)) };
    }
    this.#locate = async (name) => {
      const file = files.get(name);
      return file && { ...file, name, url: fileUrl(id, commit, name), key: blobKey(file) || undefined };
    };
  }

  /** A server that has the Hub's paths for files and not for lists of them. */
  async #openUnlisted(id: RepoId): Promise<void> {
    const base = new URL(`${id.endpoint}${id.repo}/resolve/${encodeURIComponent(id.revision)}/`);
    const config = await this.#http.head(new URL("config.json", base), "config.json", FIRST_BYTES);
    if (!config) {
      const message = `${id.endpoint} has no repository ${id.repo} with a revision ${id.revision}`;
      throw new FanlightError("not_found", message, "Check the name; private and gated ones need a token.");
    }
    await this.#openFolder(base);
  }

  // ── A folder ──────────────────────────────────────────────────────────────────────────────────────────────────────

  async #openFolder(base: URL): Promise<void> {
    const id = await folderManifest(base);
    const manifest: Manifest = { id, model: base.href, revisions: [], files: {}, needed: [], used: Date.now() };
    this.#manifest = manifest;
    this.#locate = (name) => {
      const url = new URL(base);
      url.pathname += name;
      return this.#found(manifest, name, url, url.href);
    };
  }

  /** Files that lie anywhere. A query of an address may be a signature that is another each time, and is not looked at. */
  async #openListed(files: Record<string, string>): Promise<void> {
    this.names = Object.keys(files);
    this.names.forEach(checkName);
    const plain = (url: URL) => (url.protocol === "data:" ? url.href : `${url.origin}${url.pathname}`);
    const facts = this.names.map((name) => `${name}\n${plain(new URL(files[name] ?? ""))}`).sort();
    const id = (await hex("SHA-256", new TextEncoder().encode(facts.join("\n")))).slice(0, 32);
    const named = ["config.json", ...this.names].find((name) => files[name]?.startsWith("data:") === false);
    const model = named === undefined ? "data:" : plain(new URL(files[named] ?? ""));
    const manifest: Manifest = { id, model, revisions: [], files: {}, needed: [], used: Date.now() };
    this.#manifest = manifest;
    this.#locate = async (name) => {
      if (!Object.hasOwn(files, name)) return undefined;
      const url = new URL(files[name] ?? "");
      if (url.protocol !== "data:") return this.#found(manifest, name, url, `${name}\n${plain(url)}`);
      try {
        const head = dataBytes(url.href);
        return { name, url, size: head.length, head };
      } catch (error) {
        throw new FanlightError("bad_request", `the address of ${name} cannot be read: ${String(error)}`);
      }
    };
  }

  /** A file of which nothing is known but where it is. */
  async #found(manifest: Manifest, name: string, url: URL, identity: string): Promise<RemoteFile | undefined> {
    const head = await this.#http.head(url, name, FIRST_BYTES);
    if (!head) return undefined;
    const { size, version, bytes, ranges } = head;
    // Without something that changes with the file, there is no telling next time whether it is the same.
    const facts = new TextEncoder().encode(`${identity}\n${size}\n${version}`);
    const key = version === undefined ? undefined : await hex("SHA-256", facts);
    if (key) manifest.files[name] = { size, key };
    return { name, url, size, key, head: bytes, ranges };
  }

  // ── What is kept ──────────────────────────────────────────────────────────────────────────────────────────────────

  async #lockModel(id: string): Promise<void> {
    this.#releaseModel = (await hold(modelLock(id), { mode: "shared" })) ?? this.#releaseModel;
  }

  async #keepManifest(): Promise<void> {
    if (!this.#store || !this.#manifest || Object.keys(this.#manifest.files).length === 0) return;
    try {
      await this.#store.keep(this.#manifest);
    } catch (error) {
      this.#notKept(`the list of files could not be written: ${String(error)}`);
    }
  }

  /** Prepared weights take the place of the files that they were made of. */
  async #settlePrepared(): Promise<void> {
    const prepared = this.#prepared;
    const manifest = this.#manifest;
    if (!prepared || !manifest || !(prepared.complete || (await prepared.finish()))) {
      // Nothing was quantized, or it could not be kept: then the files are what is kept.
      if (this.cache.kind === "quantized") this.cache.kind = "opfs";
      return;
    }
    const made = this.#running.expected;
    await this.#discard(made.flatMap(({ key }) => key ?? []), manifest.id);
    manifest.files[prepared.key] = { size: prepared.size, key: prepared.key };
    manifest.needed = manifest.needed.filter((name) => !made.some((file) => file.name === name));
    manifest.needed.push(prepared.key);
  }

  /** Removes files that no other checkpoint needs, unless another tab is loading this one. */
  async #discard(keys: string[], id: string): Promise<void> {
    const store = this.#store;
    if (!store) return;
    const others = (await store.manifests()).filter((manifest) => manifest.id !== id);
    const needed = others.flatMap(({ needed, files }) => needed.map((name) => files[name]?.key));
    this.#releaseModel();
    // Our own hold ends a moment later; another tab's may last, and then the files stay.
    const signal = AbortSignal.timeout(500);
    const removing = navigator.locks.request(modelLock(id), { signal }, async () => {
      for (const key of keys) if (!needed.includes(key)) await store.discard(key).catch(() => {});
    });
    await removing.catch(() => {});
  }

  #notKept(reason: string): void {
    this.cache.kind = "none";
    this.cache.reason ??= reason;
  }
}

/** What a file of the Hub is stored under: its content's hash, whichever repository it is in. */
function blobKey(file: RepoFile | undefined): string {
  return file?.sha256 ?? (file?.sha1 ? `git-${file.sha1}` : "");
}

/** How deep a folder is looked into: split GGUF files lie one below the top. */
const DEPTH = 3;

async function filesOf(folder: FileSystemDirectoryHandle, path = "", depth = DEPTH): Promise<[string, File][]> {
  const files: [string, File][] = [];
  try {
    // Typings of pages lack the iteration.
    for await (const handle of (folder as unknown as { values(): AsyncIterable<FileSystemHandle> }).values()) {
      const name = path + handle.name;
      if (handle.kind === "file") files.push([name, await (handle as FileSystemFileHandle).getFile()]);
      else if (depth > 1) files.push(...(await filesOf(handle as FileSystemDirectoryHandle, `${name}/`, depth - 1)));
    }
  } catch (error) {
    throw new FanlightError("io", `the folder ${path || folder.name} could not be read: ${String(error)}`, "Pick it again.");
  }
  return files;
}

/** Files that a person picked: a folder of a checkpoint, or `.gguf` files. */
class PickedFiles implements Source {
  readonly names: string[];
  readonly cache = { kind: "none" as const, reason: "the files are on this device already", networkBytes: 0 };
  readonly downloading = false;
  readonly #files = new Map<string, File>();

  constructor(files: [string, File][]) {
    const paths = files.map(([path]) => path);
    // A picked folder puts its own name before all of them.
    const top = /^[^/]+\//.exec(paths[0] ?? "")?.[0] ?? "";
    const below = top !== "" && paths.every((path) => path.startsWith(top)) ? top.length : 0;
    for (const [path, file] of files) this.#files.set(path.slice(below), file);
    this.names = [...this.#files.keys()];
  }

  async size(name: string): Promise<number | undefined> {
    return this.#files.get(name)?.size;
  }

  async read(name: string, start: number, end: number): Promise<Uint8Array> {
    const file = this.#files.get(name);
    if (!file) throw new FanlightError("not_found", `${name} is not among the picked files`, "Pick all of them.");
    try {
      return new Uint8Array(await file.slice(start, end).arrayBuffer());
    } catch (error) {
      throw new FanlightError("io", `${name} could not be read: ${String(error)}`, "Pick the files again.");
    }
  }

  async expect(): Promise<void> {}

  sequential(): boolean {
    return false;
  }

  prepared(): undefined {}

  keeps(): boolean {
    return false;
  }

  keep(): void {}

  async finish(): Promise<void> {}

  close(): void {}
}

/** Which files of GGUF to load, where a caller has named none and there is no folder in Hugging Face layout. */
export function findGguf(names: string[], gguf?: string, mmproj?: string): { gguf?: string; mmproj?: string } {
  if (!gguf) {
    if (names.includes("config.json") && names.some((name) => /^model.*\.safetensors$/.test(name))) return {};
    // Of a split file the first part stands for all.
    const whole = names.filter((name) => /\.gguf$/.test(name) && !/mmproj/.test(name));
    const files = whole.filter((name) => !/-(?!00001)\d{5}-of-\d{5}\.gguf$/.test(name));
    if (files.length === 0) return {};
    if (files.length > 1) {
      const message = `there are ${files.length} models here: ${files.join(", ")}`;
      throw new FanlightError("bad_request", message, "Name one of them with the option `gguf`.");
    }
    gguf = files[0] as string;
  }
  const all = names.filter((name) => /mmproj.*\.gguf$/.test(name));
  // Where several models lie side by side, a tower has its model's name in its own.
  const stem = gguf.replace(/\.gguf$/, "");
  const named = all.filter((name) => name.includes(stem));
  const towers = named.length > 0 ? named : all;
  // Sixteen bits are what the tower is made for; it is small.
  mmproj ??= towers.find((name) => /b?f16/i.test(name)) ?? (towers.length === 1 ? towers[0] : undefined);
  return mmproj ? { gguf, mmproj } : { gguf };
}
