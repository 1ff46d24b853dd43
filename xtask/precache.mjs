// `node precache.mjs FOLDER`: writes into FOLDER/sw.js which files the page consists of, with their digests, so that its
// service worker can keep all of one version and none of another.

import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";

const [folder] = process.argv.slice(2);
if (!folder) throw new Error("usage: node precache.mjs FOLDER");

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** What the page never asks for. */
const unused = (path) => path === "sw.js" || /\.(d\.ts|map|md|txt)$|(^|\/)LICENSE/.test(path);

const found = await readdir(folder, { recursive: true, withFileTypes: true });
const paths = found
  .filter((entry) => entry.isFile())
  .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/"))
  .filter((path) => !unused(path))
  .sort();
const files = {};
for (const path of paths) files[path] = hash(await readFile(join(folder, path)));

const script = join(folder, "sw.js");
const text = await readFile(script, "utf8");
const version = hash(JSON.stringify(files)).slice(0, 16);
const filled = text
  .replace(/^const VERSION = .*;$/m, `const VERSION = ${JSON.stringify(version)};`)
  .replace(/^const FILES = .*;$/m, `const FILES = ${JSON.stringify(files)};`);
if (filled === text && !text.includes(version)) throw new Error(`${script} has no place for the list of files`);
await writeFile(script, filled);
