// The conversation: questions with their pictures, answers as they are written, and what can be done with them afterwards.

import {
  type Block,
  FanlightError,
  type Located,
  type Message,
  type Model,
  type Part,
  type Plan,
  type Result,
  type Session,
  type ToolCall,
} from "../../src/index.js";
import { button, copy, h, part } from "../base/dom.js";
import { many, perSecond, plain, seconds, sentence, size, whole } from "../base/format.js";
import { settings } from "../base/settings.js";
import { asError, engine } from "../model/engine.js";
import { words } from "../model/notices.js";
import { constraint, MODES } from "../panel/output.js";
import { samplingOptions } from "../panel/sampling.js";
import { cornersOf, type Mark } from "../stage/overlay.js";
import { arrived, type Picture, startPictures, takeSample, thumb } from "../stage/pictures.js";
import { stage } from "../stage/stage.js";
import { codeBlock, MarkdownView } from "./markdown.js";
import { runTool, TOOLS } from "./tools.js";
import { tree } from "./tree.js";

/** A question that was asked, and what came of it. */
interface Turn {
  question: string;
  pictures: Picture[];
  /** What it added to the conversation: nothing, if it failed. */
  said: Message[];
  /** The conversation as it was before, to begin again from there. */
  before?: Session;
  results: Result[];
  marks: Mark[];
  article: HTMLElement;
}

const [log, said, intro, suggestions] = [part("log"), part("said"), part("intro"), part("suggestions")];
const form = part("ask", HTMLFormElement);
const question = part("question", HTMLTextAreaElement);
const send = part("send", HTMLButtonElement);
const [stop, restartButton] = [part("stop"), part("restart")];
const [attached, planLine, mode, editing] = [part("attached"), part("plan"), part("mode"), part("editing")];
const [context, contextText, contextMeter] = [part("context"), part("context-text"), part("context-meter", HTMLMeterElement)];
const scroller = part("scroll");

let turns: Turn[] = [];
let session: Session | undefined;
/** What the session was made with: with other tools or instructions it has to be another. */
let sessionKey = "";
let pending: Picture[] = [];
let generating: AbortController | undefined;
/** The last question, while it is being edited: it goes when the new one is sent. */
let edited: Turn | undefined;
let active: Turn | undefined;
/** Tokens that the conversation takes. */
let used = 0;

/** The last answer's figures, for the diagnostics. */
export const lastResult = (): Result | undefined => turns.at(-1)?.results.at(-1);

// ── What is asked ───────────────────────────────────────────────────────────────────────────────────────────────────

/** The pictures of the conversation without its videos, as the engine counts them. */
const stills = (): Picture[] => turns.flatMap(({ pictures }) => pictures.filter(({ kind }) => kind === "image"));
const allPictures = (): Picture[] => [...turns.flatMap(({ pictures }) => pictures), ...pending];

const nameOf = (picture: Picture): string =>
  `${picture.kind === "image" ? "Picture" : "Video"} ${allPictures().indexOf(picture) + 1}: ${picture.name}`;

function content(text: string, pictures: Picture[]): Part[] {
  const seen = pictures.map(({ kind, blob }): Part => (kind === "image" ? { type: kind, image: blob } : { type: kind, video: blob }));
  return [...seen, { type: "text", text }];
}

const currentKey = () => JSON.stringify([settings.tools, settings.sampling.system ?? ""]);

async function freshSession(model: Model, history: Message[]): Promise<Session> {
  const { system } = settings.sampling;
  const before: Message[] = system ? [{ role: "system", content: system }] : [];
  sessionKey = currentKey();
  return model.session({ messages: [...before, ...history], ...(settings.tools && { tools: TOOLS }) });
}

const history = (): Message[] => turns.flatMap(({ said }) => said);

/** A session that is being made; `epoch` tells one that nobody waits for any more. */
let opening: Promise<Session> | undefined;
let epoch = 0;

async function currentSession(model: Model): Promise<Session> {
  if (session && sessionKey !== currentKey()) forget();
  if (session) return session;
  const mine = epoch;
  opening ??= freshSession(model, history()).then((made) => {
    if (mine === epoch) {
      opening = undefined;
      return (session = made);
    }
    made.destroy();
    throw new FanlightError("aborted", "the conversation was ended");
  });
  opening.catch(() => {
    if (mine === epoch) opening = undefined;
  });
  return opening;
}

/** Ends the session; what was said can be told to another. */
function forget(): void {
  session?.destroy();
  session = opening = undefined;
  epoch++;
}

/** Takes back the last question, so that it or another can be asked in its place. */
async function takeBack(turn: Turn): Promise<void> {
  turns = turns.filter((one) => one !== turn);
  turn.article.remove();
  const { before } = turn;
  if (before || turn.said.length > 0) {
    forget();
    if (sessionKey === currentKey()) session = before;
    else before?.destroy();
  }
  const last = turns.at(-1)?.results.at(-1);
  used = last ? last.usage.promptTokens + last.usage.completionTokens : 0;
}

async function ask(text: string, pictures: Picture[]): Promise<void> {
  const { model } = engine;
  if (!model || generating) return;
  let held;
  try {
    held = constraint();
  } catch (error) {
    return fail(String(error instanceof Error ? error.message : error));
  }
  const { signal } = (generating = new AbortController());
  if (edited) await takeBack(edited);
  edited = undefined;
  pending = pending.filter((picture) => !pictures.includes(picture));
  question.value = "";
  const turn = newTurn(text, pictures);
  const view = newView(turn);
  activate(turn);
  update();
  said.textContent = "Answering\u2026";
  try {
    const conversation = await currentSession(model);
    if (!signal.aborted) {
      turns.at(-2)?.before?.destroy();
      if (turns.length > 1) delete turns.at(-2)?.before;
      // For the answer to be given again; without one the conversation is told anew.
      const copied = await conversation.clone().catch(() => undefined);
      if (copied) turn.before = copied;
      let input: Message[] = [{ role: "user", content: content(text, pictures) }];
      // A model that keeps asking for tools is stopped at some point.
      for (let round = 0; round < 6; round++) {
        const options = { ...samplingOptions(), signal, ...(held !== undefined && { responseConstraint: held }) };
        const answer = conversation.promptStreaming(input, options);
        for await (const delta of answer) view.add(delta.text, delta.reasoning);
        const result = await answer.result;
        // A new conversation may have begun meanwhile.
        if (!turns.includes(turn)) break;
        turn.results.push(result);
        turn.said.push(...input, spoken(result));
        learn(pictures, result);
        used = result.usage.promptTokens + result.usage.completionTokens;
        const calls = result.toolCalls ?? [];
        if (calls.length === 0 || signal.aborted) break;
        input = calls.map((call) => {
          const gave = runTool(call);
          view.tool(call, gave);
          return { role: "tool", content: gave, toolCallId: call.id };
        });
        view.next();
      }
    }
    if (turns.includes(turn)) await view.end(model);
  } catch (error) {
    view.fail(asError(error));
  }
  turn.article.ariaBusy = "false";
  generating = undefined;
  const answer = (said.textContent = heard(turn));
  // Heard once; whoever reads the page finds it where it stands.
  setTimeout(() => said.textContent === answer && (said.textContent = ""), 10_000);
  update();
}

/** What the assistant said, as a message of the conversation. */
function spoken({ text, reasoning, toolCalls }: Result): Message {
  return { role: "assistant", content: text, ...(reasoning && { reasoning }), ...(toolCalls?.length && { toolCalls }) };
}

function learn(pictures: Picture[], { images, videos }: Result): void {
  const infos = { image: [...images], video: [...videos] };
  for (const picture of pictures) {
    const info = infos[picture.kind].shift();
    if (info) picture.info = info;
  }
  stage.refresh();
}

/** An answer for those who listen: once, when it is there. */
function heard(turn: Turn): string {
  const text = turn.results.at(-1)?.text ?? "";
  return text.length > 600 ? `${plain(text.slice(0, 600))}\u2026` : plain(text);
}

// ── What is shown ───────────────────────────────────────────────────────────────────────────────────────────────────

function newTurn(text: string, pictures: Picture[]): Turn {
  const article = h("article", { attrs: { "aria-busy": "true" } });
  const turn: Turn = { question: text, pictures, said: [], results: [], marks: [], article };
  turns.push(turn);
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
function newView(turn: Turn) {
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
      // For whoever looks after this page from outside: the text as it was written.
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
    /** What follows is another piece of the answer. */
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
      // It is what counts: an answer may end before what was streamed.
      if (result.text !== text) {
        text = result.text;
        render();
      }
      await showResult(turn, model, result, answer, after);
      foot.textContent = answerFacts(turn.results);
      article.append(actions(turn, text));
      follow();
    },
    fail(error: FanlightError): void {
      now();
      const { what, todo } = words(error);
      const again = error.code === "context_full" && button("New conversation", restart, { class: "small" });
      foot.replaceWith(h("div", { class: "problem", attrs: { role: "alert" } }, h("p", {}, `${what} ${todo}`), again));
      article.append(actions(turn, text));
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

/** Nothing but data: its list says the same, better. */
const isData = (text: string) => /^\s*(```|[[{])/.test(text) && /(```|[\]}])\s*$/.test(text);

function fold(answer: HTMLElement, name: string): void {
  answer.replaceChildren(h("details", { class: "raw" }, h("summary", {}, name), ...answer.childNodes));
}

const HUES = 6;

function marksOf(located: Located[]): Mark[] {
  const labels = [...new Set(located.map(({ label }) => label ?? ""))];
  return located.map((located, number) => ({ located, number, hue: labels.indexOf(located.label ?? "") % HUES }));
}

/** The list of what an answer found: each stands for its mark in the picture, and the other way round. */
function findings(turn: Turn): HTMLElement {
  const several = stills().length > 1;
  const made = turn.marks.slice(0, 300).map((mark) => {
    const { located, number, hue } = mark;
    const name = plain(located.label ?? "") || located.kind;
    const picture = several && stills()[located.image] ? `picture ${allPictures().indexOf(stills()[located.image] as Picture) + 1}` : "";
    const place = h("span", { class: "place" }, [placeOf(located), picture].filter(Boolean).join(", "));
    const item = h("button", { class: `finding hue-${hue}`, attrs: { type: "button" } }, h("span", {}, name), place);
    const on = () => point(turn, number);
    for (const event of ["pointerenter", "focus"]) item.addEventListener(event, on);
    for (const event of ["pointerleave", "blur"]) item.addEventListener(event, () => point(turn, undefined));
    item.addEventListener("click", () => {
      activate(turn, mark);
      point(turn, number);
      stage.overlay.reveal();
    });
    item.dataset["number"] = String(number);
    return h("li", {}, item);
  });
  return h("ul", { class: "findings", attrs: { "aria-label": "What was located" } }, ...made);
}

const rounded = (values: number[]) => values.map((value) => Math.round(value)).join(", ");

function placeOf(located: Located): string {
  switch (located.kind) {
    case "box":
    case "point":
      return rounded(located.at);
    case "polygon":
      return `${located.at.length} corners`;
    case "box3d":
      return `${located.at.slice(0, 3).map((value) => value.toFixed(1)).join(", ")} m`;
  }
}

/** Brings out one thing, in the picture and in the list. */
function point(turn: Turn, number: number | undefined): void {
  if (number !== undefined && turn !== active) activate(turn, turn.marks[number]);
  stage.overlay.lift(number);
  for (const item of turn.article.querySelectorAll<HTMLElement>(".finding")) {
    item.classList.toggle("on", item.dataset["number"] === String(number));
  }
}

const marksIn = (turn: Turn | undefined, picture: Picture): Mark[] =>
  turn?.marks.filter(({ located }) => cornersOf(located) && stills()[located.image] === picture) ?? [];

/** The stage shows what this turn located, in the picture that is there or in the one that it is in. */
function activate(turn: Turn, mark?: Mark): void {
  active = turn;
  const meant = mark && stills()[mark.located.image];
  const { shown } = stage;
  const there = shown && marksIn(turn, shown).length > 0;
  const first = turn.marks.map(({ located }) => stills()[located.image]).find((picture) => picture !== undefined);
  const picture = meant ?? (there ? shown : (first ?? shown ?? turn.pictures[0]));
  void stage.show(picture, picture ? marksIn(turn, picture) : []);
}

async function pageOf(model: Model, text: string): Promise<Block[]> {
  const info = [...turns].reverse().flatMap(({ pictures }) => [...pictures].reverse()).find(({ kind, info }) => kind === "image" && info)?.info;
  if (!info || !/data-bbox|<!doctype html|<html/i.test(text)) return [];
  try {
    return (await model.document(text, info)).slice(0, 500);
  } catch {
    // It is shown as it was written.
    return [];
  }
}

function pageMark(turn: Turn, box: [number, number, number, number], label: string, index: number): Mark {
  const image = stills().findLastIndex((picture) => picture.info !== undefined);
  return { located: { kind: "box", at: box, label, image }, number: turn.marks.length + index, hue: index % HUES };
}

/** A block of a page: its text in an element of ours, never its markup. */
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

function actions(turn: Turn, text: string): HTMLElement {
  return h(
    "div",
    { class: "actions" },
    text !== "" && button("Copy", () => copy(text), { symbol: "copy", class: "small quiet" }),
    button("Again", () => regenerate(turn), { symbol: "again", class: "small quiet last" }),
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

// ── What can be done with it ────────────────────────────────────────────────────────────────────────────────────────

async function regenerate(turn: Turn): Promise<void> {
  if (generating || turn !== turns.at(-1) || !engine.model) return;
  await takeBack(turn);
  await ask(turn.question, turn.pictures);
}

function edit(turn: Turn): void {
  if (generating || turn !== turns.at(-1)) return;
  edited = turn;
  pending = [...turn.pictures];
  question.value = turn.question;
  update();
  question.focus();
}

function keep(): void {
  edited = undefined;
  pending = [];
  question.value = "";
  update();
}

export function restart(): void {
  generating?.abort();
  forget();
  for (const { before } of turns) before?.destroy();
  const gone = allPictures();
  turns = [];
  pending = [];
  active = edited = undefined;
  used = 0;
  log.replaceChildren();
  said.textContent = "";
  void stage.show(undefined);
  for (const { url } of gone) URL.revokeObjectURL(url);
  update();
  question.focus();
}

/** Whether the end of the conversation is in view, which is then kept there. */
function isNear(): boolean {
  const at = scroller.scrollHeight > scroller.clientHeight + 1 ? scroller : document.documentElement;
  return at.scrollHeight - at.scrollTop - at.clientHeight < 120;
}

function follow(always = false): void {
  if (!always && !isNear()) return;
  scroller.scrollTop = scroller.scrollHeight;
  const last = turns.at(-1)?.article;
  if (always && scroller.scrollHeight <= scroller.clientHeight + 1) last?.scrollIntoView({ block: "nearest" });
}

function fail(text: string): void {
  const problem = part("picture-problem");
  problem.textContent = text;
  problem.hidden = false;
}

// ── Before it is sent ───────────────────────────────────────────────────────────────────────────────────────────────

let planned = 0;
let planning: AbortController | undefined;
let waiting: ReturnType<typeof setTimeout> | undefined;

/** Says what the question would take, a moment after it has changed. */
function replan(): void {
  clearTimeout(waiting);
  planning?.abort();
  const mine = ++planned;
  const text = question.value.trim();
  if (!engine.model || generating || edited || (!text && pending.length === 0)) {
    planLine.hidden = true;
    return;
  }
  // A question that is sent meanwhile does not wait for it.
  const asking = (planning = new AbortController());
  waiting = setTimeout(async () => {
    try {
      const { model } = engine;
      const conversation = model && !generating ? await currentSession(model) : undefined;
      const plan = await conversation?.plan([{ role: "user", content: content(text, pending) }], { signal: asking.signal });
      if (mine !== planned || generating) return;
      planLine.hidden = !plan;
      if (plan) planLine.replaceChildren(...planFacts(plan));
    } catch (error) {
      if (mine !== planned || generating) return;
      const { what, todo } = words(asError(error));
      planLine.hidden = false;
      planLine.replaceChildren(h("p", { class: "warning" }, `${what} ${todo}`));
    }
  }, 350);
}

function planFacts(plan: Plan): HTMLElement[] {
  const images = plan.images.map(({ original, resized, tokens }) => `${size(original)} seen as ${size(resized)}, ${many(tokens, "token")}`);
  const videos = plan.videos.map(({ frames, resized, tokens }) => `${frames} frames of ${size(resized)}, ${many(tokens, "token")}`);
  const fresh = plan.promptTokens - plan.cachedTokens;
  const prompt = `${many(fresh, "token")} to read, ${whole(Math.max(0, plan.left))} left for the answer`;
  const warnings = [...plan.images.flatMap((image) => image.warnings), ...plan.videos.flatMap((video) => video.decisions)];
  if (!plan.fits) warnings.unshift("this does not fit: begin a new conversation, or send a smaller picture");
  return [
    h("p", {}, [...images, ...videos, prompt].join(" \u00b7 ")),
    ...warnings.map((warning) => h("p", { class: "warning" }, sentence(plain(warning)))),
  ];
}

// ── Everything that follows from the state ──────────────────────────────────────────────────────────────────────────

const OWN_SUGGESTIONS = [
  "What does the red button say?",
  "Locate the red button.",
  'What color is the "Buy now" button?',
  "How many buttons are there?",
  "Read the text.",
];
const SUGGESTIONS = ["What is in this picture?", "Read the text.", "Locate every person and give their boxes in JSON.", "What happens in this video?"];

export function update(): void {
  const ready = engine.model !== undefined;
  send.disabled = !ready || Boolean(generating);
  send.hidden = Boolean(generating);
  stop.hidden = !generating;
  restartButton.hidden = Boolean(generating) || turns.length === 0;
  intro.hidden = turns.length > 0;
  editing.hidden = !edited;
  edited?.article.classList.add("edited");
  if (!edited) for (const { article } of turns) article.classList.remove("edited");
  document.body.classList.toggle("talking", turns.length > 0);
  suggestions.hidden = turns.length > 0 || (engine.state.kind === "failed" && engine.state.error.code === "webgpu_unavailable");
  mode.hidden = settings.output.mode === "text";
  mode.textContent = MODES[settings.output.mode];
  attached.hidden = pending.length === 0;
  attached.replaceChildren(...pending.map(attachedItem));
  for (const [index, { article }] of turns.entries()) {
    article.classList.toggle("newest", index === turns.length - 1 && !generating);
  }
  const window = engine.model?.info.contextLength ?? 0;
  context.hidden = used === 0 || window === 0;
  contextText.textContent = `${whole(used)} of ${whole(window)} tokens`;
  contextMeter.value = window > 0 ? used / window : 0;
  stage.refresh();
  fit();
  replan();
}

function attachedItem(picture: Picture): HTMLElement {
  const remove = button(
    `Remove ${picture.name}`,
    () => {
      pending = pending.filter((one) => one !== picture);
      if (stage.shown === picture) void stage.show(pending.at(-1) ?? allPictures().at(-1));
      update();
      question.focus();
    },
    { symbol: "close", alone: true, class: "remove" },
  );
  return h("li", {}, thumb(picture, nameOf(picture), () => void stage.show(picture)), remove);
}

/** The box is as tall as what is typed. */
function fit(): void {
  question.style.height = "auto";
  question.style.height = `${Math.min(question.scrollHeight + 2, 240)}px`;
}

export function startChat(openOutput: () => void): void {
  startPictures((picture) => {
    pending.push(picture);
    stage.show(picture).catch(() => {});
    update();
  });
  stage.overlay.onpoint = (number) => active && point(active, number);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const text = question.value.trim();
    await arrived();
    if (text && !send.disabled) await ask(text, pending);
  };
  question.onkeydown = (event) => {
    if (event.key === "Escape" && generating) generating.abort();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  };
  question.oninput = () => {
    fit();
    replan();
  };
  stop.onclick = () => generating?.abort();
  restartButton.onclick = restart;
  mode.onclick = openOutput;
  part("editing-cancel").onclick = keep;
  engine.listen((before) => {
    const { state, wanted } = engine;
    // Sessions belong to their model; what was said is told to the next one.
    const model = state.kind === "ready" || state.kind === "recovering" ? state.model : undefined;
    const last = before.kind === "ready" || before.kind === "recovering" ? before.model : undefined;
    if (model !== last) {
      forget();
      for (const turn of turns) delete turn.before;
      for (const picture of allPictures()) delete picture.info;
    }
    if (state.kind === before.kind && state.kind === "loading") return;
    suggestions.replaceChildren(
      ...(wanted?.own ? OWN_SUGGESTIONS : SUGGESTIONS).map((text) =>
        button(text, async () => {
          question.value = text;
          fit();
          // These are about screens: without a picture they take the sample.
          if (wanted?.own && allPictures().length === 0) await takeSample();
          if (!send.disabled) await ask(text, pending);
          else question.focus();
        }, { class: "chip" }),
      ),
    );
    update();
  });
}
