// An answer that can be read while it is generated.

import type { Delta, Result, Stream } from "../types.js";

/** Starts an answer at once, even before its pieces are read. Leaving the loop early ends the answer, as `signal` does. */
export function streamed(
  signal: AbortSignal | undefined,
  answer: (signal: AbortSignal, onDelta: (delta: Delta) => void) => Promise<Result>,
): Stream {
  const stop = new AbortController();
  const queue: Delta[] = [];
  let wake = () => {};
  let open = true;
  const result = answer(signal ? AbortSignal.any([signal, stop.signal]) : stop.signal, (delta) => {
    queue.push(delta);
    wake();
  });
  const end = () => {
    open = false;
    wake();
  };
  // A caller that only iterates gets the error from the loop. The promise must not report it as unhandled too.
  result.then(end, end);
  async function* deltas(): AsyncGenerator<Delta> {
    try {
      for (;;) {
        const delta = queue.shift();
        if (delta) yield delta;
        else if (open) await new Promise<void>((resolve) => (wake = resolve));
        else break;
      }
      await result;
    } finally {
      stop.abort();
    }
  }
  return { result, [Symbol.asyncIterator]: deltas };
}
