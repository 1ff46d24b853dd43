// Whether a model can be loaded, and whether that needs a download, in the words of Chrome's Prompt API.

import { Http } from "../checkpoint/http.js";
import { fileUrl, resolve } from "../checkpoint/hub.js";
import { folderManifest, preparedFor, repoManifest } from "../checkpoint/keys.js";
import { isComplete } from "../checkpoint/models.js";
import { blobLock, type Manifest, modelLock, Store } from "../checkpoint/store.js";
import { FanlightError } from "../errors.js";
import type { EngineOptions, RepoId } from "../protocol.js";
import { support } from "../shared/support.js";
import type { Availability, Keeping, LoadOptions } from "../types.js";
import { loadArgs, type ModelSource } from "./load.js";

/**
 * Whether `load` with the same arguments can load the model, and whether it would have to download it. Uses the network
 * only if nothing of the model is kept on the device, and never downloads weights. Whether the model fits this device is
 * the question of `estimate`. Rejects with code "network" if the server cannot be asked.
 */
export async function availability(model: ModelSource, options: LoadOptions = {}): Promise<Availability> {
  const { signal } = options;
  signal?.throwIfAborted();
  const { place, cache, timeoutMs, options: engine } = await loadArgs(model, options);
  if (!(await support()).webgpu) return "unavailable";
  if (place.kind !== "hub" && place.kind !== "url") return "available";
  const store = cache === "none" ? undefined : await Store.open().catch(() => undefined);
  const manifests = (await store?.manifests().catch(() => [])) ?? [];
  const wanted = await wantedId(place.kind === "hub" ? place.id : new URL(place.base), manifests);
  const kept = manifests.find(({ id }) => id === wanted);
  if (store && kept && (await isHere(store, kept, cache, engine))) return "available";
  if (kept && (await isBusy(kept))) return "downloading";
  if (kept) return "downloadable";
  const http = new Http({
    timeoutMs,
    signal: signal ?? new AbortController().signal,
    ...(place.kind === "hub" && place.token && { token: { value: place.token, origin: new URL(place.id.endpoint).origin } }),
  });
  try {
    return await onServer(http, place.kind === "hub" ? place.id : new URL(place.base), engine);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof FanlightError && (error.code === "auth" || error.code === "not_found")) return "unavailable";
    throw error;
  }
}

/** The id under which the model would be stored, if it is known without the network: a revision is taken for the commit of last time. */
async function wantedId(place: RepoId | URL, manifests: Manifest[]): Promise<string | undefined> {
  if (place instanceof URL) return folderManifest(place);
  const { endpoint, repo, revision } = place;
  const ours = manifests.filter((manifest) => manifest.model === repo && manifest.endpoint === endpoint);
  return ours.find(({ commit, revisions }) => commit === revision || revisions.includes(revision))?.id;
}

async function isHere(store: Store, manifest: Manifest, cache: Keeping, engine: EngineOptions): Promise<boolean> {
  const { needed, files } = manifest;
  const isPrepared = (name: string) => name.startsWith("prepared-");
  const prepared = await preparedFor(manifest.id, cache, engine);
  const small = needed.filter((name) => !isPrepared(name) && !isWeights(name));
  // Weights that were prepared with other options cannot be used, and the files from which they were made have been removed.
  if (prepared && needed.includes(prepared)) return isComplete(store, manifest, [...small, prepared]);
  const asked = [engine.gguf, engine.mmproj].filter((name) => name !== undefined);
  const weights = needed.filter(isWeights);
  const others = asked.length > 0 ? asked : weights.length > 0 ? weights : Object.keys(files).filter(isWeights);
  return others.length > 0 && isComplete(store, manifest, [...small, ...others]);
}

const isWeights = (name: string): boolean => /\.(safetensors|gguf)$/.test(name);

/** Whether this tab or another one is loading the model or downloading one of its files. */
async function isBusy({ id, files }: Manifest): Promise<boolean> {
  const { held = [] } = await navigator.locks.query();
  const names = new Set(held.map(({ name }) => name));
  return names.has(modelLock(id)) || Object.values(files).some(({ key }) => names.has(blobLock(key)));
}

async function onServer(http: Http, place: RepoId | URL, { gguf }: EngineOptions): Promise<Availability> {
  const file = gguf ?? "config.json";
  const there = async (url: URL) => ((await http.head(url, file, 1)) ? "downloadable" : "unavailable");
  if (place instanceof URL) return there(new URL(file, place));
  const commit = await resolve(http, place);
  // This server has the Hub's paths only for files.
  if (!commit) return there(fileUrl(place, place.revision, file));
  // A tab that has just started loading has not stored a manifest yet, but already holds the lock.
  const lock = modelLock(await repoManifest(place, commit));
  const { held = [] } = await navigator.locks.query();
  return held.some(({ name }) => name === lock) ? "downloading" : "downloadable";
}
