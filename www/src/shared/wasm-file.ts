// A file of wasm: what is refused before it is compiled, and what is said where it cannot be had.

import { FanlightError } from "../errors.js";

/** The file at an address, fetched and checked. */
export async function fetched(url: string): Promise<Response> {
  try {
    return checked(await fetch(url, { referrerPolicy: "no-referrer" }));
  } catch (error) {
    throw unusable(url, error);
  }
}

/** Refuses an answer that cannot be wasm. */
export function checked(response: Response): Response {
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  if (/^text\/html\b/.test(response.headers.get("content-type") ?? "")) throw new Error("the server sent a web page instead");
  return response;
}

/** What to throw where the wasm at `url` cannot be had or compiled. */
export function unusable(url: string, error: unknown): FanlightError {
  const message = error instanceof Error ? error.message : String(error);
  const hint = /Content.Security.Policy|unsafe-eval/i.test(message)
    ? "The Content-Security-Policy of the page and of the worker's script must allow script-src 'wasm-unsafe-eval'."
    : "Check that the file exists and is sent as application/wasm; a bundler may not have copied it. If it has another address, give that in the option `wasm`.";
  return new FanlightError("network", `the engine's wasm could not be loaded: ${url}: ${message}`, hint, true);
}
