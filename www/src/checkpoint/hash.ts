// Checks that a file has the content that its server lists.

import { FanlightError } from "../errors.js";
import { Sha1 } from "./sha1.js";

/** A running hash. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** The hash in hexadecimal digits. */
  finish(): string | Promise<string>;
}

/** The hash that a server lists for a file: `sha256` for large files, git's `sha1` for small ones, or neither. */
export interface Digests {
  name: string;
  sha256?: string | undefined;
  sha1?: string | undefined;
}

/** The digest that a server lists, in words, as `digestOf` and `check` compare it. Nothing if it lists none. */
export function listed({ sha256, sha1 }: Digests): string | undefined {
  return sha256 ? `sha256 ${sha256}` : sha1 ? `git's sha1 ${sha1}` : undefined;
}

/** A running hash of the kind that the server lists for a file of this length. Its result is in the words of `listed`. */
export function hasherFor(digests: Digests & { size: number }, sha256: () => Hasher): Hasher | undefined {
  if (digests.sha256) return inWords("sha256", sha256());
  if (!digests.sha1) return undefined;
  const sha1 = new Sha1();
  // git hashes the length together with the content.
  sha1.update(new TextEncoder().encode(`blob ${digests.size}\0`));
  return inWords("git's sha1", sha1);
}

function inWords(kind: string, hasher: Hasher): Hasher {
  return { update: (bytes) => hasher.update(bytes), finish: async () => `${kind} ${await hasher.finish()}` };
}

/** The error for a file whose bytes are not what the server lists, or nothing if they are correct. */
export async function fault(digests: Digests, bytes: Uint8Array): Promise<FanlightError | undefined> {
  const expected = listed(digests);
  if (!expected) return undefined;
  const found = digests.sha256 ? `sha256 ${await hex("SHA-256", bytes)}` : `git's sha1 ${await gitBlob(bytes)}`;
  return expected === found ? undefined : damaged(digests.name, expected, found);
}

export function damaged(name: string, expected: string, found: string): FanlightError {
  const message = `${name} was damaged during the download and has been deleted: expected ${expected}, found ${found}`;
  return new FanlightError("integrity", message, "Load the model again. If the error stays, the file on the server is broken.", true);
}

export async function hex(algorithm: "SHA-1" | "SHA-256", bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest(algorithm, bytes as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The sha1 that git computes for a file's content. */
async function gitBlob(bytes: Uint8Array): Promise<string> {
  const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const all = new Uint8Array(header.length + bytes.length);
  all.set(header);
  all.set(bytes, header.length);
  return hex("SHA-1", all);
}
