// Which bytes are asked for next, over all files of a checkpoint: first what somebody waits for, then what will be read, in its
// order, then what only the hashes need.

import type { Entry } from "./entry.js";
import type { Range, Ranges } from "./ranges.js";

/** One request on the way to the disk, and one on the way to memory. */
const SEGMENT = { disk: 16 << 20, memory: 4 << 20 };
/** Most bytes that wait in memory. */
export const WINDOW = 32 << 20;

/** A range of a file that will be read. */
export interface Read {
  entry: Entry;
  start: number;
  end: number;
}

export class Queue {
  readonly #entries: ReadonlyMap<string, Entry>;
  /** What Rust will read, in its order. */
  #reads: Read[] = [];

  /** @param entries all files by name, as they are at any time */
  constructor(entries: ReadonlyMap<string, Entry>) {
    this.#entries = entries;
  }

  expect(reads: Read[]): void {
    this.#reads = reads;
  }

  /** The next request to make; nothing while memory is full, and once all has been asked for. */
  next(): { entry: Entry; range: Range } | undefined {
    for (const entry of this.#entries.values()) {
      for (const [start, end] of entry.urgent) {
        const range = this.#hole(entry, start, end);
        if (range) return { entry, range };
      }
    }
    // What has been read, or is on the disk, is not looked at again.
    while (this.#reads[0] && done(this.#reads[0])) this.#reads.shift();
    for (const { entry, start, end } of this.#reads) {
      if (!entry.ready) continue;
      // Without a disk a file that is hashed has to come in order, holes included.
      const range =
        entry.hash && !entry.writer
          ? this.#hole(entry, entry.hash.at, entry.file.size)
          : this.#hole(entry, start, end, entry.hash ? undefined : entry.expected);
      if (range) return this.#mayStart(entry) ? { entry, range } : undefined;
    }
    // What nobody reads is fetched for the hash, last.
    for (const entry of this.#entries.values()) {
      const range = entry.ready && entry.hash && this.#hole(entry, entry.hash.at, entry.file.size);
      if (range) return this.#mayStart(entry) ? { entry, range } : undefined;
    }
    return undefined;
  }

  /** The first bytes from `start` to `end`, and of `only`, that are neither here nor on their way. */
  #hole(entry: Entry, start: number, end: number, only?: Ranges): Range | undefined {
    if (entry.stream || entry.stored?.complete) return undefined;
    const known = entry.here.with(entry.claimed);
    for (const [from, to] of only?.missing(start, end) ?? []) known.add(from, to);
    const [hole] = known.missing(start, end);
    if (!hole) return undefined;
    if (entry.file.ranges === false) return [0, entry.file.size];
    if (!entry.writer) return [hole[0], Math.min(hole[1], hole[0] + SEGMENT.memory)];
    // On the disk all of a file that is hashed is wanted, so a request need not end where a read does.
    const [[from, to]] = entry.hash ? (known.missing(hole[0], entry.file.size) as [Range]) : [hole];
    return [from, Math.min(to, from + SEGMENT.disk)];
  }

  #mayStart(entry: Entry): boolean {
    if (entry.writer) return true;
    let held = SEGMENT.memory;
    for (const { memory, claimed, here, writer } of this.#entries.values()) {
      if (writer) continue;
      held += memory.ranges.size;
      for (const [start, end] of claimed) for (const [from, to] of here.missing(start, end)) held += to - from;
    }
    return held <= WINDOW;
  }
}

/** Whether a part of the queue needs nothing more from the network. */
function done({ entry, start, end }: Read): boolean {
  if (entry.stored?.complete) return true;
  if (entry.writer) return entry.here.covers(start, end);
  const [read] = entry.expected?.missing(start, end) ?? [];
  return read?.[0] === start && read[1] === end;
}
