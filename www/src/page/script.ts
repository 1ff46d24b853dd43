// The worker's script and the engine's wasm: how they are loaded, and the errors when that fails.

import { FanlightError } from "../errors.js";
import { shown } from "../shared/address.js";
import { checked, unusable } from "../shared/wasm-file.js";

/**
 * Starts the worker of this package. Bundlers (Vite, webpack, Rollup's plugins) look for exactly this expression, so it
 * must stay in one piece.
 *
 * A browser does not start a worker from a script of another origin. If the package itself comes from another origin (for
 * example from a CDN), a one-line script in a Blob imports the worker's script. That is the only Blob, and a page with a
 * Content-Security-Policy must allow it with `worker-src blob:`.
 */
export function packageWorker(): Worker {
  if (foreign(HERE)) {
    const script = URL.createObjectURL(new Blob([`import ${JSON.stringify(published())};`], { type: "text/javascript" }));
    const worker = new Worker(script, { type: "module", name: "fanlight" });
    // The Blob has been read by the time that the worker sends its first message or fails.
    for (const event of ["message", "error"]) worker.addEventListener(event, () => URL.revokeObjectURL(script), { once: true });
    return worker;
  }
  return new Worker(new URL("../worker/worker.js", import.meta.url), { type: "module", name: "fanlight" });
}

const HERE = import.meta.url;
/**
 * The address of the worker's script in the published package, next to this module. The base address has a variable of its
 * own, because bundlers would copy the script a second time if this were another URL relative to `import.meta.url`. If a
 * bundler has made a data: or blob: URL of this module, there is no file next to it.
 */
const published = (): string => (/^(https?|file):/.test(HERE) ? new URL("../worker/worker.js", HERE).href : HERE);

const foreign = (url: string): boolean => /^https?:/.test(url) && new URL(url).origin !== location.origin;

/**
 * The error for a worker that failed before it sent anything. Browsers do not say why, so its script is requested once
 * more.
 */
export async function notStarted(own: boolean, words: string): Promise<FanlightError> {
  if (!own) {
    const hint = "Check its script: it must import fanlight/worker and be started with { type: \"module\" }.";
    return new FanlightError("network", `the worker from the option \`worker\` did not start${words}`, hint, true);
  }
  const url = published();
  const failed = (what: string, hint: string) =>
    new FanlightError("network", `the worker's script could not be loaded: ${shown(url)} ${what}`, hint, true);
  let response: Response;
  try {
    response = await fetch(url, { referrerPolicy: "no-referrer" });
    response.body?.cancel().catch(() => {});
  } catch (error) {
    return failed(`could not be read (${String(error)})`, "Check the connection and the page's Content-Security-Policy.");
  }
  const type = response.headers.get("content-type") ?? "";
  if (!response.ok) return failed(`answered ${response.status}`, BUNDLER);
  if (!/^(text|application)\/(javascript|ecmascript|x-javascript)/.test(type)) {
    return failed(`has the type "${type}" instead of text/javascript`, BUNDLER);
  }
  const blob = foreign(url) ? ", with `worker-src blob:` and its origin in worker-src because it is of another one" : "";
  const hint = `The page's Content-Security-Policy must allow it${blob}, and the files that it imports must exist (wasm/fanlight.js).`;
  return failed(`exists, but did not start${words}`, hint);
}

const BUNDLER =
  "A bundler has to copy it: see \"Bundlers\" in the package's README (Vite: optimizeDeps.exclude), or give the option `worker`.";

/** The engine's wasm from the caller's option, in a form that can be sent to the worker. */
export async function portable(wasm: URL | string | Response | WebAssembly.Module): Promise<string | WebAssembly.Module> {
  if (wasm instanceof WebAssembly.Module) return wasm;
  if (!(wasm instanceof Response)) return new URL(wasm, document.baseURI).href;
  try {
    return await compiled(wasm);
  } catch (error) {
    throw unusable(wasm.url || "the response given as `wasm`", error);
  }
}

async function compiled(response: Response): Promise<WebAssembly.Module> {
  checked(response);
  if (/^application\/wasm\b/.test(response.headers.get("content-type") ?? "")) return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}
