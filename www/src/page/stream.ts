// An answer that is read while it is written.

import type { Delta, Result, Stream } from "../types.js";

/** Begins an answer at once, whenever somebody reads. Leaving the loop early ends it, as `signal` does. */
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
  // Someone who only iterates gets the error from the loop; it must not count as unhandled as well.
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
