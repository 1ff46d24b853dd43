// Facts about this device, the model and the last answer, with a button that copies them for somebody who helps.

import { type MemoryPlan, type Support, support } from "../../src/index.js";
import { button, copy, facts, h } from "../base/dom.js";
import { bytes, millions, perSecond, plain, seconds, sentence, size, whole } from "../base/format.js";
import { engine } from "../model/engine.js";
import { adapterName } from "../model/notices.js";
import { lastResult } from "../talk/conversation.js";

/** The estimate that the picker has made for the loaded model. */
let plan: MemoryPlan | undefined;
export const remember = (found: MemoryPlan): void => void (plan = found);

type Row = [name: string, value: string | undefined];

async function groups(): Promise<[title: string, rows: Row[]][]> {
  const able = await support().catch((): Support => ({ webgpu: false, reason: "it could not be asked" }));
  const storage = await navigator.storage?.estimate?.().catch(() => undefined);
  const persisted = await navigator.storage?.persisted?.().catch(() => false);
  const { state, wanted } = engine;
  const info = state.kind === "ready" ? state.model.info : undefined;
  const adapter = info?.adapter ?? able.adapter;
  const result = lastResult();
  const { deviceMemory } = navigator as { deviceMemory?: number };
  const limit = (name: string): Row => {
    const value = able.limits?.[name];
    return [name, value === undefined ? undefined : /Size$/.test(name) ? bytes(value) : whole(value)];
  };
  return [
    [
      "Speed of the last answer",
      result
        ? [
            ["First word after", seconds(result.timings.ttftMs)],
            ["Looking at pictures", seconds(result.timings.imageMs)],
            ["Reading the prompt", `${seconds(result.timings.prefillMs)}, ${whole(result.usage.promptTokens - result.usage.cachedTokens)} tokens`],
            ["Known from before", `${whole(result.usage.cachedTokens)} tokens`],
            ["Writing", `${perSecond(result.timings.decodeTps)}, ${whole(result.usage.completionTokens)} tokens`],
            ["Pictures", result.images.map(({ original, resized, tokens }) => `${size(original)} \u2192 ${size(resized)}, ${tokens}`).join("; ")],
          ]
        : [["Nothing asked yet", "\u2013"]],
    ],
    [
      "Memory",
      [
        ["Weights, on the device", info && bytes(info.weightBytes)],
        ["Keys and values, when full", plan && info && plan.contextLength === info.contextLength ? bytes(plan.kvBytes) : undefined],
        ["Kept as", info && `${formats(info.weights)}; keys and values in ${info.kvCache}`],
        ["Engine (wasm), at most", info && bytes(info.wasmBytes)],
        ["Files of this page, on the disk", storage?.usage === undefined ? undefined : bytes(storage.usage)],
        ["Kept until you remove it", persisted ? "yes" : "the browser may clear it"],
      ],
    ],
    [
      "Model",
      info
        ? [
            ["Name", plain(wanted?.name ?? "")],
            ["Family", info.modelType],
            ["Size", millions(info.parameters)],
            ["Context", `${whole(info.contextLength)} tokens`],
            ["Commit", info.commit?.slice(0, 12)],
            ["Loaded in", seconds(info.loadMs)],
            ["Over the network", bytes(info.cache.networkBytes)],
            ["Not kept, because", info.cache.reason && sentence(plain(info.cache.reason))],
            ...info.decisions.map((decision): Row => ["Chosen", sentence(plain(decision))]),
          ]
        : [["Not loaded", "\u2013"]],
    ],
    [
      "Graphics",
      adapter
        ? [
            ["Adapter", adapterName(adapter)],
            ["Half precision (shader-f16)", adapter.f16 ? "yes" : "no"],
            ["Subgroups", adapter.subgroups ? "yes" : "no"],
            ...Object.keys(able.limits ?? {}).map(limit),
          ]
        : [
            ["WebGPU", "no"],
            ["Why", able.reason && sentence(able.reason)],
            ["What to do", able.hint],
          ],
    ],
    [
      "Browser",
      [
        ["Memory, as it says", deviceMemory === undefined ? undefined : `${deviceMemory} GB or more`],
        ["Processors", String(navigator.hardwareConcurrency)],
        ["Secure", globalThis.isSecureContext ? "yes" : "no"],
        ["Name", navigator.userAgent],
      ],
    ],
  ];
}

export function diagnosticsPage(): { content: HTMLElement; refresh: () => Promise<void> } {
  const body = h("div", { class: "stack" });
  let report = "";
  const refresh = async () => {
    const all = await groups();
    report = all
      .map(([title, rows]) => [`## ${title}`, ...rows.flatMap(([name, value]) => (value ? [`- ${name}: ${value}`] : []))].join("\n"))
      .join("\n\n");
    body.replaceChildren(...all.map(([title, rows]) => h("section", {}, h("h3", {}, title), facts(rows))));
  };
  engine.listen((before) => {
    if (before.kind !== engine.state.kind && body.checkVisibility()) void refresh();
  });
  const content = h(
    "div",
    { class: "stack" },
    h("div", { class: "row" }, button("Copy report", () => copy(report), { symbol: "copy" }), button("Refresh", refresh, { symbol: "again", class: "quiet" })),
    h("p", { class: "help" }, "The report contains what is shown here, and nothing of your pictures, questions or answers."),
    body,
  );
  return { content, refresh };
}

/** `vision=keep,text=q4,embeddings=q8` in words. */
function formats(notation: string): string {
  const parts = notation.split(",").map((part) => part.split("="));
  const words = (format = "") => (format === "keep" ? "as published" : format);
  const all = new Set(parts.map(([part, format]) => format ?? part));
  if (all.size === 1) return words([...all][0]);
  return parts.map(([part, format]) => `${part} ${words(format)}`).join(", ");
}
