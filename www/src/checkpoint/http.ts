// All requests for checkpoints: downloads that resume at the byte where they stopped, retries with growing pauses, a token
// that is sent to one origin only, and readable errors. Every failure that leaves this file is a FanlightError.

import { FanlightError } from "../errors.js";
import { shown } from "../shared/address.js";

/** How many failures in a row without progress end a download, and the pause after the first failure. */
const ATTEMPTS = 6;
const FIRST_PAUSE_MS = 400;
/** The longest pause, whatever a server's Retry-After says. */
const LONGEST_PAUSE_MS = 60_000;
/** An attempt that received this many bytes counts as progress. */
const PROGRESS_BYTES = 64 * 1024;
/** A connection that is slower than this has failed, because a download at this speed would never end. */
const LEAST_BYTES_PER_SECOND = 1024;
/** The most bytes of a JSON document, and of a file whose length the server does not tell. */
const MOST_JSON = 16 << 20;
const MOST_UNKNOWN = 256 << 20;
const FILE = "application/octet-stream";

export interface HttpOptions {
  /** Sent as `Authorization: Bearer …` to this origin and to no other. */
  token?: { value: string; origin: string };
  /** A connection that receives no data for this long has failed. */
  timeoutMs: number;
  signal: AbortSignal;
}

export interface Part {
  url: URL;
  /** The file's name, for messages. */
  file: string;
  start: number;
  end: number;
  /** The length of the file, if known. */
  size?: number | undefined;
}

/** The beginning of a file, and what the response said about it. */
export interface Head {
  size: number;
  bytes: Uint8Array;
  /** A value that changes when the file changes: its ETag or date. */
  version: string | undefined;
  /** Whether the server sends ranges of files. */
  ranges: boolean;
}

export class Http {
  readonly #options: HttpOptions;

  constructor(options: HttpOptions) {
    this.#options = options;
  }

  /** A JSON document with the headers of its response; `undefined` for 404. */
  async json(url: URL, attempts = ATTEMPTS): Promise<{ value: unknown; headers: Headers } | undefined> {
    return this.#retrying(attempts, async () => {
      const response = await this.#fetch(url, url.pathname, { accept: "application/json" });
      if (response.status === 404) return undefined;
      if (!response.ok) throw refused(url, response);
      const text = new TextDecoder().decode(await this.#all(response, url, MOST_JSON));
      try {
        return { value: JSON.parse(text) as unknown, headers: response.headers };
      } catch {
        throw new FanlightError("network", `${shown(url)} did not answer with JSON`, WRONG_SERVER);
      }
    });
  }

  /**
   * The first `bytes` of a file whose length is not known; `undefined` for 404. If the file is `optional`, it is also not there where a
   * server answers with a web page (development servers and hosts of single-page apps do) or with 403 (S3 does, to everybody who may not
   * list its files).
   */
  async head(url: URL, file: string, bytes: number, optional = false): Promise<Head | undefined> {
    return this.#retrying(ATTEMPTS, async () => {
      const response = await this.#fetch(url, file, { range: `bytes=0-${bytes - 1}`, accept: FILE });
      const { headers } = response;
      const version = headers.get("etag") ?? headers.get("last-modified") ?? undefined;
      const none = response.status === 404 || (optional && (response.status === 403 || isHtml(response)));
      if (none) {
        response.body?.cancel().catch(() => {});
        return undefined;
      }
      if (response.status === 416) return { size: 0, bytes: new Uint8Array(), version, ranges: true };
      if (response.status === 206) {
        refuseHtml(url, file, response);
        const body = await this.#all(response, url, bytes, bytes);
        // A server of another origin may hide Content-Range. Then fewer bytes than were asked for are the whole file.
        const size = rangeOf(response)?.total ?? (body.length < bytes ? body.length : await this.#length(url, file));
        if (body.length !== Math.min(bytes, size)) throw cut(url, body.length, Math.min(bytes, size));
        return { size, bytes: body, version, ranges: true };
      }
      if (response.status !== 200) throw refused(url, response);
      refuseHtml(url, file, response);
      // This server does not send ranges.
      const length = lengthOf(response);
      if (length !== undefined && length > bytes) {
        await response.body?.cancel();
        return { size: length, bytes: new Uint8Array(), version, ranges: false };
      }
      const body = await this.#all(response, url, MOST_UNKNOWN);
      // The length may be that of a compressed transfer, which a server of another origin need not admit. Then more bytes arrive.
      if (length !== undefined && body.length < length) throw cut(url, body.length, length);
      return { size: body.length, bytes: body, version, ranges: false };
    });
  }

  /**
   * Passes the bytes of `part` to `write`, in order, and resumes where a connection broke. `whole` is called if the server
   * sends the whole file instead; it changes the part to the whole file. `write` then receives all of it, again from 0
   * after a break.
   */
  async read(part: Part, write: (at: number, bytes: Uint8Array) => Promise<void>, whole: () => void): Promise<void> {
    const { url, file, size } = part;
    let at = part.start;
    let failures = 0;
    let sentWhole = false;
    while (at < part.end) {
      const from = at;
      try {
        const response = await this.#fetch(url, file, { range: `bytes=${at}-${part.end - 1}`, accept: FILE });
        refuseHtml(url, file, response);
        if (response.status === 200) {
          const length = lengthOf(response);
          if (length !== undefined && size !== undefined && length !== size) throw wrongLength(file, size, length);
          if (!sentWhole) whole();
          sentWhole = true;
          at = 0;
        } else if (response.status === 206) {
          const range = rangeOf(response);
          if (range && range.start !== at) throw wrongRange(url, at, range.start);
          if (range?.total !== undefined && size !== undefined && range.total !== size) {
            throw wrongLength(file, size, range.total);
          }
        } else if (response.status === 416) {
          throw wrongLength(file, size, undefined);
        } else {
          throw refused(url, response);
        }
        await this.#body(response, url, async (bytes) => {
          const room = part.end - at;
          if (response.status === 200 && bytes.length > room) throw wrongLength(file, part.end, at + bytes.length);
          await write(at, bytes.subarray(0, room));
          at += Math.min(bytes.length, room);
          return response.status === 200 || at < part.end;
        });
        if (at < part.end) throw cut(url, at - from, part.end - from);
      } catch (error) {
        if (!(error instanceof FanlightError) || !error.retryable || this.#options.signal.aborted) throw error;
        failures = !sentWhole && at - from >= PROGRESS_BYTES ? 1 : failures + 1;
        if (failures >= ATTEMPTS) throw error;
        await this.#pause(failures, error);
      }
    }
  }

  /** Repeats a request that failed in a way that may be temporary. */
  async #retrying<T>(attempts: number, attempt: () => Promise<T>): Promise<T> {
    for (let failures = 1; ; failures++) {
      try {
        return await attempt();
      } catch (error) {
        const mayPass = error instanceof FanlightError && error.retryable && !this.#options.signal.aborted;
        if (!mayPass || failures >= attempts) throw error;
        await this.#pause(failures, error);
      }
    }
  }

  async #pause(failures: number, error: FanlightError): Promise<void> {
    // A random part of the pause keeps pages from retrying all at the same moment.
    const growing = FIRST_PAUSE_MS * 2 ** (failures - 1) * (0.75 + Math.random() / 2);
    const { signal } = this.#options;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, error instanceof Busy ? (error.waitMs ?? growing) : growing);
      signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });
    if (signal.aborted) throw new FanlightError("aborted", "loading was aborted");
  }

  async #length(url: URL, file: string): Promise<number> {
    // With a range, browsers ask for the file as it is. Without one, a server may compress it and then sends no length.
    const response = await this.#fetch(url, file, { range: "bytes=0-", accept: FILE }, "HEAD");
    const length = response.headers.get("content-length");
    if (response.ok && length !== null) return Number(length);
    throw new FanlightError("network", `${shown(url)} does not send its length (Content-Length)`, WRONG_SERVER);
  }

  async #fetch(url: URL, file: string, headers: Record<string, string>, method = "GET"): Promise<Response> {
    const { token, timeoutMs, signal } = this.#options;
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), timeoutMs);
    // fetch removes this header by itself when a redirect leaves the origin.
    if (token && token.origin === url.origin) headers = { ...headers, authorization: `Bearer ${token.value}` };
    try {
      return await fetch(url, {
        method,
        headers,
        // Ranges are not useful in the HTTP cache, and Firefox aborts large streams into it.
        cache: "no-store",
        credentials: url.origin === location.origin ? "same-origin" : "omit",
        referrerPolicy: "no-referrer",
        signal: AbortSignal.any([silence.signal, signal]),
      });
    } catch (error) {
      if (signal.aborted) throw new FanlightError("aborted", "loading was aborted");
      if (silence.signal.aborted) throw this.#silent(url);
      if (url.origin !== location.origin && navigator.onLine) throw await this.#unreadable(url, file, error);
      throw new FanlightError("network", `${shown(url)} could not be read (${String(error)})`, CONNECTION, true);
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * The error for a server of another origin whose answer cannot be read. Browsers do not say why, so this finds out: a server that
   * can be reached does not allow this page to read its answers, and asking again changes nothing.
   */
  async #unreadable(url: URL, file: string, error: unknown): Promise<FanlightError> {
    const { timeoutMs, signal } = this.#options;
    // Neither the token nor the page's address is sent with this.
    const probe = { mode: "no-cors", method: "HEAD", cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer" } as const;
    const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const reached = await fetch(url, { ...probe, signal: within }).then(() => true, () => false);
    // A connection that broke looks the same, so a server is given a second chance before this is the last word.
    const sure = reached && this.#unreadables.has(url.origin);
    if (reached) this.#unreadables.add(url.origin);
    const hint = "The server, and every server that it redirects to, must be reachable and send Access-Control-Allow-Origin.";
    return new FanlightError("cors", `${url.origin} did not let this page read ${file} (${String(error)})`, hint, !sure);
  }

  /** Origins that could be reached when their answer could not be read. */
  readonly #unreadables = new Set<string>();

  /**
   * Passes on a response body as it arrives. Stops when `take` says so, and fails when no data arrives for a while, or too little. Only
   * the time in which the server is waited for counts.
   */
  async #body(response: Response, url: URL, take: (bytes: Uint8Array) => Promise<boolean>): Promise<void> {
    const reader = response.body?.getReader();
    if (!reader) return;
    let [waited, received] = [0, 0];
    try {
      for (;;) {
        const asked = performance.now();
        const value = await this.#within(reader.read(), url);
        waited += performance.now() - asked;
        received += value.value?.length ?? 0;
        if (waited > this.#options.timeoutMs && !value.done) {
          if (received < (LEAST_BYTES_PER_SECOND * waited) / 1000) throw tooSlow(url, received, waited);
          [waited, received] = [0, 0];
        }
        if (value.done || !(await take(value.value))) return;
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  async #within<T>(read: Promise<T>, url: URL): Promise<T> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#silent(url)), this.#options.timeoutMs);
    });
    try {
      return await Promise.race([read, silence]);
    } catch (error) {
      if (error instanceof FanlightError) throw error;
      if (this.#options.signal.aborted) throw new FanlightError("aborted", "loading was aborted");
      throw new FanlightError("network", `${shown(url)} stopped sending data (${String(error)})`, CONNECTION, true);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The complete body of a response that has at most this many bytes. */
  async #all(response: Response, url: URL, most: number, expected = 0): Promise<Uint8Array> {
    let bytes = new Uint8Array(expected);
    let filled = 0;
    await this.#body(response, url, async (piece) => {
      if (filled + piece.length > most) throw tooLong(url, most);
      if (filled + piece.length > bytes.length) {
        const larger = new Uint8Array(Math.max(2 * bytes.length, filled + piece.length));
        larger.set(bytes.subarray(0, filled));
        bytes = larger;
      }
      bytes.set(piece, filled);
      filled += piece.length;
      return true;
    });
    return bytes.subarray(0, filled);
  }

  #silent(url: URL): FanlightError {
    const seconds = this.#options.timeoutMs / 1000;
    return new FanlightError("network", `${shown(url)} sent no data for ${seconds} s`, CONNECTION, true);
  }
}

const CONNECTION = "Check the connection; what has arrived is kept.";
const WRONG_SERVER = "Check the address: it must be a server that gives out a checkpoint's files.";

/** The error for a server that asks to wait, with how long. */
class Busy extends FanlightError {
  readonly waitMs: number | undefined;

  constructor(message: string, waitMs: number | undefined) {
    super("network", message, "The server is busy; try again later.", true);
    this.waitMs = waitMs;
  }
}

/** The error for a response that is neither the file nor "not found". */
function refused(url: URL, response: Response): FanlightError {
  const { status, headers } = response;
  response.body?.cancel().catch(() => {});
  const words = [headers.get("x-error-code"), headers.get("x-error-message")].filter(Boolean).join(": ");
  const message = `${shown(url)} answered ${status}${words ? ` (${words})` : ""}`;
  if (status === 401 || status === 403) {
    return new FanlightError("auth", message, "If this is a repository, give a token that has access to it, or check its name. Otherwise the file must be public.");
  }
  if (status === 404) return new FanlightError("not_found", message, "Check the name of the model and of its files.");
  if (status === 429 || status >= 500) return new Busy(message, patience(headers));
  return new FanlightError("network", message, WRONG_SERVER);
}

/** How long a busy server asks to wait. */
function patience(headers: Headers): number | undefined {
  const after = headers.get("retry-after");
  // "ratelimit: …;t=seconds" is the Hub's newer format.
  const seconds = /^\d+$/.test(after ?? "") ? after : /;\s*t=(\d+)/.exec(headers.get("ratelimit") ?? "")?.[1];
  const ms = seconds != null ? 1000 * Number(seconds) : after != null ? Date.parse(after) - Date.now() : Number.NaN;
  return Number.isNaN(ms) ? undefined : Math.min(Math.max(ms, 0), LONGEST_PAUSE_MS);
}

const isHtml = ({ ok, headers }: Response): boolean => ok && /^text\/html\b/i.test(headers.get("content-type") ?? "");

/** Throws if the response is a web page instead of a file, such as a login page. */
function refuseHtml(url: URL, file: string, response: Response): void {
  if (!isHtml(response)) return;
  response.body?.cancel().catch(() => {});
  throw new FanlightError("network", `${shown(url)} answered with a web page where ${file} was expected`, WRONG_SERVER);
}

function rangeOf(response: Response): { start: number; total: number | undefined } | undefined {
  const match = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.headers.get("content-range") ?? "");
  return match ? { start: Number(match[1]), total: match[2] === "*" ? undefined : Number(match[2]) } : undefined;
}

/** The length of a complete response, if the header gives it and it is not that of a compressed transfer. */
function lengthOf({ headers }: Response): number | undefined {
  const length = headers.get("content-encoding") ? null : headers.get("content-length");
  return length === null ? undefined : Number(length);
}

function cut(url: URL, got: number, expected: number): FanlightError {
  return new FanlightError("network", `${shown(url)} sent only ${got} of ${expected} bytes`, CONNECTION, true);
}

function tooSlow(url: URL, bytes: number, ms: number): FanlightError {
  const message = `${shown(url)} sent only ${bytes} bytes in ${Math.round(ms / 1000)} s`;
  return new FanlightError("network", message, CONNECTION, true);
}

function tooLong(url: URL, most: number): FanlightError {
  return new FanlightError("network", `${shown(url)} sent more than the ${most} bytes that were expected at most`, WRONG_SERVER);
}

function wrongRange(url: URL, asked: number, came: number): FanlightError {
  return new FanlightError("network", `${shown(url)} sent bytes from ${came} on instead of from ${asked} on`, "", true);
}

function wrongLength(file: string, expected: number | undefined, found: number | undefined): FanlightError {
  const length = found === undefined ? "shorter" : `${found} bytes long`;
  const message = `${file} should have ${expected ?? "?"} bytes, but has ${length} bytes on the server`;
  return new FanlightError("integrity", message, "The file has changed on the server. Load the model again.");
}
