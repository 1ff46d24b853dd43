// Downloads a wasm file and checks the response before it is compiled.

import { FanlightError } from "../errors.js";
import { shown } from "./address.js";

/** Downloads and checks the file at an address. */
export async function fetched(url: string): Promise<Response> {
  try {
    return checked(await fetch(url, { referrerPolicy: "no-referrer" }));
  } catch (error) {
    throw unusable(url, error);
  }
}

/** Throws if the response cannot be wasm. */
export function checked(response: Response): Response {
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  if (/^text\/html\b/.test(response.headers.get("content-type") ?? "")) throw new Error("the server sent a web page instead");
  return response;
}

/** The error for a wasm file that cannot be downloaded or compiled. */
export function unusable(url: string, error: unknown): FanlightError {
  const message = error instanceof Error ? error.message : String(error);
  const hint = /Content.Security.Policy|unsafe-eval/i.test(message)
    ? "The Content-Security-Policy of the page and of the worker's script must allow script-src 'wasm-unsafe-eval'."
    : "Check that the file exists and is sent as application/wasm; a bundler may not have copied it. If it has another address, give that in the option `wasm`.";
  return new FanlightError("network", `the engine's wasm could not be loaded: ${shown(url)}: ${message}`, hint, true);
}
