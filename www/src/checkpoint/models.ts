// Lists and removes the checkpoints that are kept on this device. Needs no worker and no network.

import { FanlightError } from "../errors.js";
import type { CachedFile, CachedModel } from "../types.js";
import { type Manifest, type ManifestFile, modelLock, Store, type Stored } from "./store.js";

/** Lists and removes the checkpoints that are kept on this device. Needs no worker and no network. */
export const models = {
  /** Every checkpoint of which files are kept, the last used first. Empty if this browser cannot keep files. */
  list(): Promise<CachedModel[]> {
    return guarded(async () => {
      const store = await opened();
      if (!store) return [];
      const found = await Promise.all((await store.manifests()).map((manifest) => described(store, manifest)));
      return found.sort((a, b) => b.lastUsed.getTime() - a.lastUsed.getTime());
    });
  },

  /** Bytes on the disk of all kept checkpoints together. */
  size(): Promise<number> {
    return guarded(async () => {
      const store = await opened();
      if (!store) return 0;
      const keys = new Set((await store.manifests()).flatMap(({ files }) => Object.values(files).map(({ key }) => key)));
      const sizes = await Promise.all([...keys].map((key) => store.bytes(key)));
      return sizes.reduce((total, size) => total + size, 0);
    });
  },

  /**
   * The files of a checkpoint, and how much of each is kept. `model` is an `id` from the list, or the `ORG/NAME` or address with
   * which the checkpoint was loaded (then the revision that was loaded last). Empty if nothing is kept of it.
   */
  files(model: string | CachedModel): Promise<CachedFile[]> {
    return guarded(async () => {
      const store = await opened();
      const [manifest] = (await matching(store, model)).sort((a, b) => b.used - a.used);
      if (!store || !manifest) return [];
      return Promise.all(
        Object.entries(manifest.files).map(async ([name, file]): Promise<CachedFile> => {
          const blob = await store.blob(file.key, file);
          const kept = blob !== undefined && isWhole(blob, file);
          const needed = manifest.needed.includes(name);
          return { file: name, size: file.size, bytes: kept ? file.size : (blob?.ranges.size ?? 0), complete: kept, needed };
        }),
      );
    });
  },

  /** Whether everything that the last load needed is kept, so that the next load with the same options downloads no file. */
  isCached(model: string | CachedModel): Promise<boolean> {
    return guarded(async () => {
      const store = await opened();
      const complete = (await matching(store, model)).map((manifest) => store && isComplete(store, manifest));
      return (await Promise.all(complete)).includes(true);
    });
  },

  /**
   * Removes a checkpoint. `model` is an `id` from the list, or the `ORG/NAME` or address with which it was loaded (then all its
   * revisions are removed). Files that another checkpoint also uses stay. Rejects with code "busy" while a tab is loading it.
   */
  remove(model: string | CachedModel): Promise<void> {
    return guarded(async () => {
      const store = await opened();
      for (const { id, model: name } of await matching(store, model)) {
        await navigator.locks.request(modelLock(id), { ifAvailable: true }, async (lock) => {
          if (!lock) throw new FanlightError("busy", `${name} is being loaded`, "Wait until it is loaded, then remove it.", true);
          await store?.drop(id);
        });
      }
    });
  },
};

/** The browser's errors of its file system become errors with the code "io". */
async function guarded<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof FanlightError) throw error;
    throw new FanlightError("io", `the browser's storage could not be used: ${String(error)}`, "Try again, or restart the browser.", true);
  }
}

async function opened(): Promise<Store | undefined> {
  try {
    return await Store.open();
  } catch {
    return undefined;
  }
}

async function matching(store: Store | undefined, model: string | CachedModel): Promise<Manifest[]> {
  const name = typeof model === "string" ? model : model.id;
  const address = URL.parse(name, document.baseURI)?.href;
  const names = [name, address, `${address}/`];
  return (await store?.manifests())?.filter(({ id, model }) => names.includes(id) || names.includes(model)) ?? [];
}

/** Whether all of the files `names` are kept; by default those that the last load read. */
export async function isComplete(store: Store, { files, needed }: Manifest, names = needed): Promise<boolean> {
  const whole = names.map(async (name) => {
    const file = files[name];
    const blob = file && (await store.blob(file.key, file));
    return blob !== undefined && isWhole(blob, file);
  });
  return names.length > 0 && (await Promise.all(whole)).every(Boolean);
}

/** Files of a server that lists no hashes are never marked complete. Once a load has read one, everything that is needed from it is kept. */
const isWhole = (blob: Stored, file: ManifestFile | undefined): boolean =>
  blob.complete || (file?.sha256 === undefined && file?.sha1 === undefined && file?.read === true);

async function described(store: Store, manifest: Manifest): Promise<CachedModel> {
  const { id, model, endpoint, commit, revisions, files, used } = manifest;
  const keys = [...new Set(Object.values(files).map(({ key }) => key))].filter((key) => key !== "");
  const sizes = await Promise.all(keys.map((key) => store.bytes(key)));
  return {
    id,
    model,
    ...(endpoint !== undefined && { endpoint }),
    ...(commit !== undefined && { commit }),
    revisions,
    bytes: sizes.reduce((total, size) => total + size, 0),
    complete: await isComplete(store, manifest),
    lastUsed: new Date(used),
  };
}
