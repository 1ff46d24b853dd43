// What is kept on this device: to show it, and to remove it. Needs no worker and no network.

import { FanlightError } from "./errors.js";
import { type Manifest, modelLock, Store } from "./store.js";
import type { CachedModel } from "./types.js";

/** What is kept on this device: to show it, and to remove it. Needs no worker and no network. */
export const models = {
  /** Every checkpoint of which files are kept, the last used first. Where nothing can be kept, none. */
  async list(): Promise<CachedModel[]> {
    const store = await opened();
    if (!store) return [];
    const found = await Promise.all((await store.manifests()).map((manifest) => described(store, manifest)));
    return found.sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
  },

  /** Bytes that all of them take. */
  async size(): Promise<number> {
    const store = await opened();
    if (!store) return 0;
    const keys = new Set((await store.manifests()).flatMap(({ files }) => Object.values(files).map(({ key }) => key)));
    const sizes = await Promise.all([...keys].map((key) => store.bytes(key)));
    return sizes.reduce((total, size) => total + size, 0);
  },

  /**
   * Removes a checkpoint: an `id` of the list, or the `ORG/NAME` or address that it was loaded by (all its revisions
   * then). Files that another one shares stay. Throws `busy` while some tab is loading it; nothing is removed then.
   */
  async remove(model: string | CachedModel): Promise<void> {
    const store = await opened();
    const name = typeof model === "string" ? model : model.id;
    const gone = (await store?.manifests())?.filter((manifest) => [manifest.id, manifest.model].includes(name)) ?? [];
    for (const { id, model } of gone) {
      await navigator.locks.request(modelLock(id), { ifAvailable: true }, async (lock) => {
        if (!lock) throw new FanlightError("busy", `${model} is being loaded`, "Wait until it is loaded, then remove it.", true);
        await store?.drop(id);
      });
    }
  },
};

async function opened(): Promise<Store | undefined> {
  try {
    return await Store.open();
  } catch {
    return undefined;
  }
}

async function described(store: Store, manifest: Manifest): Promise<CachedModel> {
  const { id, model, endpoint, commit, revisions, files, needed, used } = manifest;
  const keys = [...new Set(Object.values(files).map(({ key }) => key))].filter((key) => key !== "");
  const sizes = await Promise.all(keys.map((key) => store.bytes(key)));
  const complete = await Promise.all(
    needed.map(async (name) => {
      const file = files[name];
      const blob = file && (await store.blob(file.key, file));
      return blob !== undefined && (blob.complete || file?.sha256 === undefined);
    }),
  );
  return {
    id,
    model,
    ...(endpoint !== undefined && { endpoint }),
    ...(commit !== undefined && { commit }),
    revisions,
    bytes: sizes.reduce((total, size) => total + size, 0),
    complete: needed.length > 0 && complete.every(Boolean),
    lastUsed: new Date(used),
  };
}
