// What becomes of a lost device: another one, with the weights again, on which what was interrupted goes on. The rest of the
// worker knows nothing of it but `run`.

import { errorFields, FanlightError } from "../errors.js";
import type { EventInfo, ModelEvent } from "../types.js";

/** Losses in a row, without anything finished between them, that are recovered from. */
const MOST_LOSSES = 2;

export interface Device {
  /** Gets another device and loads the model there. */
  reload(): Promise<void>;
  tell(event: ModelEvent, info: EventInfo): void;
}

export const isLost = (error: unknown): boolean => errorFields(error).code === "device_lost";

export class Recovery {
  readonly #device: Device;
  #losses = 0;
  /** Whether the page knows of the last loss. */
  #told = false;
  /** Goes on when the call that wanted it is aborted. */
  #running: Promise<void> | undefined;

  constructor(device: Device) {
    this.#device = device;
  }

  /** The browser says that the device is lost: perhaps while nothing runs. The next call recovers it, which may need the memory. */
  lost(message: string): void {
    if (!this.#told) this.#device.tell("devicelost", { message });
    this.#told = true;
  }

  /**
   * Runs a call. Whenever its device is lost, a new one is loaded and `again` goes on where it was. An abort does not wait for
   * that: `again` then has to end without a device.
   */
  async run<T>(first: () => Promise<T>, again: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await this.#ended(signal);
    for (let go = first; ; go = again) {
      try {
        const result = await go();
        if (!signal.aborted) this.#losses = 0;
        return result;
      } catch (error) {
        if (!isLost(error)) throw error;
        await this.#recover(errorFields(error).message, signal);
      }
    }
  }

  /** Waits for a recovery that is under way; what it comes to is seen by whoever needs the device. */
  async #ended(signal: AbortSignal): Promise<void> {
    const running = this.#running?.catch(() => {});
    if (running) await Promise.race([running, aborted(signal)]);
  }

  async #recover(message: string, signal: AbortSignal): Promise<void> {
    this.#running ??= this.#reload(message).finally(() => (this.#running = undefined));
    // Nobody may be left to hear of it.
    this.#running.catch(() => {});
    await Promise.race([this.#running, aborted(signal)]);
  }

  async #reload(message: string): Promise<void> {
    this.lost(message);
    for (;;) {
      if (++this.#losses > MOST_LOSSES) {
        this.#losses = MOST_LOSSES;
        const hint = "Reload the page and choose a smaller model, fewer pixels or a shorter context; if that does not help, restart the browser.";
        throw new FanlightError("device_lost", `the GPU device was lost again, after ${MOST_LOSSES} losses in a row: ${message}`, hint);
      }
      try {
        await this.#device.reload();
        break;
      } catch (error) {
        if (isLost(error)) continue;
        const { code, message, hint, retryable } = errorFields(error);
        if (code === "webgpu_unavailable") {
          const reload = "Reload the page; if that does not help, restart the browser.";
          throw new FanlightError("device_lost", `the GPU device was lost, and the browser gives no other one: ${message}`, reload);
        }
        throw new FanlightError("device_lost", `the GPU device was lost, and the model could not be loaded again: ${message}`, hint, retryable);
      }
    }
    this.#told = false;
    this.#device.tell("recovered", { message });
  }
}

/** Resolves when this is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
