// Recovery from a lost device: the model is loaded onto another device, and interrupted calls continue there. The rest of the
// worker uses only `run` and `lost`.

import { errorFields, FanlightError } from "../errors.js";
import type { EventInfo, ModelEvent } from "../types.js";

/** How many losses in a row are recovered from, if no call succeeds between them. */
const MOST_LOSSES = 2;

export interface Device {
  /** Requests another device and loads the model onto it. */
  reload(): Promise<void>;
  tell(event: ModelEvent, info: EventInfo): void;
}

export const isLost = (error: unknown): boolean => errorFields(error).code === "device_lost";

export class Recovery {
  readonly #device: Device;
  #losses = 0;
  /** Whether the page has been told about the last loss. */
  #told = false;
  /** The recovery that is running. It continues when the call that started it is aborted. */
  #running: Promise<void> | undefined;

  constructor(device: Device) {
    this.#device = device;
  }

  /** Called when the browser reports a lost device, perhaps while no call runs. The next call starts the recovery. */
  lost(message: string): void {
    if (!this.#told) this.#device.tell("devicelost", { message });
    this.#told = true;
  }

  /**
   * Runs a call. Whenever its device is lost, the model is loaded onto a new one, and `again` continues the call. An abort
   * does not wait for that: `again` must then end without using a device.
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

  /** Waits for a recovery that is running. Whether it succeeded is noticed by the call that next needs the device. */
  async #ended(signal: AbortSignal): Promise<void> {
    const running = this.#running?.catch(() => {});
    if (running) await Promise.race([running, aborted(signal)]);
  }

  async #recover(message: string, signal: AbortSignal): Promise<void> {
    this.#running ??= this.#reload(message).finally(() => (this.#running = undefined));
    // Every call that waited may have been aborted, so a failure must not count as unhandled.
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

/** Resolves when the signal is aborted. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
