// How the model chooses its words. A field that is empty leaves it to the model's own generation_config.json.

import type { GenerateOptions } from "../../src/index.js";
import { button, field, h } from "../base/dom.js";
import { type Sampling, save, settings } from "../base/settings.js";

/** The limit if none is set. Without it, an answer that never ends would fill the whole context. */
export const MOST_TOKENS = 1024;

export function samplingOptions(): GenerateOptions {
  const { stop, system: _, maxTokens = MOST_TOKENS, ...rest } = settings.sampling;
  const stops = stop?.split("\n").filter(Boolean) ?? [];
  return { ...rest, maxTokens, ...(stops.length > 0 && { stop: stops.map(unescaped) }) };
}

/** Turns `\n` and `\t`, as people type them, into the characters. */
const unescaped = (text: string) => text.replace(/\\([nt\\])/g, (_, one: string) => ({ n: "\n", t: "\t" })[one] ?? one);

type Numeric = { [K in keyof Sampling]-?: NonNullable<Sampling[K]> extends number ? K : never }[keyof Sampling];

const NUMBERS: { name: Numeric; label: string; help: string; min?: number; max?: number; step: number }[] = [
  { name: "temperature", label: "Temperature", help: "0 always takes the most likely word.", min: 0, max: 2, step: 0.05 },
  { name: "topP", label: "Top-p", help: "Choose only from the most likely words whose probabilities add up to this.", min: 0.01, max: 1, step: 0.01 },
  { name: "topK", label: "Top-k", help: "Choose only from this many of the most likely words.", min: 1, step: 1 },
  { name: "minP", label: "Min-p", help: "Choose only words with at least this share of the highest probability.", min: 0, max: 1, step: 0.01 },
  { name: "maxTokens", label: "Longest answer, in tokens", help: `${MOST_TOKENS} if it is empty.`, min: 1, step: 1 },
  { name: "repetitionPenalty", label: "Repetition penalty", help: "1 changes nothing.", min: 0.1, max: 5, step: 0.05 },
  { name: "presencePenalty", label: "Presence penalty", help: "For words that the answer already has.", min: -2, max: 2, step: 0.1 },
  { name: "frequencyPenalty", label: "Frequency penalty", help: "For words that the answer already has, for each time.", min: -2, max: 2, step: 0.1 },
  { name: "seed", label: "Seed", help: "The same number gives the same answer.", min: 0, step: 1 },
];

export function samplingPage(changed: () => void): HTMLElement {
  const { sampling } = settings;
  const keep = () => {
    save();
    changed();
  };
  const numbers = NUMBERS.map(({ name, label, help, min, max, step }) => {
    const input = h("input", { attrs: { type: "number", inputmode: "decimal", placeholder: "model\u2019s own", step: String(step) } });
    if (name === "maxTokens") input.placeholder = String(MOST_TOKENS);
    if (name === "seed") input.placeholder = "random";
    if (min !== undefined) input.min = String(min);
    if (max !== undefined) input.max = String(max);
    const fill = () => (input.value = sampling[name] === undefined ? "" : String(sampling[name]));
    fill();
    input.addEventListener("input", () => {
      const value = input.valueAsNumber;
      const good = Number.isFinite(value) && input.checkValidity();
      // A number that is not complete is not used. For an empty field, the model's own value applies.
      if (good) sampling[name] = value;
      else delete sampling[name];
      input.ariaInvalid = input.value !== "" && !good ? "true" : null;
      keep();
    });
    return { fill, wrapped: field(label, input, help) };
  });
  const area = (name: "stop" | "system", label: string, help: string) => {
    const text = h("textarea", { attrs: { rows: "2" } });
    const fill = () => (text.value = sampling[name] ?? "");
    fill();
    text.addEventListener("input", () => {
      if (text.value) sampling[name] = text.value;
      else delete sampling[name];
      keep();
    });
    return { fill, wrapped: field(label, text, help) };
  };
  const texts = [
    area("system", "Instructions", "A system message before the conversation. If it is empty, the model\u2019s template decides."),
    area("stop", "Stop at", "One text on each line. The answer ends before the first of them."),
  ];
  const guard = h("input", { attrs: { type: "checkbox", id: "loop-guard" } });
  guard.checked = sampling.loopGuard === true;
  guard.addEventListener("change", () => {
    if (guard.checked) sampling.loopGuard = true;
    else delete sampling.loopGuard;
    keep();
  });
  const reset = button("Back to the model\u2019s own", () => {
    for (const name of Object.keys(sampling)) delete sampling[name as keyof Sampling];
    for (const { fill } of [...numbers, ...texts]) fill();
    guard.checked = false;
    keep();
  });
  const [system, stop] = texts;
  return h(
    "div",
    { class: "stack" },
    h("p", { class: "note" }, "For an empty field, the model\u2019s own value is used."),
    h("div", { class: "pairs" }, ...numbers.map(({ wrapped }) => wrapped)),
    h("div", { class: "check" }, guard, h("label", { attrs: { for: "loop-guard" } }, "End an answer that only repeats itself")),
    stop?.wrapped,
    system?.wrapped,
    h("div", { class: "row" }, reset),
  );
}
