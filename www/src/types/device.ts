// The graphics device: whether the browser has one, what it can do, and the events when it is lost and replaced.

/** The graphics adapter, as far as the browser describes it. */
export interface AdapterInfo {
  /** The maker, for example "nvidia" or "apple". May be empty. */
  vendor: string;
  /** The family of GPUs, for example "ampere" or "common-3". May be empty. */
  architecture: string;
  /** The name of the adapter. Most browsers leave it empty. */
  description: string;
  /** Whether the adapter is software that runs on the CPU. Models work on it, but slowly. */
  software: boolean;
  /** Whether the adapter has the WebGPU feature `shader-f16`. Fanlight uses it if it exists and works without it. */
  f16: boolean;
  /** Whether the adapter has the WebGPU feature `subgroups`. Fanlight uses it if it exists and works without it. */
  subgroups: boolean;
}

/**
 * Events of a model. "devicelost": the GPU device was lost, during a call or while the model was idle. "recovered": the
 * model has been loaded onto a new device, and its calls continue there.
 */
export type ModelEvent = "devicelost" | "recovered";

/** What the listener of a model event receives. */
export interface EventInfo {
  /** Why the device was lost, in the words of the browser. */
  message: string;
}

/** The result of `support()`. */
export interface Support {
  /** Whether models can run in this browser. */
  webgpu: boolean;
  /** Why models cannot run here. Only when `webgpu` is false. */
  reason?: string;
  /** What the person can do about it. Only when `webgpu` is false. */
  hint?: string;
  /** The graphics adapter on which models would run. */
  adapter?: AdapterInfo;
  /** Limits of the adapter in bytes, by their names in WebGPU. */
  limits?: Record<string, number>;
}
