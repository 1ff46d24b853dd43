// A model's answer as elements. A small part of Markdown, read in one pass; what is not that is text. There are no pictures, no
// markup, no addresses but http and https, and no attribute that a model could choose except a checked address.

import { button, copy, h } from "../base/dom.js";
import { plain } from "../base/format.js";

/** Shows a text that grows: blocks that are as they were stay as they are. */
export class MarkdownView {
  #shown: { source: string; node: HTMLElement }[] = [];

  constructor(private readonly root: HTMLElement) {}

  update(text: string): void {
    const sources = blocksOf(plain(text).split("\n"));
    let same = 0;
    while (same < sources.length && this.#shown[same]?.source === sources[same]?.join("\n")) same++;
    for (const { node } of this.#shown.splice(same)) node.remove();
    for (const lines of sources.slice(same)) {
      const node = block(lines, 0);
      this.root.append(node);
      this.#shown.push({ source: lines.join("\n"), node });
    }
  }
}

/** Deeper than this, what is quoted or listed is text. */
const DEEPEST = 6;

const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}>/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +)(?=\S)/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const blank = (line: string) => line.trim() === "";

/** The lines of each block. What begins one is the only thing looked at, so a block is known before it has ended. */
function blocksOf(lines: string[]): string[][] {
  const blocks: string[][] = [];
  let at = 0;
  while (at < lines.length) {
    const from = at;
    const line = lines[at++] ?? "";
    if (blank(line)) continue;
    const fence = FENCE.exec(line)?.[1];
    if (fence) {
      while (at < lines.length && !closes(lines[at] ?? "", fence)) at++;
      at++;
    } else if (QUOTE.test(line)) {
      while (at < lines.length && QUOTE.test(lines[at] ?? "")) at++;
    } else if (ITEM.test(line) && !RULE.test(line)) {
      const indent = ITEM.exec(line)?.[1]?.length ?? 0;
      while (at < lines.length && continuesList(lines, at, indent)) at++;
    } else if (line.includes("|") && DELIMITERS.test(lines[at] ?? "") && lines[at]?.includes("-")) {
      while (at < lines.length && !blank(lines[at] ?? "") && (lines[at]?.includes("|") ?? false)) at++;
    } else if (!HEADING.test(line) && !RULE.test(line)) {
      while (at < lines.length && !beginsBlock(lines[at] ?? "")) at++;
    }
    blocks.push(lines.slice(from, at));
  }
  return blocks;
}

const closes = (line: string, fence: string) => {
  const end = line.trim();
  return end.length >= fence.length && end.startsWith(fence) && end === fence.charAt(0).repeat(end.length);
};

const beginsBlock = (line: string) =>
  blank(line) || FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

/** A list goes on with items, with what is indented, and over one empty line where such a line follows. */
function continuesList(lines: string[], at: number, indent: number): boolean {
  const line = lines[at] ?? "";
  if (blank(line)) {
    const next = lines[at + 1] ?? "";
    return !blank(next) && (ITEM.test(next) || next.startsWith(" ".repeat(indent + 2)));
  }
  if (ITEM.test(line)) return !RULE.test(line);
  return line.startsWith(" ".repeat(indent + 2)) || !beginsBlock(line);
}

function block(lines: string[], depth: number): HTMLElement {
  const first = lines[0] ?? "";
  const fence = FENCE.exec(first);
  if (fence?.[1]) {
    const closed = lines.length > 1 && closes(lines.at(-1) ?? "", fence[1]);
    return codeBlock(lines.slice(1, closed ? -1 : undefined).join("\n"), (fence[2] ?? "").trim());
  }
  const heading = HEADING.exec(first);
  if (heading?.[1]) {
    // The page's own headings are the two above.
    const level = Math.min(5, Math.max(3, heading[1].length + 1)) as 3 | 4 | 5;
    return inlined(h(`h${level}`), heading[2] ?? "");
  }
  if (RULE.test(first)) return h("hr");
  if (depth < DEEPEST && QUOTE.test(first)) {
    return nested(h("blockquote"), lines.map((line) => line.replace(/^ {0,3}> ?/, "")), depth);
  }
  if (depth < DEEPEST && ITEM.test(first)) return list(lines, depth);
  if (lines.length > 1 && first.includes("|") && DELIMITERS.test(lines[1] ?? "")) return table(lines);
  return inlined(h("p"), lines.join("\n"));
}

function nested(into: HTMLElement, lines: string[], depth: number): HTMLElement {
  into.append(...blocksOf(lines).map((lines) => block(lines, depth + 1)));
  return into;
}

function list(lines: string[], depth: number): HTMLElement {
  const [, indent = "", marker = "-"] = ITEM.exec(lines[0] ?? "") ?? [];
  const ordered = /\d/.test(marker);
  const made = ordered ? h("ol") : h("ul");
  const start = parseInt(marker, 10);
  if (made instanceof HTMLOListElement && start !== 1) made.start = start;
  const items: string[][] = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && (item[1]?.length ?? 0) <= indent.length + 1) items.push([line.slice(item[0].length)]);
    else items.at(-1)?.push(line.replace(new RegExp(`^ {0,${indent.length + marker.length + 1}}`), ""));
  }
  for (const lines of items) {
    const item = h("li");
    const box = /^\[([ xX])\] /.exec(lines[0] ?? "");
    if (box) lines[0] = `${box[1] === " " ? "\u2610" : "\u2611"} ${lines[0]?.slice(4)}`;
    const blocks = blocksOf(lines);
    // An item of one paragraph is its words.
    const [only] = blocks;
    if (only && (blocks.length === 1 || !blank(lines[1] ?? "x")) && !beginsBlock(only[0] ?? "")) {
      inlined(item, only.join("\n"));
      blocks.shift();
    }
    item.append(...blocks.map((lines) => block(lines, depth + 1)));
    made.append(item);
  }
  return made;
}

const MOST_COLUMNS = 60;

function table([head = "", delimiters = "", ...rows]: string[]): HTMLElement {
  const sides = cells(delimiters).map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "middle" : "end") : ""));
  const row = (line: string, kind: "th" | "td") =>
    h(
      "tr",
      {},
      ...sides.map((side, column) => {
        const cell = h(kind, side ? { class: side } : {});
        if (kind === "th") cell.setAttribute("scope", "col");
        return inlined(cell, found(line)[column] ?? "");
      }),
    );
  let last: [string, string[]] = ["", []];
  const found = (line: string) => (last[0] === line ? last : (last = [line, cells(line)]))[1];
  return scrollable(h("table", {}, h("thead", {}, row(head, "th")), h("tbody", {}, ...rows.map((line) => row(line, "td")))), "Table");
}

/** What is wider than the page moves under the finger, and under the arrow keys. */
export function scrollable(content: HTMLElement, name: string): HTMLElement {
  return h("div", { class: "scrollable", attrs: { tabindex: "0", role: "group", "aria-label": name } }, content);
}

const cells = (line: string) =>
  line
    .trim()
    .replace(/^\||(?<!\\)\|$/g, "")
    .split(/(?<!\\)\|/, MOST_COLUMNS)
    .map((cell) => cell.trim().replaceAll("\\|", "|"));

/** Text as it is, with its own scrolling and a way to copy it. */
export function codeBlock(text: string, language: string): HTMLElement {
  const name = plain(language).split(/\s/)[0]?.slice(0, 24) ?? "";
  const head = h("div", { class: "code-head" }, h("span", {}, name || "text"), button("Copy", () => copy(text), { class: "small" }));
  return h("div", { class: "code" }, head, h("pre", { attrs: { tabindex: "0" } }, h("code", {}, plain(text))));
}

// ── Within a line ───────────────────────────────────────────────────────────────────────────────────────────────────

/** The only places that need a look; between them everything is text. Every alternative is bounded, so nothing is slow. */
const TOKEN = new RegExp(
  [
    /\\(?<escaped>[!-/:-@[-`{-~])/,
    /(?<ticks>`+)/,
    /(?<mark>\*{1,3}|_{1,3}|~~)/,
    /(?<image>!?)\[(?<words>[^[\]\n]{1,400})\]\((?<where>[^()\s]{1,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,200})?)(?:\s+"[^"\n]{0,200}")?\)/,
    /<(?<angled>https?:\/\/[^\s<>]{1,2000})>/,
    /(?<bare>\bhttps?:\/\/[^\s<>"'`*\\\u0000-\u001f|]{1,2000})/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "gi",
);

const ELEMENTS = { "*": ["em"], _: ["em"], "**": ["strong"], __: ["strong"], "***": ["strong", "em"], ___: ["strong", "em"], "~~": ["del"] } as const;
const isMark = (text: string): text is keyof typeof ELEMENTS => Object.hasOwn(ELEMENTS, text);
const word = /[\p{L}\p{N}]/u;

/** An emphasis that has begun. */
interface Open {
  mark: string;
  content: (Node | string)[];
}

function inlined<E extends HTMLElement>(into: E, text: string): E {
  const open: Open[] = [{ mark: "", content: [] }];
  const put = (...content: (Node | string)[]) => open.at(-1)?.content.push(...content);
  /** What was opened and is not closed was no emphasis. */
  const flatten = () => {
    const { mark, content } = open.pop() ?? { mark: "", content: [] };
    put(mark, ...content);
  };
  const missing = new Set<number>();
  let at = 0;
  TOKEN.lastIndex = 0;
  for (let token = TOKEN.exec(text); token; token = TOKEN.exec(text)) {
    put(text.slice(at, token.index));
    at = TOKEN.lastIndex;
    const { escaped, ticks, mark, image, words, where, angled, bare } = token.groups ?? {};
    if (escaped) put(escaped);
    else if (ticks) {
      const end = missing.has(ticks.length) ? -1 : runAt(text, ticks, at);
      if (end < 0) {
        missing.add(ticks.length);
        put(ticks);
      } else {
        put(h("code", {}, text.slice(at, end).replace(/^ (.*[^ ].*) $/, "$1")));
        at = end + ticks.length;
      }
    } else if (mark) {
      const [before, after] = [text.charAt(token.index - 1), text.charAt(at)];
      const inWord = mark.startsWith("_");
      const closing = before.trim() !== "" && !(inWord && word.test(after));
      const opening = after.trim() !== "" && !(inWord && word.test(before));
      let rest = mark;
      // Three stars may end two emphases.
      while (closing && rest) {
        const begun = open.findLastIndex((one) => one.mark !== "" && rest.startsWith(one.mark) && one.content.length > 0);
        if (begun < 0) break;
        while (open.length > begun + 1) flatten();
        const { mark: closed, content } = open.pop() ?? { mark: "", content: [] };
        if (isMark(closed)) put(emphasis(closed, content));
        rest = rest.slice(closed.length);
      }
      if (opening && rest && open.length < 12) open.push({ mark: rest, content: [] });
      else put(rest);
    } else if (words && where) put(image ? token[0] : (link(where, words) ?? token[0]));
    else if (angled) put(link(angled) ?? token[0]);
    else if (bare) {
      // What ends a sentence does not belong to its last address.
      const address = bare.replace(/[.,;:!?)\]}]+$/, "");
      put(link(address) ?? address);
      at = token.index + address.length;
    }
    TOKEN.lastIndex = at;
  }
  put(text.slice(at));
  while (open.length > 1) flatten();
  into.append(...merged(open[0]?.content ?? []));
  return into;
}

function emphasis(mark: keyof typeof ELEMENTS, content: (Node | string)[]): HTMLElement {
  const [outer, inner] = ELEMENTS[mark];
  return inner ? h(outer, {}, h(inner, {}, ...merged(content))) : h(outer, {}, ...merged(content));
}

/** One text node where there would be many. */
function merged(content: (Node | string)[]): (Node | string)[] {
  const result: (Node | string)[] = [];
  for (const piece of content) {
    const last = result.at(-1);
    if (piece === "") continue;
    if (typeof piece === "string" && typeof last === "string") result[result.length - 1] = last + piece;
    else result.push(piece);
  }
  return result;
}

/** Where a run of exactly these backticks begins. */
function runAt(text: string, ticks: string, from: number): number {
  let at = text.indexOf(ticks, from);
  while (at >= 0) {
    let end = at + ticks.length;
    if (text.charAt(at - 1) !== "`" && text.charAt(end) !== "`") return at;
    while (text.charAt(end) === "`") end++;
    at = text.indexOf(ticks, end);
  }
  return -1;
}

/** A link to a page on the web, with the host that it leads to where its words do not begin with it. */
function link(where: string, words?: string): HTMLElement | undefined {
  if (!/^https?:\/\//i.test(where) || !URL.canParse(where)) return undefined;
  const url = new URL(where);
  // A name and password before the host make an address look like another.
  if (!/^https?:$/.test(url.protocol) || url.username || url.password) return undefined;
  const made = h("a", { attrs: { href: url.href, rel: "noopener noreferrer", target: "_blank" } });
  if (words === undefined) made.textContent = url.href;
  else made.append(words.replace(/[*_`~\\]/g, ""), h("span", { class: "host" }, ` (${url.host})`));
  return made;
}
