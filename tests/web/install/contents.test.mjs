// What is in the package as `npm pack` makes it, how large it is, and whether its types hold for strict consumers.
// Needs no browser.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";

import { installed, installInto } from "../support/installed.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const run = promisify(execFile);
const bundlers = createRequire(here("projects/package.json"));

async function filesIn(folder, below = "") {
  const entries = await readdir(join(folder, below), { withFileTypes: true });
  const found = entries.map((e) => (e.isDirectory() ? filesIn(folder, join(below, e.name)) : [join(below, e.name)]));
  return (await Promise.all(found)).flat();
}

test("the package has what its exports name, its licences and its README, and nothing else", async () => {
  const names = await filesIn(installed());
  const about = JSON.parse(await readFile(installed("package.json"), "utf8"));
  const exported = Object.values(about.exports).flatMap((entry) => (typeof entry === "string" ? [entry] : Object.values(entry)));
  for (const path of exported) assert.ok(names.includes(path.slice(2)), path);
  for (const [name, entry] of Object.entries(about.exports)) {
    if (typeof entry !== "string") assert.equal(Object.keys(entry)[0], "types", `${name}: types come first`);
  }
  for (const name of ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "dist/NOTICES.txt", "dist/mediabunny/LICENSE"]) assert.ok(names.includes(name), name);
  assert.notEqual(about.private, true);
  assert.equal(about.dependencies, undefined);
  const strange = names.filter((name) => !/^(dist\/((src|wasm|mediabunny|models)\/|NOTICES\.txt$)|package\.json$|README\.md$|LICENSE-)/.test(name));
  assert.deepEqual(strange, []);
});

/** Licences that allow what is done with these works here: to compile or copy them into a package, with their notice. */
const ALLOWED = /^(MIT|MIT-0|Apache-2\.0( WITH LLVM-exception)?|BSD-[23]-Clause|0BSD|ISC|Zlib|BSL-1\.0|Unlicense|CC0-1\.0|Unicode-(3\.0|DFS-2016)|MPL-2\.0)$/;

/** Whether an SPDX expression can be met with these licences: of alternatives one, of joined ones each. */
function allowed(expression) {
  const parts = (text, word) => {
    let depth = 0;
    return text.split(/(\s+AND\s+|\s+OR\s+|\/|[()])/).reduce((list, piece) => {
      if (piece === "(") depth++;
      if (piece === ")") depth--;
      const splits = depth === 0 && (piece.trim() === word || (word === "OR" && piece === "/"));
      return splits ? [...list, ""] : [...list.slice(0, -1), list.at(-1) + piece];
    }, [""]);
  };
  const text = expression.trim();
  const either = parts(text, "OR");
  if (either.length > 1) return either.some(allowed);
  const both = parts(text, "AND");
  if (both.length > 1) return both.every(allowed);
  return /^\(.*\)$/.test(text) ? allowed(text.slice(1, -1)) : ALLOWED.test(text);
}

test("the notices name every crate and package that is in it, with a licence that allows it and its text", async () => {
  const { crates, npmPackages } = await import("../../../xtask/notices.mjs");
  const all = [...crates(), ...npmPackages()];
  assert.ok(all.length > 50, `${all.length}`);
  const text = await readFile(installed("dist/NOTICES.txt"), "utf8");
  for (const { name, version, license, texts } of all) {
    assert.ok(text.includes(`\n${name} ${version} (${license})`), `${name} ${version} is not named`);
    assert.ok(allowed(license), `${name}: ${license}`);
    assert.ok(texts.length > 0 && texts.every((own) => text.replace(/\s+/g, " ").includes(own.replace(/\s+/g, " "))), `the licence of ${name}`);
  }
  // Where a wasm module says which source a panic is in, it names the crate.
  const named = new Set(all.map(({ name, version }) => `${name}-${version}`));
  for (const module of ["fanlight_bg.wasm", "fanlight_grammar_bg.wasm"]) {
    const bytes = await readFile(installed("dist/wasm", module), "latin1");
    for (const [, crate] of bytes.matchAll(/index\.crates\.io-[0-9a-f]+\/([\w.+-]+?-\d+\.\d+\.\d+[\w.+-]*)\//g)) assert.ok(named.has(crate), `${module} contains ${crate}`);
  }
  assert.equal(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"), true);
  assert.equal(allowed("MIT AND GPL-3.0"), false);
});

test("no code is made from text, and none is in parts that a bundler would have to follow", async () => {
  for (const name of (await filesIn(installed("dist"))).filter((name) => name.endsWith(".js"))) {
    const text = await readFile(installed("dist", name), "utf8");
    // A worker that a bundler has to split is one that Vite up to 7 cannot build; files of their own are found by URL.
    if (!name.startsWith("mediabunny")) assert.doesNotMatch(text, /\bimport\(\s*["'`]/, name);
    assert.doesNotMatch(text, /\beval\s*\(|\bnew\s+Function\b|\bFunction\s*\(\s*["'`]|setTimeout\s*\(\s*["'`]/, name);
  }
});

/** A script and all that it imports before it runs. */
async function closure(name, found = new Set()) {
  if (found.has(name)) return found;
  found.add(name);
  const text = await readFile(installed("dist", name), "utf8");
  for (const [, path] of text.matchAll(/^\s*(?:import|export)\b[^"';]*?(?:from\s*)?["'](\.[^"']+)["']/gm)) {
    await closure(join(name, "..", path), found);
  }
  return found;
}

test("the core is at most 1.5 MB, gzipped", async (t) => {
  const scripts = new Set([...(await closure("src/index.js")), ...(await closure("src/worker/worker.js"))]);
  assert.ok(scripts.has("wasm/fanlight.js") && scripts.has("src/checkpoint/remote-files.js") && !scripts.has("mediabunny/mediabunny.js"));
  const sizes = {};
  for (const name of [...scripts, "wasm/fanlight_bg.wasm"]) {
    sizes[name] = gzipSync(await readFile(installed("dist", name)), { level: 9 }).length;
  }
  const total = Object.values(sizes).reduce((sum, size) => sum + size, 0);
  t.diagnostic(`wasm ${sizes["wasm/fanlight_bg.wasm"]}, scripts ${total - sizes["wasm/fanlight_bg.wasm"]}, all ${total} bytes`);
  assert.ok(total <= 1_500_000, `${total} bytes: ${JSON.stringify(sizes)}`);
});

test("the types hold for strict consumers, with this TypeScript and with 5.4, with the least of libraries", async () => {
  const folder = here("../../../target/packaging/types");
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }');
  await installInto(folder);
  await cp(here("projects/types"), folder, { recursive: true });
  const compilers = [here("../../../www/node_modules/typescript/bin/tsc"), bundlers.resolve("typescript-5.4/bin/tsc")];
  for (const tsc of compilers) {
    for (const [lib, resolution] of [["es2022,dom", "bundler"], ["esnext,dom,dom.iterable", "nodenext"]]) {
      const module = resolution === "nodenext" ? "nodenext" : "es2022";
      const args = [tsc, "--project", ".", "--lib", lib, "--module", module, "--moduleResolution", resolution];
      const done = await run("node", args, { cwd: folder }).catch((error) => error);
      assert.equal(done.code ?? 0, 0, `${tsc} with ${lib}:\n${done.stdout}`);
    }
  }
});
