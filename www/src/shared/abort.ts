// Aborting: the error of an aborted call, and waiting that ends with a signal.

import { FanlightError } from "../errors.js";

export function aborted(message: string): FanlightError {
  return new FanlightError("aborted", message);
}

/** The result of the promise. Rejects with "aborted" as soon as the signal is aborted, without waiting for the promise. */
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
