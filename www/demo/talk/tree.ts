// A value of JSON as something to look at: objects as names and values, lists of alike objects as tables.

import { h } from "../base/dom.js";
import { plain } from "../base/format.js";
import { scrollable } from "./markdown.js";

const DEEPEST = 12;
const MOST = 200;

type Entries = Record<string, unknown>;
const isObject = (value: unknown): value is Entries => typeof value === "object" && value !== null && !Array.isArray(value);

export function tree(value: unknown, depth = 0): HTMLElement {
  if (depth >= DEEPEST) return h("span", {}, "\u2026");
  if (Array.isArray(value)) return value.length > 1 && value.every(isObject) ? rows(value, depth) : items(value, depth);
  if (isObject(value)) return names(value, depth);
  return scalar(value);
}

function scalar(value: unknown): HTMLElement {
  const kind = value === null ? "none" : typeof value;
  return h("span", { class: `value ${kind}` }, value === "" ? "\u201c\u201d" : plain(String(value)));
}

function names(value: Entries, depth: number): HTMLElement {
  const entries = Object.entries(value);
  if (entries.length === 0) return h("span", { class: "value none" }, "empty");
  return h(
    "dl",
    { class: "tree" },
    ...entries.slice(0, MOST).flatMap(([name, value]) => [h("dt", {}, plain(name)), h("dd", {}, tree(value, depth + 1))]),
    ...(entries.length > MOST ? [h("dt", {}, "\u2026"), h("dd", {}, `${entries.length - MOST} more`)] : []),
  );
}

function items(value: unknown[], depth: number): HTMLElement {
  if (value.length === 0) return h("span", { class: "value none" }, "none");
  const simple = value.every((one) => typeof one !== "object" || one === null);
  return h(
    "ul",
    { class: simple ? "tree simple" : "tree" },
    ...value.slice(0, MOST).map((one) => h("li", {}, tree(one, depth + 1))),
    value.length > MOST && h("li", {}, `${value.length - MOST} more`),
  );
}

function rows(value: Entries[], depth: number): HTMLElement {
  const columns = [...new Set(value.flatMap((row) => Object.keys(row)))].slice(0, 24);
  const head = h("tr", {}, ...columns.map((name) => h("th", { attrs: { scope: "col" } }, plain(name))));
  const body = value.slice(0, MOST).map((row) =>
    h("tr", {}, ...columns.map((name) => h("td", {}, Object.hasOwn(row, name) && tree(row[name], depth + 1)))),
  );
  const more = value.length > MOST && h("p", { class: "facts" }, `${value.length - MOST} more rows`);
  return h("div", {}, scrollable(h("table", {}, h("thead", {}, head), h("tbody", {}, ...body)), "Table"), more);
}
