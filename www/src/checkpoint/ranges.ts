// A set of whole numbers, stored as sorted half-open ranges. Used for the bytes of a file that are here or requested.

export type Range = [start: number, end: number];

export class Ranges {
  /** Sorted; no range is empty, and no two touch. */
  #list: Range[] = [];

  constructor(ranges: Iterable<Range> = []) {
    for (const [start, end] of ranges) this.add(start, end);
  }

  /** How many numbers are in the set. */
  get size(): number {
    return this.#list.reduce((sum, [start, end]) => sum + end - start, 0);
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    const before = this.#list.filter(([, e]) => e < start);
    const after = this.#list.filter(([s]) => s > end);
    const touched = this.#list.slice(before.length, this.#list.length - after.length);
    const first = Math.min(start, touched[0]?.[0] ?? start);
    const last = Math.max(end, touched.at(-1)?.[1] ?? end);
    this.#list = [...before, [first, last], ...after];
  }

  remove(start: number, end: number): void {
    const parts: Range[] = [];
    for (const [s, e] of this.#list) {
      if (s < Math.min(e, start)) parts.push([s, Math.min(e, start)]);
      if (Math.max(s, end) < e) parts.push([Math.max(s, end), e]);
    }
    this.#list = parts;
  }

  covers(start: number, end: number): boolean {
    return start >= end || this.reach(start) >= end;
  }

  /** The end of the range that contains `from`; `from` itself if it is not in the set. */
  reach(from: number): number {
    return this.#list.find(([start, end]) => start <= from && from < end)?.[1] ?? from;
  }

  /** The parts of `start` to `end` that are not in the set. */
  missing(start: number, end: number): Range[] {
    const holes: Range[] = [];
    let at = start;
    for (const [s, e] of this.#list) {
      if (e <= at) continue;
      if (s >= end) break;
      if (s > at) holes.push([at, s]);
      at = Math.max(at, e);
    }
    if (at < end) holes.push([at, end]);
    return holes;
  }

  /** The ranges of both sets. */
  with(other: Ranges): Ranges {
    return new Ranges([...this, ...other]);
  }

  [Symbol.iterator](): Iterator<Range> {
    return this.#list.values();
  }
}
