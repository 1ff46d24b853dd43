// The one model of this page: what it is loaded from, how far that is, and what became of it.

import { availability, FanlightError, load, type LoadOptions, type Model, models, type ModelSource, type Progress } from "../../src/index.js";

/** What a person asked to be loaded. */
export interface Wanted {
  source: ModelSource;
  /** As it is called on the page. */
  name: string;
  options: LoadOptions;
  /** The page's query that leads here again; files have none. */
  query?: URLSearchParams;
  /** The page's own demonstration model. */
  own: boolean;
  /** Where it would come from, if that is another machine. */
  host?: string;
}

export type State =
  | { kind: "none" }
  /** Known, and not loaded unless the person says so. */
  | { kind: "offered" }
  | { kind: "loading"; progress?: Progress; canceled?: true }
  | { kind: "ready"; model: Model }
  /** The device was lost; the package is at work to get another. */
  | { kind: "recovering"; model: Model }
  | { kind: "failed"; error: FanlightError }
  | { kind: "canceled" }
  /** It was there and is gone. */
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

  /** Names what can be loaded, without loading it. */
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

  /** Ends a load. What came over the network stays for the next one. */
  cancel(): void {
    this.#loading?.abort();
  }

  #watch(model: Model): void {
    const mine = () => (this.state.kind === "ready" || this.state.kind === "recovering") && this.state.model === model;
    void model.closed.then((error) => mine() && this.#become({ kind: "stopped", error }));
    // The package recovers a lost device by itself, and says so.
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
    // What is no format is told by the engine, in words.
    options.weights = (
      weights.includes("=") ? Object.fromEntries(weights.split(",").map((part) => part.split("="))) : weights
    ) as NonNullable<LoadOptions["weights"]>;
    // A page that is opened by a link again and again need not keep both.
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

/** Whether loading it would fetch nothing large. Asks no server. */
export async function isKept({ source, options }: Wanted): Promise<boolean> {
  const name = source instanceof URL ? source.href : source;
  const { endpoint = HUB, revision = "main" } = options;
  if (!URL.canParse(endpoint)) return false;
  const server = new URL(endpoint).href.replace(/\/*$/, "/");
  // Of what is not in the list `availability` would ask its server: a link alone must not.
  const listed = (await models.list()).some(
    (kept) =>
      kept.model === name &&
      (source instanceof URL || (kept.endpoint === server && [...kept.revisions, kept.commit].includes(revision))),
  );
  if (!listed) return false;
  return (await availability(source, options).catch(() => "unavailable")) === "available";
}
