// What ends with a signal: the error that it ends with, and waiting.

import { FanlightError } from "../errors.js";

export function aborted(message: string): FanlightError {
  return new FanlightError("aborted", message);
}

/** What the promise gives, or "aborted" as soon as the signal says so, whatever becomes of the promise. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined, message: string): Promise<T> {
  if (!signal) return promise;
  const over = new AbortController();
  const gone = new Promise<never>((_, reject) => {
    const end = () => reject(aborted(message));
    if (signal.aborted) end();
    else signal.addEventListener("abort", end, { signal: over.signal });
  });
  try {
    return await Promise.race([promise, gone]);
  } finally {
    over.abort();
  }
}
