// Weights in the format of the device, stored by an earlier load with the same options (src/weights/prepared.rs).

import { FanlightError } from "../errors.js";
import { blobLock, hold, type Store, type Stored, type Writer } from "./store.js";

export class Prepared {
  readonly key: string;
  readonly #store: Store;
  readonly #onFull: (reason: string) => void;
  #stored: Stored | undefined;
  #writer: Writer | undefined;
  #size = 0;
  #release = (): void => {};

  private constructor(store: Store, key: string, onFull: (reason: string) => void) {
    this.#store = store;
    this.key = key;
    this.#onFull = onFull;
  }

  /** `loads`: whether the weights may be prepared now if they are not stored. */
  static async open(store: Store, key: string, loads: boolean, onFull: (reason: string) => void): Promise<Prepared> {
    const prepared = new Prepared(store, key, onFull);
    const stored = await store.blob(key).catch(() => undefined);
    if (stored?.complete) {
      prepared.#stored = stored;
      prepared.#size = stored.size;
    } else if (loads) {
      await prepared.#openWriter();
    }
    return prepared;
  }

  get complete(): boolean {
    return this.#stored !== undefined;
  }

  get size(): number {
    return this.#size;
  }

  async read(start: number, end: number): Promise<Uint8Array> {
    if (!this.#stored) throw new Error("there are no prepared weights");
    try {
      return await this.#stored.read(start, end);
    } catch (error) {
      await this.#store.discard(this.key).catch(() => {});
      throw new FanlightError("io", `the quantized weights could not be read: ${String(error)}`, "Load the model again; it is then downloaded.", true);
    }
  }

  /** Starts from the beginning: a half-written file is useless, because its source is read from the beginning too. */
  begin(size: number): boolean {
    if (!this.#writer) return false;
    this.#size = size;
    try {
      this.#writer.restart({ size });
      return true;
    } catch (error) {
      this.#giveUp(error);
      return false;
    }
  }

  write(offset: number, bytes: Uint8Array): void {
    try {
      this.#writer?.write(offset, bytes);
    } catch (error) {
      this.#giveUp(error);
    }
  }

  /** Whether all of it is stored now. */
  async finish(): Promise<boolean> {
    const writer = this.#writer;
    if (!writer || this.#size === 0) return false;
    try {
      writer.resize(this.#size);
      writer.record([[0, this.#size]]);
      writer.complete();
      this.#close();
      return true;
    } catch (error) {
      this.#giveUp(error);
      return false;
    }
  }

  close(): void {
    const unfinished = this.#writer !== undefined;
    this.#close();
    if (unfinished) void this.#store.discard(this.key).catch(() => {});
  }

  #close(): void {
    this.#writer?.close();
    this.#writer = undefined;
    this.#release();
  }

  /** If another tab is preparing the same weights, it holds the lock, and this tab does not store them. */
  async #openWriter(): Promise<void> {
    const release = await hold(blobLock(this.key), { ifAvailable: true });
    if (!release) return;
    this.#release = release;
    try {
      await this.#store.discard(this.key);
      this.#writer = await this.#store.writer(this.key, { size: 0 });
    } catch (error) {
      this.#giveUp(error);
    }
  }

  #giveUp(error: unknown): void {
    this.#writer?.close();
    this.#writer = undefined;
    this.#size = 0;
    void this.#store.discard(this.key).catch(() => {}).finally(this.#release);
    this.#onFull(`the quantized weights are not kept: ${String(error)}`);
  }
}
