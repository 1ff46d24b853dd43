// The package as `npm pack` makes it, in projects: whether ten lines give a streamed answer in a real browser from every bundler and
// from none, from another origin, and under the strictest policy that can work.

import assert from "node:assert/strict";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { BROWSER, isReport, open, withBrowser, withPackage } from "../support/helpers.mjs";
import { installed, installInto } from "../support/installed.mjs";
import { serve } from "../support/static.mjs";

withBrowser();

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
/** Every project has a copy of its own of what was installed. */
const WORK = here(`../../../target/packaging/${BROWSER}`);
const SCREEN = "screen-001.png";
const transcript = JSON.parse(await readFile(here("../../screens/transcript.json"), "utf8"));
/** What transformers answers to the question of projects/main.js. */
const ANSWER = transcript.find(({ image, question }) => image === SCREEN && question === "What does the purple button say?").text;
const bundlers = createRequire(here("projects/package.json"));
const bundler = (name) => import(pathToFileURL(bundlers.resolve(name)));

before(async () => {
  await rm(WORK, { recursive: true, force: true });
  for (const name of ["plain", "vite", "webpack", "esbuild"]) {
    const folder = join(WORK, name);
    await mkdir(join(folder, "public"), { recursive: true });
    await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }');
    await installInto(folder);
    await cp(here("projects/main.js"), join(folder, "main.js"));
    await cp(here(`projects/${name}`), folder, { recursive: true });
    await cp(here(`../../screens/${SCREEN}`), join(folder, name === "vite" ? "public/screen.png" : "screen.png"));
  }
});

const project = (name, ...rest) => join(WORK, name, ...rest);

/** Opens a page that answers by itself, and waits for the answer. */
async function answers(t, at, servers = []) {
  let fail;
  const failed = new Promise((_, reject) => (fail = reject));
  failed.catch(() => {});
  const setup = async (page) => {
    page.on("pageerror", (error) => isReport(error) || fail(new Error(`${error.message} ${error.hint ?? ""}`)));
    // What the page shows, each time that it grows.
    await page.addInitScript(() => {
      globalThis.shown = [];
      const tell = () => document.body && globalThis.shown.push(document.body.textContent.trim());
      new MutationObserver(tell).observe(document, { childList: true, characterData: true, subtree: true });
    });
  };
  const page = await open(t, { at, servers, setup });
  const shown = page.waitForFunction((answer) => globalThis.shown.at(-1) === answer && globalThis.shown, ANSWER, { polling: 200 });
  const pieces = new Set(await (await Promise.race([shown, failed])).jsonValue());
  assert.ok(pieces.size > 2, `in pieces: ${[...pieces]}`);
  return page;
}

async function served(t, folder, headers) {
  const server = await serve(folder, headers);
  t.after(() => server.close());
  return server;
}

/** The ten lines without a bundler: with the package's address in place of its name. */
async function plain(address) {
  const text = await readFile(here("projects/main.js"), "utf8");
  const to = { fanlight: "index.js", "fanlight/screen-reader": "screen-reader.js" };
  await writeFile(project("plain", "main.js"), text.replace(/"(fanlight[^"]*)"/g, (_, name) => `"${address}${to[name]}"`));
}

const STRICT = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";

test("a plain page answers, with a policy that allows nothing but its own origin and wasm", async (t) => {
  await plain("./node_modules/fanlight/dist/src/");
  const { url } = await served(t, project("plain"), { "content-security-policy": STRICT });
  await answers(t, url);
});

test("a plain page answers with the package from another origin", async (t) => {
  const cdn = await served(t, installed("dist"), { "access-control-allow-origin": "*" });
  const origin = new URL(cdn.url).origin;
  await plain(`${cdn.url}src/`);
  const policy = `default-src 'none'; script-src 'self' ${origin} 'wasm-unsafe-eval'; worker-src blob: ${origin}; connect-src 'self' ${origin}`;
  const { url } = await served(t, project("plain"), { "content-security-policy": policy });
  await answers(t, url, [origin]);
});

test("Vite's development server", async (t) => {
  const { createServer } = await bundler("vite");
  const vite = await createServer({ root: project("vite"), logLevel: "error", server: { port: 0, host: "localhost" } });
  t.after(() => vite.close());
  await vite.listen();
  await answers(t, vite.resolvedUrls.local[0]);
});

test("Vite's build", async (t) => {
  const { build, preview } = await bundler("vite");
  await build({ root: project("vite"), logLevel: "error" });
  const vite = await preview({ root: project("vite"), logLevel: "error", preview: { port: 0, host: "localhost" } });
  t.after(() => vite.close());
  await answers(t, vite.resolvedUrls.local[0]);
});

test("webpack's build", async (t) => {
  const { default: webpack } = await bundler("webpack");
  const { default: config } = await import(pathToFileURL(project("webpack", "webpack.config.js")));
  // Defaults of where webpack is started.
  const [context, output] = [project("webpack"), { path: project("webpack", "dist") }];
  const stats = await promisify(webpack)({ ...config, context, output });
  const { errors, warnings } = stats.toJson({ all: false, errors: true, warnings: true });
  assert.deepEqual([...errors, ...warnings.filter(({ message }) => !/size limit/.test(message))], []);
  for (const name of ["index.html", "screen.png"]) await cp(project("webpack", name), project("webpack", "dist", name));
  const { url } = await served(t, project("webpack", "dist"));
  await answers(t, url);
});

test("esbuild's build", async (t) => {
  const { default: esbuild } = await bundler("esbuild");
  const { default: build } = await import(pathToFileURL(project("esbuild", "build.js")));
  const done = await esbuild.build({ ...build.options, absWorkingDir: project("esbuild"), logLevel: "silent" });
  assert.deepEqual([...done.errors, ...done.warnings], []);
  await build.copy(project("esbuild"));
  for (const name of ["index.html", "screen.png"]) await cp(project("esbuild", name), project("esbuild", "dist", name));
  const { url } = await served(t, project("esbuild", "dist"));
  await answers(t, url);
});

test("the worker and the wasm can be replaced, and what cannot be loaded is named", async (t) => {
  const page = await open(t);
  const seen = await withPackage(page, async ({ estimate }, _, caught) => {
    const { screenReader } = await import("/src/screen-reader.js");
    const signed = Object.fromEntries(Object.entries(screenReader).map(([name, url]) => [name, `${url}?signature=${name.length}`]));
    const wasm = "/wasm/fanlight_bg.wasm";
    const bytes = await (await fetch(wasm)).arrayBuffer();
    let made = 0;
    const worker = () => (made++, new Worker("/src/worker/worker.js", { type: "module" }));
    const wanted = {
      address: { wasm },
      url: { wasm: new URL(wasm, location.href) },
      response: { wasm: await fetch(wasm) },
      bytes: { wasm: new Response(bytes) },
      module: { wasm: await WebAssembly.compile(bytes) },
      worker: { worker },
      wasmGone: { wasm: "/no-such.wasm" },
      wasmPage: { wasm: "/index.html" },
      wasmGarbage: { wasm: "/models/screen-reader/config.json" },
      responseGone: { wasm: await fetch("/no-such.wasm") },
      workerGone: { worker: () => new Worker("/no-such-worker.js", { type: "module" }) },
      workerNone: { worker: () => { throw new Error("no worker today"); } },
    };
    const seen = {};
    for (const [name, options] of Object.entries(wanted)) {
      const { value, ...error } = await caught(estimate(signed, { cache: "none", ...options }));
      seen[name] = value?.modelType ?? error;
    }
    const { "config.json": config, ...rest } = signed;
    return { ...seen, made, empty: await caught(estimate({})), unnamed: await caught(estimate({ ...rest, "../config.json": config })) };
  });
  for (const name of ["address", "url", "response", "bytes", "module", "worker"]) {
    assert.equal(seen[name], "qwen2_5_vl", `${name}: ${JSON.stringify(seen[name])}`);
  }
  assert.equal(seen.made, 1);
  for (const [name, words] of [
    ["wasmGone", /no-such\.wasm.*404/], ["wasmPage", /index\.html.*web page/], ["wasmGarbage", /config\.json/],
    ["responseGone", /no-such\.wasm.*404/], ["workerGone", /did not start/], ["workerNone", /no worker today/],
  ]) {
    assert.equal(seen[name].code, "network", name);
    assert.match(seen[name].message, words);
    assert.ok(seen[name].hint.length > 20, name);
  }
  assert.equal(seen.empty.code, "bad_request");
  assert.equal(seen.unnamed.code, "bad_model");
});
