// The examples in the README, on the page of the API and in doc comments are what the package's types allow.
// Needs no browser.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { declarations } from "../../../www/api/declarations.mjs";
import { blocks } from "../../../www/api/prose.mjs";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** What an example takes for granted: what there is on a page, and what earlier lines made. */
const GIVEN = `
import type * as fanlight from "fanlight";
declare global {
  const id: string;
  const model: fanlight.Model;
  const session: fanlight.Session;
  const file: File;
  const photo: Blob;
  const page: Blob;
  const screenshot: Blob;
  const canvas: HTMLCanvasElement;
  const controller: AbortController;
  function show(...what: unknown[]): void;
  function print(text: string): void;
}
`;
const OPTIONS = {
  target: "es2022",
  module: "esnext",
  moduleResolution: "bundler",
  lib: ["es2023", "dom", "dom.iterable", "dom.asynciterable", "esnext.disposable"],
  types: [],
  strict: true,
  noEmit: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
};

test("every example compiles against the package's types", async (t) => {
  const examples = [...(await inFile("README.md")), ...(await inFile("www/api/outline.md")), ...(await inFile("www/README.md")), ...inComments()];
  assert.ok(examples.length > 5, `only ${examples.length} examples were found`);
  assert.equal(await compiled(t, examples), "");
});

test("an example that the types do not allow is found", async (t) => {
  const wrong = { name: "wrong", text: 'import { load } from "fanlight";\nawait load("a/b", { weights: "q3" });' };
  assert.match(await compiled(t, [wrong]), /wrong\.ts\(2,.*"q3"/s);
});

/** What the compiler has to say, if anything. */
async function compiled(t, examples) {
  const folder = await mkdtemp(join(tmpdir(), "fanlight-snippets-"));
  t.after(() => rm(folder, { recursive: true }));
  const options = { ...OPTIONS, paths: { fanlight: [path("../../../www/dist/src/index.d.ts")] } };
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, include: ["*.ts"] }));
  await writeFile(join(folder, "given.d.ts"), GIVEN);
  for (const { name, text } of examples) await writeFile(join(folder, `${name}.ts`), `${text}\nexport {};\n`);
  const tsc = path("../../../www/node_modules/typescript/bin/tsc");
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [tsc, "--project", folder, "--pretty", "false"], (error, stdout, stderr) => {
      if (error && !stdout) reject(new Error(stderr || error.message));
      else resolve(stdout);
    });
  });
}

const inText = (name, text) =>
  blocks(text).filter(({ language }) => language === "ts").map((block, index) => ({ name: `${name}-${index + 1}`, text: block.text }));

async function inFile(name) {
  return inText(name.replace(/\W/g, "-"), await readFile(path(`../../../${name}`), "utf8"));
}

/** Examples beside a declaration need not import it. */
function inComments() {
  const all = [...declarations().entries.values()];
  const values = all.filter(({ kind, from }) => from === "fanlight" && !/^(interface|type)$/.test(kind)).map(({ name }) => name);
  const imported = ({ name, text }) => ({ name, text: /from "fanlight/.test(text) ? text : `import { ${values.join(", ")} } from "fanlight";\n${text}` });
  const examples = all.flatMap(({ name, doc, members }) => [
    ...inText(name, doc),
    ...members.flatMap((member) => inText(`${name}-${member.name.replace(/\W/g, "")}`, member.doc)),
  ]);
  return examples.map(imported);
}
