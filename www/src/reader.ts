// Reads byte ranges of a checkpoint's files over HTTP: Range requests, retries, and whole files where a server has no
// ranges. Every failure is a FanlightError, and a connection that falls silent is one too.

import { FanlightError } from "./errors.js";
import type { Reader } from "./wasm.js";

/** The first request for a file brings this much: most files are smaller, and so is a safetensors header. */
const FIRST_BYTES = 256 * 1024;
const RETRY_AFTER_MS = [300, 1500];
const SILENCE_MS = 30_000;
/** One ArrayBuffer holds no more in Chrome. */
const LARGEST_BUFFER = 2_145_386_496;

interface Known {
  size: number;
  /** The file from its beginning: all of it when the server has no ranges. */
  head: Uint8Array;
}

export class HttpReader implements Reader {
  readonly #base: URL;
  readonly #known = new Map<string, Promise<Known | undefined>>();

  constructor(base: URL) {
    this.#base = base;
  }

  async size(file: string): Promise<number | undefined> {
    return (await this.#open(file))?.size;
  }

  async read(file: string, start: number, end: number): Promise<Uint8Array> {
    const known = await this.#open(file);
    if (!known) throw new FanlightError("not_found", `${this.#url(file)} is not there`, MODEL_FOLDER_HINT);
    if (!(0 <= start && start <= end && end <= known.size)) {
      throw new FanlightError("bad_model", `${file}: bytes ${start} to ${end} of a file of ${known.size} were asked for`);
    }
    if (end <= known.head.length) return known.head.slice(start, end);
    return this.#retrying(async () => {
      const response = await this.#fetch(file, start, end);
      if (response.status === 206 && (rangeOf(response)?.start ?? start) === start) {
        const bytes = await body(response, end - start, this.#url(file));
        if (bytes.length === end - start) return bytes;
        throw cut(this.#url(file), bytes.length, end - start);
      }
      throw new FanlightError("network", `${this.#url(file)} answered ${response.status} to a range request`, "", true);
    });
  }

  #url(file: string): URL {
    // Names may come from an index file someone else wrote: they stay inside the folder.
    if (!/^[\w][\w.\-/]*$/.test(file) || file.split("/").includes("..")) {
      throw new FanlightError("bad_model", `"${file}" is no file name of a checkpoint`);
    }
    const url = new URL(this.#base);
    url.pathname += file;
    return url;
  }

  #open(file: string): Promise<Known | undefined> {
    let known = this.#known.get(file);
    if (!known) {
      known = this.#retrying(() => this.#first(file));
      this.#known.set(file, known);
      // A failure is not remembered: the next call asks again.
      known.catch(() => this.#known.delete(file));
    }
    return known;
  }

  async #first(file: string): Promise<Known | undefined> {
    const url = this.#url(file);
    const response = await this.#fetch(file, 0, FIRST_BYTES);
    if (response.status === 404) return undefined;
    if (response.status === 416) return { size: 0, head: new Uint8Array() };
    if (response.status === 206) {
      // A server of another origin may hide Content-Range, but never Content-Length.
      const size = rangeOf(response)?.total ?? (await this.#length(file));
      const expected = Math.min(FIRST_BYTES, size);
      const head = await body(response, expected, url);
      if (head.length !== expected) throw cut(url, head.length, expected);
      return { size, head };
    }
    if (response.status !== 200) throw refused(url, response.status);
    // No ranges here: this answer is the whole file. Its length header may be that of a compressed transfer.
    const length = Number(response.headers.get("content-length") ?? 0);
    if (length > LARGEST_BUFFER) {
      await response.body?.cancel();
      throw new FanlightError(
        "unsupported",
        `${url} is ${length} bytes and its server cannot send parts of it`,
        "Serve the checkpoint from a server that answers Range requests, or in smaller shards.",
      );
    }
    const head = await body(response, length, url);
    return { size: head.length, head };
  }

  async #length(file: string): Promise<number> {
    const response = await this.#fetch(file, 0, undefined, "HEAD");
    const length = response.headers.get("content-length");
    if (response.ok && length !== null) return Number(length);
    throw new FanlightError("network", `${this.#url(file)} does not say how long it is`);
  }

  async #fetch(file: string, start: number, end: number | undefined, method = "GET"): Promise<Response> {
    const url = this.#url(file);
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      return await fetch(url, {
        method,
        headers: { range: `bytes=${start}-${end === undefined ? "" : end - 1}` },
        // Range answers are not worth the HTTP cache, and Firefox aborts large streams into it.
        cache: "no-store",
        credentials: url.origin === location.origin ? "same-origin" : "omit",
        referrerPolicy: "no-referrer",
        signal: silence.signal,
      });
    } catch (error) {
      if (silence.signal.aborted) throw silent(url);
      if (url.origin !== location.origin && navigator.onLine) {
        throw new FanlightError(
          "cors",
          `${url.origin} did not let this page read ${file} (${String(error)})`,
          "The server must be reachable and send Access-Control-Allow-Origin for this page.",
          true,
        );
      }
      throw new FanlightError("network", `${url} could not be read (${String(error)})`, "Check the connection.", true);
    } finally {
      clearTimeout(timer);
    }
  }

  async #retrying<T>(attempt: () => Promise<T>): Promise<T> {
    for (const wait of RETRY_AFTER_MS) {
      try {
        return await attempt();
      } catch (error) {
        if (!(error instanceof FanlightError) || !error.retryable) throw error;
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
    return attempt();
  }
}

const MODEL_FOLDER_HINT = "The address must be a folder with config.json, tokenizer.json and model.safetensors.";

/** Reads a body, giving up when nothing arrives for a while. */
async function body(response: Response, expected: number, url: URL): Promise<Uint8Array> {
  const reader = response.body?.getReader();
  if (!reader) return new Uint8Array(await response.arrayBuffer());
  let bytes = new Uint8Array(expected);
  let filled = 0;
  for (;;) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(silent(url)), SILENCE_MS);
    });
    try {
      const { done, value } = await Promise.race([reader.read(), silence]);
      if (done) return filled === bytes.length ? bytes : bytes.slice(0, filled);
      if (filled + value.length > bytes.length) {
        const larger = new Uint8Array(Math.max(2 * bytes.length, filled + value.length));
        larger.set(bytes.subarray(0, filled));
        bytes = larger;
      }
      bytes.set(value, filled);
      filled += value.length;
    } catch (error) {
      reader.cancel().catch(() => {});
      if (error instanceof FanlightError) throw error;
      throw new FanlightError("network", `${url} broke off (${String(error)})`, "Check the connection.", true);
    } finally {
      clearTimeout(timer);
    }
  }
}

function rangeOf(response: Response): { start: number; total: number | undefined } | undefined {
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  return match ? { start: Number(match[1]), total: match[2] === "*" ? undefined : Number(match[2]) } : undefined;
}

function silent(url: URL): FanlightError {
  return new FanlightError("network", `${url} sent nothing for ${SILENCE_MS / 1000} s`, "Check the connection.", true);
}

function cut(url: URL, got: number, expected: number): FanlightError {
  return new FanlightError("network", `${url} ended after ${got} of ${expected} bytes`, "Check the connection.", true);
}

function refused(url: URL, status: number): FanlightError {
  const busy = status === 429 || status >= 500;
  const hint = status === 401 || status === 403 ? "The server wants a login for this model." : "";
  return new FanlightError("network", `${url} answered ${status}`, hint, busy);
}
