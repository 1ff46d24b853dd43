// The model of this page (there is only one at a time): where it is loaded from, the progress, and its state.

import { availability, FanlightError, load, type LoadOptions, type Model, models, type ModelSource, type Progress } from "../../src/index.js";

/** What a person asked to be loaded. */
export interface Wanted {
  source: ModelSource;
  /** The name that the page shows. */
  name: string;
  options: LoadOptions;
  /** The query of a link that loads the same model. Absent for files that a person has picked. */
  query?: URLSearchParams;
  /** Whether this is the demonstration model that is part of the page. */
  own: boolean;
  /** The host from which the model would be downloaded, if that is another machine. */
  host?: string;
}

export type State =
  | { kind: "none" }
  /** The page knows which model is wanted, and loads it only when the person agrees. */
  | { kind: "offered" }
  | { kind: "loading"; progress?: Progress; canceled?: true }
  | { kind: "ready"; model: Model }
  /** The device was lost, and the package is loading the model onto another one. */
  | { kind: "recovering"; model: Model }
  | { kind: "failed"; error: FanlightError }
  | { kind: "canceled" }
  /** The model was ready, and can no longer be used. */
  | { kind: "stopped"; error: FanlightError };

class Engine {
  state: State = { kind: "none" };
  wanted: Wanted | undefined;
  #loading: AbortController | undefined;
  #listeners = new Set<(before: State) => void>();

  get model(): Model | undefined {
    return this.state.kind === "ready" ? this.state.model : undefined;
  }

  listen(listener: (before: State) => void): void {
    this.#listeners.add(listener);
  }

  /** Shows which model can be loaded, without loading it. */
  offer(wanted: Wanted): void {
    this.#end();
    this.wanted = wanted;
    this.#become({ kind: "offered" });
  }

  async load(wanted: Wanted): Promise<void> {
    this.#end();
    this.wanted = wanted;
    const mine = (this.#loading = new AbortController());
    const current = () => this.#loading === mine;
    this.#become({ kind: "loading" });
    const onProgress = (progress: Progress) => {
      if (current() && this.state.kind === "loading") this.#become({ kind: "loading", progress });
    };
    try {
      const model = await load(wanted.source, { ...wanted.options, onProgress, signal: mine.signal });
      if (!current()) return model.destroy();
      this.#watch(model);
      this.#become({ kind: "ready", model });
    } catch (thrown) {
      if (!current()) return;
      const error = asError(thrown);
      this.#become(mine.signal.aborted ? { kind: "canceled" } : { kind: "failed", error });
    }
  }

  again(): void {
    if (this.wanted) void this.load(this.wanted);
  }

  /** Cancels loading. What has been downloaded is kept for the next time. */
  cancel(): void {
    this.#loading?.abort();
  }

  #watch(model: Model): void {
    const mine = () => (this.state.kind === "ready" || this.state.kind === "recovering") && this.state.model === model;
    void model.closed.then((error) => mine() && this.#become({ kind: "stopped", error }));
    // The package recovers from a lost device by itself, and reports it with these events.
    model.on("devicelost", () => mine() && this.#become({ kind: "recovering", model }));
    model.on("recovered", () => mine() && this.#become({ kind: "ready", model }));
  }

  #end(): void {
    const { state } = this;
    this.#loading?.abort();
    this.#loading = undefined;
    this.state = { kind: "none" };
    if (state.kind === "ready" || state.kind === "recovering") state.model.destroy();
  }

  #become(state: State): void {
    const before = this.state;
    this.state = state;
    for (const listener of this.#listeners) listener(before);
  }
}

export const engine = new Engine();

export function asError(thrown: unknown): FanlightError {
  if (thrown instanceof FanlightError) return thrown;
  return new FanlightError("internal", thrown instanceof Error ? thrown.message : String(thrown));
}

// ── From an address to what it means ────────────────────────────────────────────────────────────────────────────────

export const OWN = "models/screen-reader/";
export const HUB = "https://huggingface.co";

/** A repository on the Hub, as `load` sees it; everything else is an address. */
const isRepository = (address: string) => /^[^/\s]+\/[^/\s]+$/.test(address) && !/\.gguf$/.test(address);

/**
 * What the page's query asks for: `model=`; `revision=`, `endpoint=` of a repository; `gguf=FILE`, `mmproj=FILE` of a GGUF
 * model; `weights=q8`, `weights=q4` or `weights=text=q4,embeddings=q8`; `kvCache=q8`, `context=8192`, `maxPixels=1003520`.
 */
export function wantedBy(query: URLSearchParams): Wanted {
  const address = query.get("model") ?? OWN;
  const options: LoadOptions = {};
  for (const name of ["revision", "endpoint", "gguf", "mmproj"] as const) {
    const value = query.get(name);
    if (value) options[name] = value;
  }
  const weights = query.get("weights");
  if (weights) {
    // If this is not a valid format, the engine's error says so.
    options.weights = (
      weights.includes("=") ? Object.fromEntries(weights.split(",").map((part) => part.split("="))) : weights
    ) as NonNullable<LoadOptions["weights"]>;
    // A link is opened again and again with the same weights, so the original files need not be kept too.
    options.cache = "quantized";
  }
  const kvCache = query.get("kvCache");
  if (kvCache === "q8" || kvCache === "f32") options.kvCache = kvCache;
  const [context, maxPixels] = [Number(query.get("context")), Number(query.get("maxPixels"))];
  if (context > 0) options.contextLength = context;
  if (maxPixels > 0) options.maxPixels = maxPixels;

  if (isRepository(address)) {
    // An endpoint that is no address has no host. Loading refuses it in words before anything is requested.
    const host = URL.parse(options.endpoint ?? HUB, location.href)?.host;
    return { source: address, name: address, options, query, own: false, ...(host && { host }) };
  }
  const url = URL.canParse(address, location.href) ? new URL(address, location.href) : new URL(OWN, location.href);
  const own = url.href === new URL(OWN, location.href).href;
  const path = url.pathname.split("/").filter(Boolean);
  const name = own ? "Screen reader" : (path.at(-1) ?? url.host);
  return { source: url, name, options, query, own, ...(url.origin !== location.origin && { host: url.host }) };
}

/** Whether the model can be loaded without a large download. Asks no server. */
export async function isKept({ source, options }: Wanted): Promise<boolean> {
  const name = source instanceof URL ? source.href : source;
  const { endpoint = HUB, revision = "main" } = options;
  if (!URL.canParse(endpoint)) return false;
  const server = new URL(endpoint).href.replace(/\/*$/, "/");
  // `availability` asks the server about models that are not in the list, and a link alone must not cause a request.
  const listed = (await models.list()).some(
    (kept) =>
      kept.model === name &&
      (source instanceof URL || (kept.endpoint === server && [...kept.revisions, kept.commit].includes(revision))),
  );
  if (!listed) return false;
  return (await availability(source, options).catch(() => "unavailable")) === "available";
}
