// The keys under which things are stored: the manifest of a checkpoint, the file of a commit, and weights that were prepared
// with given options.

import type { EngineOptions, RepoId } from "../protocol.js";
import type { Keeping } from "../types.js";
import { hex } from "./hash.js";
import type { RepoFile } from "./hub.js";

/** The sha256 of a text, cut to 32 digits. */
export const named = async (text: string): Promise<string> => (await hex("SHA-256", new TextEncoder().encode(text))).slice(0, 32);

/** The key of the manifest of a commit or a folder. */
export const repoManifest = ({ endpoint, repo }: RepoId, commit: string): Promise<string> => named(`${endpoint}${repo}@${commit}`);
export const folderManifest = (base: URL): Promise<string> => named(base.href);

export const preparedKey = async (manifest: string, wish: string): Promise<string> => `prepared-${await named(`${manifest}\n${wish}`)}`;

/** The key of the prepared weights for these options; nothing if the files are stored as they are. */
export function preparedFor(manifest: string, cache: Keeping, options: EngineOptions): Promise<string> | undefined {
  return keeping(cache, options) === "quantized" ? preparedKey(manifest, wishOf(options)) : undefined;
}

/** Files that are stored as they are need no prepared weights. */
export function keeping(cache: Keeping, { weights = "keep" }: EngineOptions): Keeping {
  return cache === "quantized" && weights === "keep" ? "opfs" : cache;
}

/** Everything besides the checkpoint on which prepared weights depend. */
export function wishOf({ weights = "keep", memory, contextLength, maxPixels, kvCache }: EngineOptions): string {
  return JSON.stringify([weights, ...(weights === "auto" ? [memory, contextLength, maxPixels, kvCache] : [])]);
}

/** The key of a file of the Hub: the hash of its content, whichever repository it is in. */
export function blobKey(file: RepoFile | undefined): string {
  return file?.sha256 ?? (file?.sha1 ? `git-${file.sha1}` : "");
}
