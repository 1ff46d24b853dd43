// Shows a question and its answer: first the text while it is generated, then everything else when the answer is complete.

import type { Block, FanlightError, Model, Result, ToolCall } from "../../src/index.js";
import { button, copy, h, part } from "../base/dom.js";
import { perSecond, plain, seconds } from "../base/format.js";
import { words } from "../model/notices.js";
import type { Mark } from "../stage/overlay.js";
import { type Picture, thumb } from "../stage/pictures.js";
import { stage } from "../stage/stage.js";
import { nameOf, stills, talk, type Turn } from "./conversation.js";
import { activate, findings, HUES, marksIn, marksOf } from "./findings.js";
import { codeBlock, MarkdownView } from "./markdown.js";
import { tree } from "./tree.js";

/** What the buttons of a turn do. */
export interface Deeds {
  again(turn: Turn): void;
  edit(turn: Turn): void;
  restart(): void;
}

const [log, scroller] = [part("log"), part("scroll")];

export function newTurn(text: string, pictures: Picture[]): Turn {
  const article = h("article", { attrs: { "aria-busy": "true" } });
  const turn: Turn = { question: text, pictures, said: [], results: [], marks: [], article };
  talk.turns.push(turn);
  const asked = h("div", { class: "asked" });
  if (pictures.length > 0) {
    const show = (picture: Picture) => void stage.show(picture, marksIn(turn, picture));
    asked.append(h("div", { class: "thumbs" }, ...pictures.map((picture) => thumb(picture, nameOf(picture), () => show(picture)))));
  }
  asked.append(h("p", { class: "question" }, text));
  article.append(asked);
  log.append(article);
  follow(true);
  return turn;
}

/** The part of a turn that is written by the model. */
export function newView(turn: Turn, deeds: Deeds) {
  const { article } = turn;
  const thinking = h("details", { class: "thinking", attrs: { hidden: true } });
  const summary = thinking.appendChild(h("summary", {}, "Thinking\u2026"));
  const thought = thinking.appendChild(h("div"));
  let answer = h("div", { class: "answer" });
  const after = h("div", { class: "after" });
  const foot = h("p", { class: "facts" });
  article.append(thinking, answer, after, foot);

  const began = performance.now();
  let [text, reasoning] = ["", ""];
  let shown: MarkdownView | HTMLElement | undefined;
  const thoughts = new MarkdownView(thought);
  let due = 0;

  const render = () => {
    due = 0;
    const near = isNear();
    if (reasoning) {
      thinking.hidden = false;
      thoughts.update(reasoning);
    }
    const form = formOf(text);
    if (form === "text") {
      if (!(shown instanceof MarkdownView)) {
        answer.replaceChildren();
        shown = new MarkdownView(answer);
      }
      shown.update(text);
    } else {
      if (!(shown instanceof HTMLElement)) {
        answer.replaceChildren();
        shown = answer.appendChild(codeBlock("", form));
      }
      const code = shown.querySelector("code");
      if (code) code.textContent = plain(text);
    }
    if (near) follow();
  };
  const soon = () => {
    due ||= requestAnimationFrame(render);
  };
  const now = () => {
    cancelAnimationFrame(due);
    render();
  };

  return {
    add(more: string, thinks?: string): void {
      text += more;
      reasoning += thinks ?? "";
      if (more && reasoning && summary.textContent?.endsWith("\u2026")) {
        summary.textContent = `Thought for ${seconds(performance.now() - began)}`;
      }
      // Scripts that watch the page from outside read the text here, as the model wrote it.
      log.dispatchEvent(new CustomEvent("answer", { detail: text }));
      soon();
    },
    /** Shows a call of a tool and what it gave. */
    tool(call: ToolCall, gave: string): void {
      const given = Object.entries(call.arguments).map(([name, value]) => `${plain(name)}: ${plain(JSON.stringify(value))}`);
      answer.before(
        h(
          "div",
          { class: "tool" },
          h("p", {}, h("strong", {}, plain(call.name)), ` (${given.join(", ")})`),
          h("p", { class: "gave" }, plain(gave)),
        ),
      );
    },
    /** Starts another piece of the answer. */
    next(): void {
      now();
      if (text.trim()) {
        const next = h("div", { class: "answer" });
        answer.after(next);
        answer = next;
      } else answer.replaceChildren();
      text = "";
      shown = undefined;
    },
    async end(model: Model): Promise<void> {
      now();
      if (summary.textContent?.endsWith("\u2026")) summary.textContent = reasoning ? "Thought" : "";
      const result = turn.results.at(-1);
      if (!result) return;
      // The result counts, because an answer may end earlier than what was streamed.
      if (result.text !== text) {
        text = result.text;
        render();
      }
      await showResult(turn, model, result, answer, after);
      foot.textContent = answerFacts(turn.results);
      article.append(actions(turn, text, deeds));
      follow();
    },
    fail(error: FanlightError): void {
      now();
      const { what, todo } = words(error);
      const again = error.code === "context_full" && button("New conversation", deeds.restart, { class: "small" });
      foot.replaceWith(h("div", { class: "problem", attrs: { role: "alert" } }, h("p", {}, `${what} ${todo}`), again));
      article.append(actions(turn, text, deeds));
      follow();
    },
  };
}

/** JSON and HTML are shown as what they are, not as Markdown. */
function formOf(text: string): "text" | "json" | "html" {
  if (/^\s*(\{|\[\s*([[{"\d\]-]|$))/.test(text)) return "json";
  if (/^\s*<(!doctype html|html|body|div|p|h[1-6]|table|ol|ul)\b/i.test(text)) return "html";
  return "text";
}

/** What is known when an answer is complete: places, a value, a page. */
async function showResult(turn: Turn, model: Model, result: Result, answer: HTMLElement, after: HTMLElement): Promise<void> {
  const located = turn.results.flatMap((one) => one.located);
  turn.marks = marksOf(located);
  if (result.parsed !== undefined) {
    fold(answer, "As the model wrote it");
    answer.before(h("div", { class: "parsed" }, tree(result.parsed)));
    after.after(answer);
  } else if (turn.marks.length > 0 && isData(result.text)) {
    fold(answer, "As the model wrote it");
    after.after(answer);
  }
  const page = await pageOf(model, result.text);
  if (page.length > 0) {
    turn.marks.push(...page.flatMap(({ box, class: kind, tag }, index) => (box ? [pageMark(turn, box, kind ?? tag, index)] : [])));
    fold(answer, "As HTML");
    after.after(answer);
    after.append(h("div", { class: "page" }, ...page.map(blockOf)));
  } else if (turn.marks.length > 0) {
    after.append(findings(turn));
  }
  if (turn.marks.length > 0) activate(turn);
}

/** Whether the answer is only data. Then the list of its items says the same in a better form. */
const isData = (text: string) => /^\s*(```|[[{])/.test(text) && /(```|[\]}])\s*$/.test(text);

function fold(answer: HTMLElement, name: string): void {
  answer.replaceChildren(h("details", { class: "raw" }, h("summary", {}, name), ...answer.childNodes));
}

async function pageOf(model: Model, text: string): Promise<Block[]> {
  const info = [...talk.turns].reverse().flatMap(({ pictures }) => [...pictures].reverse()).find(({ kind, info }) => kind === "image" && info)?.info;
  if (!info || !/data-bbox|<!doctype html|<html/i.test(text)) return [];
  try {
    return (await model.document(text, info)).slice(0, 500);
  } catch {
    // If it cannot be read, it is shown as the model wrote it.
    return [];
  }
}

function pageMark(turn: Turn, box: [number, number, number, number], label: string, index: number): Mark {
  const image = stills().findLastIndex((picture) => picture.info !== undefined);
  return { located: { kind: "box", at: box, label, image }, number: turn.marks.length + index, hue: index % HUES };
}

/** A block of a document page. Only its text is shown, in an element that this page makes, never its markup. */
function blockOf({ tag, class: kind, text }: Block): HTMLElement {
  const level = /^h([1-6])$/.exec(tag)?.[1];
  const shown = plain(text);
  if (level) return h(`h${Math.min(6, Number(level) + 2) as 3 | 4 | 5 | 6}`, {}, shown);
  if (tag === "table" || text.includes("\t")) {
    const rows = shown.split("\n").slice(0, 200);
    return h("table", {}, h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.split("\t").map((cell) => h("td", {}, cell))))));
  }
  return h("p", {}, kind && h("span", { class: "kind" }, plain(kind)), shown);
}

function actions(turn: Turn, text: string, { again, edit }: Deeds): HTMLElement {
  return h(
    "div",
    { class: "actions" },
    text !== "" && button("Copy", () => copy(text), { symbol: "copy", class: "small quiet" }),
    button("Again", () => again(turn), { symbol: "again", class: "small quiet last" }),
    button("Edit the question", () => edit(turn), { symbol: "edit", class: "small quiet last" }),
  );
}

function answerFacts(results: Result[]): string {
  const last = results.at(-1);
  if (!last) return "";
  const { finishReason, usage, timings } = last;
  const ends = {
    stop: "",
    length: "cut at the longest length",
    abort: "stopped",
    tool_calls: "asks for a tool",
    repetition: "ended because it repeated itself",
  };
  const prefilled = usage.promptTokens - usage.cachedTokens;
  return [
    usage.imageTokens > 0 && `${usage.imageTokens} image tokens`,
    usage.videoTokens > 0 && `${usage.videoTokens} video tokens`,
    timings.prefillMs > 0 && `prompt ${perSecond((1000 * prefilled) / timings.prefillMs)}`,
    timings.decodeTps > 0 && `answer ${perSecond(timings.decodeTps)}`,
    timings.ttftMs > 0 && `first word after ${seconds(timings.ttftMs)}`,
    ends[finishReason],
  ]
    .filter(Boolean)
    .join(" \u00b7 ");
}

/** Whether the end of the conversation is in view, which is then kept there. */
function isNear(): boolean {
  const at = scroller.scrollHeight > scroller.clientHeight + 1 ? scroller : document.documentElement;
  return at.scrollHeight - at.scrollTop - at.clientHeight < 120;
}

function follow(always = false): void {
  if (!always && !isNear()) return;
  scroller.scrollTop = scroller.scrollHeight;
  const last = talk.turns.at(-1)?.article;
  if (always && scroller.scrollHeight <= scroller.clientHeight + 1) last?.scrollIntoView({ block: "nearest" });
}
