// Bytes of a file that are kept in memory.

import { type Range, Ranges } from "./ranges.js";

/** Bytes in memory, in the pieces in which they arrived. */
export class Pieces {
  readonly ranges = new Ranges();
  #pieces: { at: number; bytes: Uint8Array }[] = [];

  add(at: number, bytes: Uint8Array): void {
    this.#pieces.push({ at, bytes });
    this.ranges.add(at, at + bytes.length);
  }

  /** Fills `into` with the bytes from `start` on, and returns the ranges that are missing. */
  copy(start: number, into: Uint8Array): Range[] {
    const end = start + into.length;
    for (const { at, bytes } of this.#pieces) {
      const [from, to] = [Math.max(start, at), Math.min(end, at + bytes.length)];
      if (from < to) into.set(bytes.subarray(from - at, to - at), from - start);
    }
    return this.ranges.missing(start, end);
  }

  drop(start: number, end: number): void {
    this.ranges.remove(start, end);
    this.#pieces = this.#pieces.flatMap(({ at, bytes }) => {
      const before = { at, bytes: bytes.subarray(0, Math.max(0, start - at)) };
      const after = Math.min(Math.max(0, end - at), bytes.length);
      const rest = { at: at + after, bytes: bytes.subarray(after) };
      return at + bytes.length <= start || at >= end ? [{ at, bytes }] : [before, rest].filter((p) => p.bytes.length > 0);
    });
  }

  /** Removes all pieces and returns them. */
  drain(): [number, Uint8Array][] {
    const all = this.#pieces.map(({ at, bytes }): [number, Uint8Array] => [at, bytes]);
    this.#pieces = [];
    this.ranges.remove(0, Number.POSITIVE_INFINITY);
    return all;
  }
}
