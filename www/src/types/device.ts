// The graphics device: whether there is one, what it is, and what happens to it.

/** The graphics adapter, as far as the browser tells. */
export interface AdapterInfo {
  /** "nvidia", "apple"; may be empty. */
  vendor: string;
  /** "ampere", "common-3"; may be empty. */
  architecture: string;
  /** More about it; most browsers leave it empty. */
  description: string;
  /** A processor pretending to be a GPU: it works, slowly. */
  software: boolean;
  /** It has shader-f16, which is used where it is there and not needed. */
  f16: boolean;
  /** It has subgroups, which are used where they are there and not needed. */
  subgroups: boolean;
}

/**
 * What happens to a model beside its calls: the device was lost, whether or not anything was running; and it has another one,
 * with its weights, on which everything goes on.
 */
export type ModelEvent = "devicelost" | "recovered";

/** What a model's listeners get. */
export interface EventInfo {
  /** What the browser says about it. */
  message: string;
}

/** What `support()` finds. */
export interface Support {
  /** Whether models can run here. */
  webgpu: boolean;
  /** Why not, and what to do, when `webgpu` is false. */
  reason?: string;
  /** What to do about it. */
  hint?: string;
  /** What they would run on. */
  adapter?: AdapterInfo;
  /** The adapter's, by their WebGPU names, in bytes. */
  limits?: Record<string, number>;
}
