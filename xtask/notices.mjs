// `node notices.mjs FILE`: writes the notices of everything by others that is in the npm package: each crate that is compiled into the
// wasm modules, and the npm packages whose files are copied, with their licence texts. Reads what cargo and npm have on the disk.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** The packages of this workspace that become wasm modules of the npm package. */
const SHIPPED = ["fanlight", "fanlight-grammar"];
/** The npm packages that are copied into it, from www/node_modules. */
const COPIED = ["mediabunny"];
const TEXTS = /^(licen[cs]e|copying|notice|copyright|unlicense)/i;

/** The crates that are compiled into the wasm modules, by cargo's own resolution for wasm32: no build scripts, no tests. */
export function crates() {
  const args = ["metadata", "--format-version=1", "--locked", "--filter-platform", "wasm32-unknown-unknown"];
  const { packages, resolve, workspace_members: own } = JSON.parse(
    execFileSync(process.env.CARGO ?? "cargo", args, { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 28, stdio: ["ignore", "pipe", "inherit"] }),
  );
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const byId = new Map(packages.map((one) => [one.id, one]));
  const found = new Set();
  const visit = (id) => {
    if (found.has(id)) return;
    found.add(id);
    for (const { pkg, dep_kinds } of nodes.get(id).deps) {
      const isMacro = byId.get(pkg).targets.some(({ kind }) => kind.includes("proc-macro"));
      // Macros run while it is compiled, and nothing of them is left.
      if (!isMacro && dep_kinds.some(({ kind }) => kind === null)) visit(pkg);
    }
  };
  for (const id of own) if (SHIPPED.includes(byId.get(id).name)) visit(id);
  return [...found]
    .filter((id) => !own.includes(id))
    .map((id) => byId.get(id))
    .sort((a, b) => (a.name === b.name ? (a.version < b.version ? -1 : 1) : a.name < b.name ? -1 : 1))
    .map(({ name, version, license, authors, repository, manifest_path: manifest, license_file: file }) => {
      const folder = dirname(manifest);
      const texts = textsIn(folder, file);
      // A few crates have left their licence out of what they publish.
      if (texts.length === 0 && /Apache-2\.0/.test(license ?? "")) texts.push(readFileSync(join(ROOT, "LICENSE-APACHE"), "utf8").trim());
      return { name, version, license: license ?? `see ${file}`, authors, repository, texts };
    });
}

export function npmPackages() {
  return COPIED.map((name) => {
    const folder = join(ROOT, "www/node_modules", name);
    const { version, license, author, repository } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const authors = author ? [typeof author === "string" ? author : author.name] : [];
    return { name, version, license, authors, repository: repository?.url ?? repository, texts: textsIn(folder) };
  });
}

function textsIn(folder, named) {
  const files = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile() && TEXTS.test(entry.name));
  const paths = new Set([...files.map((entry) => join(folder, entry.name)).sort(), ...(named ? [join(folder, named)] : [])]);
  return [...paths].filter((path) => existsSync(path)).map((path) => readFileSync(path, "utf8").replaceAll("\r\n", "\n").trim());
}

/** The notices as one text. Many crates have the same text, which stands there once. */
export function notices(all) {
  const texts = new Map();
  const number = (text) => {
    const key = text.replace(/\s+/g, " ");
    if (!texts.has(key)) texts.set(key, { number: texts.size + 1, text });
    return texts.get(key).number;
  };
  const lines = all.map(({ name, version, license, authors, repository, texts }) => {
    const by = authors.length > 0 ? `\n  by ${authors.join(", ")}` : "";
    const where = repository ? `\n  ${repository}` : "";
    const numbers = texts.length > 0 ? `\n  texts: ${texts.map(number).join(", ")}` : "";
    return `${name} ${version} (${license})${by}${where}${numbers}`;
  });
  const intro = "Fanlight's package contains the following works of others, in wasm modules and copied files. Each is used under its licence; the texts are below.";
  const numbered = [...texts.values()].map(({ number, text }) => `${"─".repeat(80)}\nText ${number}\n\n${text}`);
  return `${[intro, ...lines, ...numbered].join("\n\n")}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file] = process.argv.slice(2);
  if (!file) throw new Error("usage: node notices.mjs FILE");
  writeFileSync(file, notices([...crates(), ...npmPackages()]));
}
