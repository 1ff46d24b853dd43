// `node precache.mjs FOLDER`: writes the list of the page's files, with their digests, into FOLDER/sw.js, so that the service
// worker can cache exactly the files of one version.

import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";

const [folder] = process.argv.slice(2);
if (!folder) throw new Error("usage: node precache.mjs FOLDER");

const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** Files that the page never requests. */
const unused = (path) => path === "sw.js" || path === "_headers" || /\.(d\.ts|map|md|txt)$|(^|\/)LICENSE/.test(path);

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
