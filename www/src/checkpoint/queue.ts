// Decides which bytes are requested next, over all files of a checkpoint: first bytes for which a read is waiting, then bytes
// that will be read, in that order, then bytes that are needed only for hashes.

import type { Entry } from "./entry.js";
import type { Range, Ranges } from "./ranges.js";

/** The largest size of a request, for bytes that go to the disk and for bytes that go to memory. */
const SEGMENT = { disk: 16 << 20, memory: 4 << 20 };
/** The most bytes that are kept in memory. */
export const WINDOW = 32 << 20;

/** A range of a file that will be read. */
export interface Read {
  entry: Entry;
  start: number;
  end: number;
}

export class Queue {
  readonly #entries: ReadonlyMap<string, Entry>;
  /** What Rust will read, in order. */
  #reads: Read[] = [];

  /** @param entries all files by name; the map may change at any time */
  constructor(entries: ReadonlyMap<string, Entry>) {
    this.#entries = entries;
  }

  expect(reads: Read[]): void {
    this.#reads = reads;
  }

  /** The next request. Nothing while memory is full, or once everything has been requested. */
  next(): { entry: Entry; range: Range } | undefined {
    for (const entry of this.#entries.values()) {
      for (const [start, end] of entry.urgent) {
        const range = this.#hole(entry, start, end);
        if (range) return { entry, range };
      }
    }
    // Skip what has been read or is on the disk.
    while (this.#reads[0] && done(this.#reads[0])) this.#reads.shift();
    for (const { entry, start, end } of this.#reads) {
      if (!entry.ready) continue;
      // Without a disk, a file that is hashed must be downloaded in order, including parts that are not read.
      const range =
        entry.hash && !entry.writer
          ? this.#hole(entry, entry.hash.at, entry.file.size)
          : this.#hole(entry, start, end, entry.hash ? undefined : entry.expected);
      if (range) return this.#mayStart(entry) ? { entry, range } : undefined;
    }
    // Bytes that are not read are downloaded last, for the hash.
    for (const entry of this.#entries.values()) {
      const range = entry.ready && entry.hash && this.#hole(entry, entry.hash.at, entry.file.size);
      if (range) return this.#mayStart(entry) ? { entry, range } : undefined;
    }
    return undefined;
  }

  /** The first bytes from `start` to `end`, and within `only`, that are neither here nor requested. */
  #hole(entry: Entry, start: number, end: number, only?: Ranges): Range | undefined {
    if (entry.stream || entry.stored?.complete) return undefined;
    const known = entry.here.with(entry.claimed);
    for (const [from, to] of only?.missing(start, end) ?? []) known.add(from, to);
    const [hole] = known.missing(start, end);
    if (!hole) return undefined;
    if (entry.file.ranges === false) return [0, entry.file.size];
    if (!entry.writer) return [hole[0], Math.min(hole[1], hole[0] + SEGMENT.memory)];
    // If a hashed file is stored on the disk, all of it is needed, so a request may continue past the end of a read.
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

/** Whether this part of the queue needs nothing more from the network. */
function done({ entry, start, end }: Read): boolean {
  if (entry.stored?.complete) return true;
  if (entry.writer) return entry.here.covers(start, end);
  const [read] = entry.expected?.missing(start, end) ?? [];
  return read?.[0] === start && read[1] === end;
}
