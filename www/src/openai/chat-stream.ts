// A stream of chunks as OpenAI's client has it: read once, ended by its controller, given on as lines of JSON.

import { FanlightError } from "../errors.js";
import type { ChatChunk, ChatStream } from "./types.js";

/** `chunks` ends by itself when the controller aborts. */
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
      // Who leaves the loop wants no more of it.
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
          // Whoever reads it gets the error.
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

/** One of two: leaving it leaves the other one alone. */
function branchStream(chunks: AsyncGenerator<ChatChunk>, controller: AbortController): ChatStream {
  return {
    controller,
    [Symbol.asyncIterator]: () => chunks,
    toReadableStream: () => lines(chunks, controller),
    tee: () => tee(chunks, controller),
  };
}
