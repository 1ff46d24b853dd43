// The conversation: asks, asks again, and keeps the rest of the page up to date with it.

import type { Message, Result } from "../../src/index.js";
import { button, h, part } from "../base/dom.js";
import { plain, whole } from "../base/format.js";
import { settings } from "../base/settings.js";
import { asError, engine } from "../model/engine.js";
import { constraint, MODES } from "../panel/output.js";
import { samplingOptions } from "../panel/sampling.js";
import { arrived, type Picture, startPictures, takeSample, thumb } from "../stage/pictures.js";
import { stage } from "../stage/stage.js";
import { type Deeds, newTurn, newView } from "./answer.js";
import { allPictures, content, currentSession, forget, nameOf, spoken, takeBack, talk, type Turn } from "./conversation.js";
import { activate, point } from "./findings.js";
import { replan } from "./plan.js";
import { runTool } from "./tools.js";

const [log, said, intro, suggestions] = [part("log"), part("said"), part("intro"), part("suggestions")];
const form = part("ask", HTMLFormElement);
const question = part("question", HTMLTextAreaElement);
const send = part("send", HTMLButtonElement);
const [stop, restartButton] = [part("stop"), part("restart")];
const [attached, mode, editing] = [part("attached"), part("mode"), part("editing")];
const [context, contextText, contextMeter] = [part("context"), part("context-text"), part("context-meter", HTMLMeterElement)];

const deeds: Deeds = { again: (turn) => void regenerate(turn), edit, restart };

async function ask(text: string, pictures: Picture[]): Promise<void> {
  const { model } = engine;
  if (!model || talk.generating) return;
  let held;
  try {
    held = constraint();
  } catch (error) {
    return fail(String(error instanceof Error ? error.message : error));
  }
  const { signal } = (talk.generating = new AbortController());
  if (talk.edited) await takeBack(talk.edited);
  talk.edited = undefined;
  talk.pending = talk.pending.filter((picture) => !pictures.includes(picture));
  question.value = "";
  const turn = newTurn(text, pictures);
  const view = newView(turn, deeds);
  activate(turn);
  update();
  said.textContent = "Answering\u2026";
  try {
    const conversation = await currentSession(model);
    if (!signal.aborted) {
      talk.turns.at(-2)?.before?.destroy();
      if (talk.turns.length > 1) delete talk.turns.at(-2)?.before;
      // A copy from which the answer can be generated again. Without a copy, all messages are sent again.
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
        if (!talk.turns.includes(turn)) break;
        turn.results.push(result);
        turn.said.push(...input, spoken(result));
        learn(pictures, result);
        talk.used = result.usage.promptTokens + result.usage.completionTokens;
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
    if (talk.turns.includes(turn)) await view.end(model);
  } catch (error) {
    const failed = asError(error);
    // The conversation may be lost with its worker. The next question tells another one what was said.
    if (failed.code === "internal" || (failed.code === "aborted" && !signal.aborted)) forget();
    view.fail(failed);
  }
  turn.article.ariaBusy = "false";
  talk.generating = undefined;
  const answer = (said.textContent = heard(turn));
  // Screen readers announce the answer once. It is removed here, because it also stands in the log.
  setTimeout(() => said.textContent === answer && (said.textContent = ""), 10_000);
  update();
}

function learn(pictures: Picture[], { images, videos }: Result): void {
  const infos = { image: [...images], video: [...videos] };
  for (const picture of pictures) {
    const info = infos[picture.kind].shift();
    if (info) picture.info = info;
  }
  stage.refresh();
}

/** The text with which screen readers announce a complete answer. */
function heard(turn: Turn): string {
  const text = turn.results.at(-1)?.text ?? "";
  return text.length > 600 ? `${plain(text.slice(0, 600))}\u2026` : plain(text);
}

// ── What can be done with it ────────────────────────────────────────────────────────────────────────────────────────

async function regenerate(turn: Turn): Promise<void> {
  if (talk.generating || turn !== talk.turns.at(-1) || !engine.model) return;
  await takeBack(turn);
  await ask(turn.question, turn.pictures);
}

function edit(turn: Turn): void {
  if (talk.generating || turn !== talk.turns.at(-1)) return;
  talk.edited = turn;
  talk.pending = [...turn.pictures];
  question.value = turn.question;
  update();
  question.focus();
}

function keep(): void {
  talk.edited = undefined;
  talk.pending = [];
  question.value = "";
  update();
}

export function restart(): void {
  talk.generating?.abort();
  forget();
  for (const { before } of talk.turns) before?.destroy();
  const gone = allPictures();
  talk.turns = [];
  talk.pending = [];
  talk.active = talk.edited = undefined;
  talk.used = 0;
  log.replaceChildren();
  said.textContent = "";
  void stage.show(undefined);
  for (const { url } of gone) URL.revokeObjectURL(url);
  update();
  question.focus();
}

function fail(text: string): void {
  const problem = part("picture-problem");
  problem.textContent = text;
  problem.hidden = false;
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
  send.disabled = !ready || Boolean(talk.generating);
  send.hidden = Boolean(talk.generating);
  stop.hidden = !talk.generating;
  restartButton.hidden = Boolean(talk.generating) || talk.turns.length === 0;
  intro.hidden = talk.turns.length > 0;
  editing.hidden = !talk.edited;
  talk.edited?.article.classList.add("edited");
  if (!talk.edited) for (const { article } of talk.turns) article.classList.remove("edited");
  document.body.classList.toggle("talking", talk.turns.length > 0);
  suggestions.hidden = talk.turns.length > 0 || (engine.state.kind === "failed" && engine.state.error.code === "webgpu_unavailable");
  mode.hidden = settings.output.mode === "text";
  mode.textContent = MODES[settings.output.mode];
  attached.hidden = talk.pending.length === 0;
  attached.replaceChildren(...talk.pending.map(attachedItem));
  for (const [index, { article }] of talk.turns.entries()) {
    article.classList.toggle("newest", index === talk.turns.length - 1 && !talk.generating);
  }
  const window = engine.model?.info.contextLength ?? 0;
  context.hidden = talk.used === 0 || window === 0;
  contextText.textContent = `${whole(talk.used)} of ${whole(window)} tokens`;
  contextMeter.value = window > 0 ? talk.used / window : 0;
  stage.refresh();
  fit();
  replan();
}

function attachedItem(picture: Picture): HTMLElement {
  const remove = button(
    `Remove ${picture.name}`,
    () => {
      talk.pending = talk.pending.filter((one) => one !== picture);
      if (stage.shown === picture) void stage.show(talk.pending.at(-1) ?? allPictures().at(-1));
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
    talk.pending.push(picture);
    stage.show(picture).catch(() => {});
    update();
  });
  stage.overlay.onpoint = (number) => talk.active && point(talk.active, number);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const text = question.value.trim();
    await arrived();
    if (text && !send.disabled) await ask(text, talk.pending);
  };
  question.onkeydown = (event) => {
    if (event.key === "Escape" && talk.generating) talk.generating.abort();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  };
  question.oninput = () => {
    fit();
    replan();
  };
  stop.onclick = () => talk.generating?.abort();
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
      for (const turn of talk.turns) delete turn.before;
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
          if (!send.disabled) await ask(text, talk.pending);
          else question.focus();
        }, { class: "chip" }),
      ),
    );
    update();
  });
}
