// Files at addresses: a repository on the Hub, a folder, or files with an address each. Downloaded files are stored if that
// is wanted, and used the next time.

import { FanlightError } from "../errors.js";
import type { Place, RepoId } from "../protocol.js";
import { dataBytes } from "../shared/data-url.js";
import type { CacheInfo } from "../types.js";
import { Download } from "./download.js";
import type { RemoteFile } from "./entry.js";
import { hex } from "./hash.js";
import { Http, type HttpOptions } from "./http.js";
import { fileUrl, isCommit, list, resolve } from "./hub.js";
import { blobKey, folderManifest, named, preparedKey, repoManifest } from "./keys.js";
import { Prepared } from "./prepared.js";
import type { Source, SourceOptions } from "./source.js";
import { hold, type Manifest, modelLock, Store } from "./store.js";

type RemotePlace = Exclude<Place, { kind: "files" | "folder" }>;

/** A file name may come from an index file that somebody else wrote, so it must not leave the folder. */
function checkName(file: string): void {
  if (!/^[\w.+=-]+(\/[\w.+=-]+)*$/.test(file) || file.split("/").some((part) => part.endsWith("."))) {
    throw new FanlightError("bad_model", `"${file}" is not a valid file name of a checkpoint`);
  }
}

/** Whether every checkpoint has this file. Of the others, many may be absent, and servers say that in several ways. */
const isNeeded = (name: string): boolean => name === "config.json" || name === "tokenizer.json" || /\.gguf$/i.test(name);

const FIRST_BYTES = 256 * 1024;
/** How often the server is asked for the commit of a revision, if the commit of last time is known. */
const IMPATIENT = 2;
/** Rust's name for the file of prepared weights. */
const PREPARED = "prepared.fanlight";

export class RemoteFiles implements Source {
  names: string[] | undefined;
  commit: string | undefined;
  readonly cache: Omit<CacheInfo, "persisted">;
  readonly #options: SourceOptions;
  readonly #http: Http;
  readonly #abort = new AbortController();
  #store: Store | undefined;
  #download: Download | undefined;
  #locate: (file: string) => Promise<RemoteFile | undefined> = async () => undefined;
  /** Files by name, including those that do not exist. */
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
    // Only with a commit is it certain that the files are still those from which the weights were prepared.
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
      throw new FanlightError("not_found", `the file ${file} does not exist`, "Check that the checkpoint is complete.");
    }
    return this.#running.read(file, start, end);
  }

  async expect(reads: { file: string; start: number; end: number }[]): Promise<void> {
    // Stored first, so that the files of an interrupted load can be found again.
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
    if (!this.#download) throw new FanlightError("internal", "a file was requested before its address was known");
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
      // A failure is not remembered: the next call tries again.
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
      // Without network, use the commit of last time, if there is one.
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
      return file && { ...file, name, url: fileUrl(id, commit, name), key: blobKey(file) || undefined, from: endpoint };
    };
  }

  /** A server that has the Hub's paths for files, but not for lists of files. */
  async #openUnlisted(id: RepoId): Promise<void> {
    const base = new URL(`${id.endpoint}${id.repo}/resolve/${encodeURIComponent(id.revision)}/`);
    const config = await this.#http.head(new URL("config.json", base), "config.json", FIRST_BYTES);
    if (!config) {
      const message = `${id.endpoint} has no repository ${id.repo} with a revision ${id.revision}`;
      throw new FanlightError("not_found", message, "Check the name. Private and gated repositories need a token.");
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

  /** Files with an address each. The query of an address may be a signature that changes each time, so it is ignored. */
  async #openListed(files: Record<string, string>): Promise<void> {
    this.names = Object.keys(files);
    this.names.forEach(checkName);
    const plain = (url: URL) => (url.protocol === "data:" ? url.href : `${url.origin}${url.pathname}`);
    const facts = this.names.map((name) => `${name}\n${plain(new URL(files[name] ?? ""))}`).sort();
    const id = await named(facts.join("\n"));
    const first = ["config.json", ...this.names].find((name) => files[name]?.startsWith("data:") === false);
    const model = first === undefined ? "data:" : plain(new URL(files[first] ?? ""));
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
        throw new FanlightError("bad_request", `the address of ${name} is not valid: ${String(error)}`);
      }
    };
  }

  /** A file of which only the address is known. */
  async #found(manifest: Manifest, name: string, url: URL, identity: string): Promise<RemoteFile | undefined> {
    const head = await this.#http.head(url, name, FIRST_BYTES, !isNeeded(name));
    if (!head) return undefined;
    const { size, version, bytes, ranges } = head;
    // Without a value that changes with the file, it is impossible to tell next time whether the file is the same.
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

  /** Stores prepared weights instead of the files from which they were made. */
  async #settlePrepared(): Promise<void> {
    const prepared = this.#prepared;
    const manifest = this.#manifest;
    if (!prepared || !manifest || !(prepared.complete || (await prepared.finish()))) {
      // Nothing was quantized, or it could not be stored. Then the files themselves are stored.
      if (this.cache.kind === "quantized") this.cache.kind = "opfs";
      return;
    }
    const made = this.#running.expected;
    await this.#discard(made.flatMap(({ key }) => key ?? []), manifest.id);
    manifest.files[prepared.key] = { size: prepared.size, key: prepared.key };
    manifest.needed = manifest.needed.filter((name) => !made.some((file) => file.name === name));
    manifest.needed.push(prepared.key);
  }

  /** Deletes files that no other checkpoint needs, unless another tab is loading this checkpoint. */
  async #discard(keys: string[], id: string): Promise<void> {
    const store = this.#store;
    if (!store) return;
    const all = await store.manifests().catch(() => undefined);
    // Without the lists it is unknown who needs them.
    if (!all) return;
    const others = all.filter((manifest) => manifest.id !== id);
    const needed = others.flatMap(({ needed, files }) => needed.map((name) => files[name]?.key));
    this.#releaseModel();
    // This tab's own lock is released a moment later. If another tab holds the lock for longer, the files stay.
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
