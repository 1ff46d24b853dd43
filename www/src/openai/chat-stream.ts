// A stream of chunks with the interface of OpenAI's client: it can be read once, its controller ends it, and it can be
// converted to lines of JSON.

import { FanlightError } from "../errors.js";
import type { ChatChunk, ChatStream } from "./types.js";

/** Makes a stream of chunks. `chunks` must end by itself when the controller aborts. */
export function chatStream(chunks: AsyncGenerator<ChatChunk>, controller: AbortController): ChatStream {
  let read = false;
  async function* iterate(): AsyncGenerator<ChatChunk> {
    if (read) throw new FanlightError("bad_request", "this stream has been read already", "Use tee() to read it twice.");
    read = true;
    let done = false;
    try {
      for await (const chunk of chunks) {
        if (controller.signal.aborted) break;
        yield chunk;
      }
      done = true;
    } catch (error) {
      if (!controller.signal.aborted) throw error;
    } finally {
      // A caller that leaves the loop early wants no more chunks, so the answer ends.
      if (!done) controller.abort();
    }
  }
  const stream: ChatStream = {
    controller,
    [Symbol.asyncIterator]: iterate,
    toReadableStream: () => lines(iterate(), controller),
    tee: () => tee(iterate(), controller),
  };
  return stream;
}

function lines(chunks: AsyncGenerator<ChatChunk>, controller: AbortController): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(out) {
      const { value, done } = await chunks.next();
      if (done) out.close();
      else out.enqueue(encoder.encode(`${JSON.stringify(value)}\n`));
    },
    async cancel() {
      controller.abort();
      await chunks.return(undefined);
    },
  });
}

function tee(chunks: AsyncGenerator<ChatChunk>, controller: AbortController): [ChatStream, ChatStream] {
  const waiting: Promise<IteratorResult<ChatChunk>>[][] = [[], []];
  let open = 2;
  async function* branch(own: Promise<IteratorResult<ChatChunk>>[], other: Promise<IteratorResult<ChatChunk>>[]) {
    try {
      for (;;) {
        let next = own.shift();
        if (!next) {
          next = chunks.next();
          other.push(next);
          // The branch that reads the chunk gets the error, so it must not count as unhandled.
          next.catch(() => {});
        }
        const { value, done } = await next;
        if (done) return;
        yield value;
      }
    } finally {
      if (--open === 0) await chunks.return(undefined);
    }
  }
  const [left, right] = waiting as [(typeof waiting)[number], (typeof waiting)[number]];
  return [branchStream(branch(left, right), controller), branchStream(branch(right, left), controller)];
}

/** One of the two streams of `tee`. Leaving its loop early does not affect the other one. */
function branchStream(chunks: AsyncGenerator<ChatChunk>, controller: AbortController): ChatStream {
  return {
    controller,
    [Symbol.asyncIterator]: () => chunks,
    toReadableStream: () => lines(chunks, controller),
    tee: () => tee(chunks, controller),
  };
}
