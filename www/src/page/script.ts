// The worker's script, and the engine's wasm that a caller gives: how they get into a worker, and what is said when they do not.

import { FanlightError } from "../errors.js";
import { checked, unusable } from "../shared/wasm-file.js";

/**
 * The worker of this package. The expression is the one that bundlers look for (Vite, webpack, Rollup's plugins), so it must
 * stay in one piece.
 *
 * A browser makes no worker of another origin's script. Where the package itself comes from another origin (an import from a
 * CDN), a script of one line in a Blob imports it: that is the only Blob, and needs `worker-src blob:` where a page has a policy.
 */
export function packageWorker(): Worker {
  if (foreign(HERE)) {
    const script = URL.createObjectURL(new Blob([`import ${JSON.stringify(published())};`], { type: "text/javascript" }));
    const worker = new Worker(script, { type: "module", name: "fanlight" });
    // It has been fetched by the time that the worker says its first word, or fails.
    for (const event of ["message", "error"]) worker.addEventListener(event, () => URL.revokeObjectURL(script), { once: true });
    return worker;
  }
  return new Worker(new URL("../worker/worker.js", import.meta.url), { type: "module", name: "fanlight" });
}

const HERE = import.meta.url;
/**
 * The worker's script as it is published, beside this module. Its base has a name of its own, because bundlers would copy the
 * script once more if this too were a URL of `import.meta.url`. Where a bundler has made a data: or blob: URL of this module,
 * nothing lies beside it.
 */
const published = (): string => (/^(https?|file):/.test(HERE) ? new URL("../worker/worker.js", HERE).href : HERE);

const foreign = (url: string): boolean => /^https?:/.test(url) && new URL(url).origin !== location.origin;

/** Why a worker said nothing before it failed. Browsers do not tell, so its script is asked for once more. */
export async function notStarted(own: boolean, words: string): Promise<FanlightError> {
  if (!own) {
    const hint = "Check its script: it must import fanlight/worker and be started with { type: \"module\" }.";
    return new FanlightError("network", `the worker from the option \`worker\` did not start${words}`, hint, true);
  }
  const url = published();
  const failed = (what: string, hint: string) =>
    new FanlightError("network", `the worker's script could not be loaded: ${url} ${what}`, hint, true);
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
    return failed(`came as "${type}" and not as text/javascript`, BUNDLER);
  }
  const blob = foreign(url) ? ", with `worker-src blob:` and its origin in worker-src because it is of another one" : "";
  const hint = `The page's Content-Security-Policy must allow it${blob}, and the files that it imports must exist (wasm/fanlight.js).`;
  return failed(`exists, but did not start${words}`, hint);
}

const BUNDLER =
  "A bundler has to copy it: see \"Bundlers\" in the package's README (Vite: optimizeDeps.exclude), or give the option `worker`.";

/** The engine's wasm as it can be sent to the worker, from what a caller gives. */
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
