// Writes the page of the API, `dist/api/index.html`, from the exported declarations of src/index.ts, their doc comments, and
// outline.md, which gives the order and says what goes between. The page needs no script and asks for nothing but its style.
//
//     node www/api/make.mjs OUT.html

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { escape } from "./code.mjs";
import { declarations } from "./declarations.mjs";
import { blocks, inline, prose } from "./prose.mjs";

const here = (name) => new URL(name, import.meta.url);

/** `{ html, problems }`: the page, and what keeps it from being complete. It is made anyway. */
export async function apiPage(points) {
  const { entries, problems } = declarations(points);
  const { version } = JSON.parse(await readFile(here("../package.json"), "utf8"));
  const { lead, groups } = outline(await readFile(here("outline.md"), "utf8"));
  const listed = groups.flatMap(({ names }) => names);
  for (const name of listed) if (!entries.has(name)) problems.push(`outline.md names ${name}, which is not exported`);
  for (const name of listed) if (listed.indexOf(name) !== listed.lastIndexOf(name)) problems.push(`outline.md names ${name} twice`);
  const rest = [...entries.keys()].filter((name) => !listed.includes(name));
  for (const name of rest) problems.push(`${name} has no place in outline.md`);
  if (rest.length > 0) groups.push({ title: "More", text: "", names: rest });

  const members = new Set([...entries.values()].flatMap(({ name, members }) => members.map((member) => `${name}.${member.name}`)));
  const place = (name) => (entries.has(name) || members.has(name) ? `#${name}` : undefined);
  const shown = groups.map((group) => ({ ...group, id: slug(group.title), entries: group.names.filter((n) => entries.has(n)).map((n) => entries.get(n)) }));
  const html = page({ version, lead: prose(lead, place), contents: contents(shown), main: shown.map((g) => section(g, place)).join("\n") });
  return { html, problems, entries };
}

/** The order of the page: a group for each heading of the second level, its exports in a block of that name. */
export function outline(text) {
  const [lead, ...parts] = text.split(/^## /m);
  const groups = parts.map((part) => {
    const [title, body] = [part.slice(0, part.indexOf("\n")), part.slice(part.indexOf("\n"))];
    const names = blocks(body).filter(({ language }) => language === "exports").flatMap((block) => block.text.split(/\s+/));
    return { title, names, text: body.replace(/^```exports\n[^]*?^```$/gm, "").trim() };
  });
  return { lead, groups };
}

/** Apart from the names of exports, which are ids as well. */
const slug = (title) => `about-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;

function contents(groups) {
  const list = ({ id, title, entries }) =>
    `<li><a href="#${id}">${inline(title, () => undefined)}</a><ul>${entries.map(({ name }) => `<li><a href="#${name}"><code>${name}</code></a></li>`).join("")}</ul></li>`;
  return `<ul>${groups.map(list).join("\n")}</ul>`;
}

function section({ id, title, text, entries }, place) {
  return `<section aria-labelledby="${id}">
<h2 id="${id}"><a href="#${id}">${escape(title)}</a></h2>
${prose(text, place)}
${entries.map((one) => entry(one, place)).join("\n")}
</section>`;
}

function entry({ name, from, kind, signature, doc, members, usedBy }, place) {
  // Names of an entry's own members are links within it.
  const near = (word) => place(word) ?? place(`${name}.${word}`);
  const used = usedBy.map((user) => `<a href="#${user}"><code>${user}</code></a>`).join(", ");
  return `<article id="${name}">
<h3><a href="#${name}">${name}</a> <small>${kind}${from.includes("/") ? ` from <code>${escape(from)}</code>` : ""}</small></h3>
${signature ? `<pre tabindex="0"><code>${signature}</code></pre>` : ""}
${prose(doc, near)}
${members.length > 0 ? `<dl>${members.map((one) => member(name, one, near)).join("\n")}</dl>` : ""}
${used ? `<p class="used">Used by ${used}</p>` : ""}
</article>`;
}

function member(owner, { name, signature, doc }, place) {
  const id = escape(`${owner}.${name}`);
  return `<div id="${id}"><dt><a class="anchor" href="#${id}" aria-label="Link to ${id}">#</a><code${signature.includes("\n") ? ` class="lines"` : ""}>${signature}</code></dt><dd>${prose(doc, place)}</dd></div>`;
}

function page({ version, lead, contents, main }) {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'">
<title>Fanlight ${escape(version)}: the JavaScript API</title>
<meta name="description" content="Every function, class, option and error of the npm package fanlight, made from its types.">
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="api.css">
</head>
<body>
<a class="skip" href="#main">To the text</a>
<header>
<a href="../"><img src="icon.svg" alt="" width="40" height="40">Fanlight</a>
<p>${escape(version)}</p>
</header>
<nav aria-label="Contents"><details><summary>Contents</summary>${contents}</details></nav>
<main id="main">
<h1>The JavaScript API</h1>
${lead}
${main}
</main>
</body>
</html>
`;
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const out = process.argv[2];
  if (!out) throw new Error("say where the page goes: node www/api/make.mjs OUT.html");
  const { html, problems } = await apiPage();
  await mkdir(dirname(resolve(out)), { recursive: true });
  await writeFile(out, html);
  for (const problem of problems) console.warn(`${out}: ${problem}`);
}
