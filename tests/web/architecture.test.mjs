// The rooms of www/src and who may import whom, read from the sources, as tests/architecture does it for Rust. An import of a
// type alone counts like any other: what a file has to know to be understood is what it names.
//
// Addresses are no imports and are not looked at: by them the page starts the worker's script (page/script.ts), and the worker fetches
// the parts that not every page needs, constraints (worker/grammar.ts) and video files (worker/video/container.ts).
//
// Needs no browser.

import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join, posix, relative, sep } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const www = fileURLToPath(new URL("../../www", import.meta.url));
const ts = createRequire(join(www, "package.json"))("typescript-api");

/** Each room and the rooms that it may import from, besides itself. A file of www/src that lies in no folder is of the room "root". */
const ROOMS = {
  types: [],
  root: ["types"],
  shared: ["root"],
  checkpoint: ["root", "shared"],
  openai: ["root", "shared"],
  page: ["root", "shared", "checkpoint", "openai"],
  remote: ["root", "shared", "openai", "page"],
  worker: ["root", "shared", "checkpoint"],
  entry: ["root", "shared", "checkpoint", "openai", "page", "remote"],
};

/** What people import besides the worker. These files lie in the root, name what is public, and are imported by nobody. */
const ENTRIES = ["index.ts", "screen-reader.ts"];

/** The one import that leaves www/src: the engine, as wasm-bindgen writes it. */
const OUTSIDE = [["worker/worker.ts", "../wasm/fanlight.js"]];

const roomOf = (path) => (ENTRIES.includes(path) ? "entry" : path.includes("/") ? path.slice(0, path.indexOf("/")) : "root");

/** Every module that a file names: in `import` and `export … from`, in `import()`, and in types such as `import("…").Name`. */
function named(text) {
  const found = [];
  const visit = (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) found.push(node.moduleSpecifier);
    if (ts.isExternalModuleReference(node)) found.push(node.expression);
    if (ts.isImportTypeNode(node)) found.push(node.argument.literal);
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) found.push(node.arguments[0]);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile("file.ts", text, ts.ScriptTarget.Latest, true));
  return found.filter((node) => node && ts.isStringLiteralLike(node)).map(({ text }) => text);
}

/** From each file (by its path in the folder) to what it names, in the same terms where it lies in the folder: `a.js` is `a.ts`. */
function graphOf(texts) {
  const paths = Object.keys(texts);
  const target = (path, name) => {
    if (!name.startsWith(".")) return name;
    const source = posix.join(posix.dirname(path), name).replace(/\.js$/, ".ts");
    return paths.includes(source) ? source : posix.join(posix.dirname(path), name);
  };
  return new Map(paths.map((path) => [path, [...new Set(named(texts[path]).map((name) => target(path, name)))]]));
}

async function sources(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const paths = entries.filter((e) => e.isFile() && e.name.endsWith(".ts")).map((e) => join(e.parentPath, e.name));
  const texts = paths.sort().map(async (path) => [relative(folder, path).split(sep).join("/"), await readFile(path, "utf8")]);
  return Object.fromEntries(await Promise.all(texts));
}

/** Imports that the rooms do not allow, a sentence each. */
function forbidden(graph) {
  const wrong = [];
  for (const [path, targets] of graph) {
    const room = roomOf(path);
    if (!ROOMS[room]) wrong.push(`${path} lies in the folder ${room}, which is no room`);
    for (const other of targets) {
      if (OUTSIDE.some(([from, to]) => from === path && to === other)) continue;
      if (!graph.has(other)) wrong.push(`${path} imports ${other}, which is no file of this folder`);
      else if (room !== roomOf(other) && !ROOMS[room]?.includes(roomOf(other))) wrong.push(`${path} imports ${other}: ${room} may not import ${roomOf(other)}`);
      else if (roomOf(other) === "entry") wrong.push(`${path} imports ${other}, which is for those who use the package`);
    }
  }
  return wrong;
}

/** Names that import each other round in a circle, the first of them again at the end; empty if there are none. */
function circle(graph) {
  const done = new Set();
  const follow = (name, way) => {
    if (way.includes(name)) return [...way.slice(way.indexOf(name)), name];
    if (done.has(name)) return [];
    for (const other of graph.get(name) ?? []) {
      const found = follow(other, [...way, name]);
      if (found.length > 0) return found;
    }
    done.add(name);
    return [];
  };
  for (const name of graph.keys()) {
    const found = follow(name, []);
    if (found.length > 0) return found;
  }
  return [];
}

const real = graphOf(await sources(join(www, "src")));

test("every room of www/src imports only from the rooms that it may", () => {
  assert.deepEqual(forbidden(real), []);
});

test("no files of www/src import each other in a circle", () => {
  assert.deepEqual(circle(real), []);
});

test("the rules themselves allow no circle between rooms", () => {
  assert.deepEqual(circle(new Map(Object.entries(ROOMS))), []);
});

test("the demonstration page uses the package as an outsider would, and its files import each other in no circle", async () => {
  const demo = graphOf(await sources(join(www, "demo")));
  const inside = [...demo].flatMap(([path, targets]) => {
    const others = targets.filter((target) => !demo.has(target) && target !== "../src/index.js");
    return others.map((target) => `${path} imports ${target}`);
  });
  assert.ok(demo.size > 15, `${demo.size} files`);
  assert.deepEqual(inside, []);
  assert.deepEqual(circle(demo), []);
});

test("the scanner sees every way to name a module, and none where there is none", () => {
  const text = `
    // import "./comment.js";
    /* export * from "./comment.js"; */
    const words = 'import "./text.js"', more = \`import("./template.js")\`;
    import "./a.js";
    import type { A } from "./b.js";
    import b, {
      type B,
      c,
    } from './c.js';
    import * as d from "../d.js";
    export { e } from "./e.js";
    export type * from "./f.js";
    export * as g from "./g.js";
    export const own = import.meta.url;
    let type: typeof import("./h.js") | import("./i.js").I<import("./j.js").J>;
    const later = async () => import("./k.js");
    const unknown = async (script: string) => import(/* @vite-ignore */ script);
    import old = require("./l.js");
  `;
  assert.deepEqual(named(text).sort(), [..."abcefghijkl"].map((name) => `./${name}.js`).concat("../d.js").sort());
});

test("the sources are read: what is known to be there is found", () => {
  assert.ok(real.size > 40, `${real.size} files`);
  for (const [path, other] of [["page/link.ts", "protocol.ts"], ["types.ts", "types/load.ts"], ["worker/video/footage.ts", "types.ts"], ...OUTSIDE]) {
    assert.ok(real.get(path)?.includes(other), `${path} imports ${other}`);
  }
  const rooms = new Set([...real.keys()].map(roomOf));
  assert.deepEqual([...rooms].sort(), Object.keys(ROOMS).sort());
});

test("what is not allowed is found", () => {
  const graph = graphOf({
    "index.ts": 'export * from "./page/a.js"; export type * from "./worker/a.js";',
    "errors.ts": 'import "./shared/a.js";',
    "shared/a.ts": 'import type { T } from "../types/t.js";',
    "page/a.ts": 'import { load } from "../index.js"; type W = import("../worker/a.js").W;',
    "page/b.ts": 'import "./gone.js"; import "left-pad"; import "../../demo/dom.js";',
    "worker/a.ts": 'export {} from "../page/a.js"; import "../../wasm/fanlight.js";',
    "cellar/a.ts": "",
    "types/t.ts": "",
  });
  assert.deepEqual(forbidden(graph).map((sentence) => sentence.replace(/^(\S+) imports (\S+?)[:,].*/, "$1 → $2")), [
    "index.ts → worker/a.ts",
    "errors.ts → shared/a.ts",
    "shared/a.ts → types/t.ts",
    "page/a.ts → index.ts",
    "page/a.ts → worker/a.ts",
    "page/b.ts → page/gone.js",
    "page/b.ts → left-pad",
    "page/b.ts → ../demo/dom.js",
    "worker/a.ts → page/a.ts",
    "worker/a.ts → ../wasm/fanlight.js",
    "cellar/a.ts lies in the folder cellar, which is no room",
  ]);
  const through = graphOf({
    "a.ts": 'import "./b.js";',
    "b.ts": 'import "./c/d.js"; import "./e.js";',
    "c/d.ts": 'export type { A } from "../b.js";',
    "e.ts": "",
  });
  assert.deepEqual(circle(through), ["b.ts", "c/d.ts", "b.ts"]);
  assert.deepEqual(circle(graphOf({ "a.ts": 'import "./a.js";' })), ["a.ts", "a.ts"]);
});
