// What the Hub says about a repository: the commit of a revision, and the files of the commit with their lengths and hashes.
// Works with any server that has the Hub's paths (https://huggingface.co/docs/hub/api).

import { FanlightError } from "../errors.js";
import { shown } from "../shared/address.js";
import type { RepoId } from "../protocol.js";
import type { Http } from "./http.js";

export const HUB = "https://huggingface.co";

export interface RepoFile {
  size: number;
  /** The sha256 of the content, for large files. */
  sha256?: string | undefined;
  /** The sha1 of git's blob, for the other files. */
  sha1?: string | undefined;
}

export interface Repo {
  commit: string;
  files: Map<string, RepoFile>;
}

/** The Hub's own rules for a name (`validate_repo_id` of huggingface_hub), so that it can be part of a path. */
export function isRepoName(text: string): boolean {
  const part = /^(?!.*(\.\.|--))[A-Za-z0-9_]([\w.-]*[A-Za-z0-9_])?$/;
  const parts = text.split("/");
  return text.length <= 96 && parts.length === 2 && parts.every((name) => part.test(name));
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** Checks the parts of a repository's name, which the caller or a link has given. */
export function repoId(repo: string, revision = "main", endpoint: string = HUB): RepoId {
  if (!isRepoName(repo)) throw new FanlightError("bad_request", `"${repo}" is not a repository name of the form ORG/NAME`);
  // Branches may contain slashes, but no empty part and no part that begins with a dot, such as `..`.
  if (!/^[A-Za-z0-9_][\w.\-/]{0,254}$/.test(revision) || /(^|\/)(\.|$)/.test(revision)) {
    throw new FanlightError("bad_request", `"${revision}" is not the name of a branch, tag or commit`);
  }
  let url: URL;
  try {
    url = new URL(endpoint, globalThis.location?.href);
  } catch {
    throw new FanlightError("bad_request", `"${endpoint}" is not a valid address of a server`);
  }
  if (!/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new FanlightError("bad_request", `"${endpoint}" is not a plain http: or https: address of a server`);
  }
  return { endpoint: url.href.replace(/\/*$/, "/"), repo, revision };
}

/**
 * The address of a file in a repository. It is requested anew each time, because the addresses to which the server
 * redirects expire.
 */
export function fileUrl({ endpoint, repo }: RepoId, commit: string, file: string): URL {
  return new URL(`${endpoint}${repo}/resolve/${encodeURIComponent(commit)}/${file}`);
}

/** The commit of a revision; `undefined` if the server does not have it. */
export async function resolve(
  http: Http,
  { endpoint, repo, revision }: RepoId,
  attempts?: number,
): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const url = new URL(`${endpoint}api/models/${repo}/revision/${encodeURIComponent(revision)}`);
  const answer = await http.json(url, attempts);
  const commit = (answer?.value as { sha?: unknown } | undefined)?.sha;
  if (answer && (typeof commit !== "string" || !isCommit(commit))) throw odd(url, "a commit");
  return commit as string | undefined;
}

/** All files of a commit. */
export async function list(http: Http, { endpoint, repo }: RepoId, commit: string): Promise<Map<string, RepoFile>> {
  const files = new Map<string, RepoFile>();
  let next: URL | undefined = new URL(`${endpoint}api/models/${repo}/tree/${commit}?recursive=true`);
  for (let pages = 0; next; pages++) {
    const url: URL = next;
    const answer = await http.json(url);
    if (!answer) throw new FanlightError("not_found", `${repo} has no commit ${commit}`, "Check the revision.");
    if (!Array.isArray(answer.value) || pages >= MOST_PAGES) throw odd(url, "a list of files");
    for (const entry of answer.value) addFile(files, entry as Partial<TreeEntry> | null);
    const link = /<([^>]+)>;\s*rel="next"/.exec(answer.headers.get("link") ?? "")?.[1];
    next = link ? new URL(link, url) : undefined;
    // On another host, the token would be sent to that host.
    if (next && next.origin !== url.origin) throw odd(url, "its next page on the same server");
  }
  return files;
}

const MOST_PAGES = 100;

interface TreeEntry {
  type: string;
  path: string;
  size: number;
  oid: string;
  lfs: { oid: string; size: number };
}

function addFile(files: Map<string, RepoFile>, entry: Partial<TreeEntry> | null): void {
  if (entry?.type !== "file" || typeof entry.path !== "string") return;
  const size = entry.lfs?.size ?? entry.size;
  if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return;
  const sha256 = /^[0-9a-f]{64}$/.exec(entry.lfs?.oid ?? "")?.[0];
  const sha1 = entry.lfs ? undefined : /^[0-9a-f]{40}$/.exec(entry.oid ?? "")?.[0];
  files.set(entry.path, { size, sha256, sha1 });
}

function odd(url: URL, expected: string): FanlightError {
  return new FanlightError("network", `${shown(url)} did not answer with ${expected}`, "Check the endpoint.");
}
