// Reports the progress of a download, at most every EVENT_MS milliseconds.

import type { Progress } from "../types.js";
import type { Entry } from "./entry.js";

/** Milliseconds between two events. */
export const EVENT_MS = 100;

export class Meter {
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #onProgress: (progress: Progress) => void;
  #last = { time: 0, bytes: 0, rate: 0 };

  /** @param entries all files by name; the map may change at any time */
  constructor(entries: ReadonlyMap<string, Entry>, onProgress: (progress: Progress) => void) {
    this.#entries = entries;
    this.#onProgress = onProgress;
  }

  /** Reports the progress if enough time has passed, or if `always`. "wait": another tab is downloading a file. */
  tell(always: boolean, wait?: "wait"): void {
    const now = performance.now();
    const passed = now - this.#last.time;
    if (!always && passed < EVENT_MS) return;
    const entries = [...this.#entries.values()].filter(({ expected }) => expected);
    const files = entries.map(({ file, seen, total, network }) => {
      return { file: file.name, loaded: Math.min(seen.size, total), total, fromCache: network === 0 };
    });
    const sum = (of: (file: (typeof files)[number]) => number) => files.reduce((total, file) => total + of(file), 0);
    const bytes = entries.reduce((total, { network }) => total + network, 0);
    if (passed >= EVENT_MS) {
      const rate = (1000 * (bytes - this.#last.bytes)) / passed;
      // Averaged over about a second.
      const share = Math.min(1, passed / 1000);
      const smooth = this.#last.time === 0 ? rate : share * rate + (1 - share) * this.#last.rate;
      this.#last = { time: now, bytes, rate: smooth };
    }
    const { rate } = this.#last;
    this.#onProgress({
      phase: "download",
      loaded: sum(({ loaded }) => loaded),
      total: sum(({ total }) => total),
      fromCache: bytes === 0,
      bytesPerSecond: Math.round(rate),
      files,
      ...(wait && { waiting: true }),
    });
  }
}
