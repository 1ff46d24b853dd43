// Whether a file is what its server says it is.

import { FanlightError } from "../errors.js";

/** A running sha256. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** In hexadecimal digits. */
  finish(): string | Promise<string>;
}

/** What a server says that a file's content hashes to: `sha256` for large files, git's `sha1` for small ones, or nothing. */
export interface Digests {
  name: string;
  sha256?: string | undefined;
  sha1?: string | undefined;
}

/** What is wrong with the bytes of a whole file, if anything is. */
export async function fault({ name, sha256, sha1 }: Digests, bytes: Uint8Array): Promise<FanlightError | undefined> {
  const [expected, found] = sha256
    ? [`sha256 ${sha256}`, `sha256 ${await hex("SHA-256", bytes)}`]
    : sha1
      ? [`git's sha1 ${sha1}`, `git's sha1 ${await gitBlob(bytes)}`]
      : ["", ""];
  return expected === found ? undefined : damaged(name, expected, found);
}

export function damaged(name: string, expected: string, found: string): FanlightError {
  const message = `${name} was damaged during the download and has been deleted: expected ${expected}, found ${found}`;
  return new FanlightError("integrity", message, "Load the model again. If the error stays, the file on the server is broken.", true);
}

export async function hex(algorithm: "SHA-1" | "SHA-256", bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest(algorithm, bytes as Uint8Array<ArrayBuffer>);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** As git names a file's content. */
async function gitBlob(bytes: Uint8Array): Promise<string> {
  const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
  const all = new Uint8Array(header.length + bytes.length);
  all.set(header);
  all.set(bytes, header.length);
  return hex("SHA-1", all);
}
