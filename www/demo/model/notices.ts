// Notices above the conversation about the state of the model: one at a time, with what can be done about it.

import type { FanlightError, Progress } from "../../src/index.js";
import { button, h, part } from "../base/dom.js";
import { bytes, plain, remaining, sentence } from "../base/format.js";
import { engine, type State, type Wanted } from "./engine.js";

const root = part("notices");
const status = part("status");

/** Functions of other parts of the page that a notice may call. */
interface Doors {
  /** Opens the picker with this model filled in, and starts the estimate. */
  measure(wanted: Wanted): void;
  choose(): void;
}

const PHASES = {
  resolve: "Looking up",
  download: "Downloading",
  upload: "Loading",
  quantize: "Loading and quantizing",
  compile: "Preparing",
};

export function startNotices(doors: Doors): void {
  let progress: ReturnType<typeof progressNotice> | undefined;
  engine.listen((before) => {
    const { state, wanted } = engine;
    if (state.kind === "loading") {
      if (before.kind !== "loading" || !progress) {
        progress = progressNotice();
        root.replaceChildren(progress.element);
      }
      progress.show(state.progress);
    } else {
      progress = undefined;
      const shown = wanted && notice(state, wanted, doors);
      root.replaceChildren(...(shown ? [shown] : []));
    }
  });
}

function notice(state: State, wanted: Wanted, doors: Doors): HTMLElement | undefined {
  const load = (words: string) => button(words, () => engine.again(), { class: "main" });
  const measure = button("How large is it?", () => doors.measure(wanted));
  const other = button("Choose another model", () => doors.choose());
  switch (state.kind) {
    case "offered": {
      const from = wanted.host ? ` from ${wanted.host}` : "";
      return h(
        "div",
        { class: "notice" },
        h("p", {}, h("strong", {}, `${wanted.name}${from} is not loaded yet.`), " It may be large. Nothing has been downloaded so far."),
        h("div", { class: "row" }, measure, load("Load the model")),
      );
    }
    case "canceled":
      return h(
        "div",
        { class: "notice" },
        h("p", {}, h("strong", {}, "Loading was canceled."), " What was downloaded is kept, and the next try continues from there."),
        h("div", { class: "row" }, load("Go on loading"), other),
      );
    case "recovering":
      return h(
        "div",
        { class: "notice", attrs: { role: "alert" } },
        h("p", {}, h("strong", {}, "The graphics card was lost."), " Loading the model onto it again; then the answer continues\u2026"),
      );
    case "failed":
      return problem(state.error, [...ways(state.error, doors), load("Try again"), other]);
    case "stopped":
      return problem(state.error, [load("Load it again"), ...ways(state.error, doors)], "The model has stopped. ");
    default:
      return undefined;
  }
}

/** An alert. Scripts that watch the page from outside find it by the id `problem`. */
function problem(error: FanlightError, actions: HTMLElement[], before = ""): HTMLElement {
  const { what, todo } = words(error);
  return h(
    "div",
    { class: "notice wrong", attrs: { id: "problem", role: "alert" } },
    h("p", {}, h("strong", {}, before + what), " ", todo),
    h("div", { class: "row" }, ...actions),
  );
}

/** What happened, and what a person can do: the hint of the package, with additions for this page. */
export function words({ code, message, hint }: FanlightError): { what: string; todo: string } {
  const what = sentence(plain(message));
  const more: Partial<Record<typeof code, string>> = {
    oom: "Choose smaller weights or a shorter conversation, and close other tabs that use the graphics card.",
    context_full: "Begin a new conversation, or send a smaller picture.",
    device_lost: "Load the model again; if that fails, reload the page.",
    auth: "Open Models, enter your access token, and try again.",
    not_found: "Check the name or the address, and that it has the files of a model.",
    network: "Check the connection and try again: what was downloaded is kept.",
    cors: "The server has to allow this page to read its files (Access-Control-Allow-Origin).",
  };
  const away = ["network", "io"].includes(code) && !navigator.onLine && "You are offline: models that are kept on this device still work.";
  return { what, todo: plain([hint || more[code], away].filter(Boolean).join(" ")) };
}

function ways({ code }: FanlightError, doors: Doors): HTMLElement[] {
  if (code === "oom" || code === "limits") return [button("Choose smaller weights", () => doors.choose())];
  if (code === "auth") return [button("Open Models", () => doors.choose())];
  return [];
}

function progressNotice() {
  const bar = h("progress", { attrs: { "aria-label": "Loading the model" } });
  const text = h("p", { class: "facts" });
  const title = h("strong", {}, "Loading the model\u2026");
  const cancel = button("Cancel", () => engine.cancel(), { class: "small" });
  const element = h("div", { class: "notice" }, h("div", { class: "split" }, h("p", {}, title), cancel), bar, text);
  return {
    element,
    show(progress: Progress | undefined): void {
      if (!progress) return;
      const { phase, loaded, total, waiting } = progress;
      title.textContent = waiting ? "Another tab is downloading this model; waiting for it\u2026" : `${PHASES[phase]} the model\u2026`;
      if (total > 0) bar.value = loaded / total;
      else bar.removeAttribute("value");
      text.textContent = progressFacts(progress);
    },
  };
}

export function progressFacts({ phase, loaded, total, fromCache, bytesPerSecond = 0 }: Progress): string {
  if (phase === "compile" || total === 0) return "";
  const network = phase === "download" && !fromCache && bytesPerSecond > 0;
  return [
    `${bytes(loaded)} of ${bytes(total)}`,
    network && `${bytes(bytesPerSecond)} a second`,
    network && remaining((1000 * (total - loaded)) / bytesPerSecond),
    fromCache && phase !== "resolve" && "from this device",
  ]
    .filter(Boolean)
    .join(" \u00b7 ");
}

// ── In short, and for those who listen ──────────────────────────────────────────────────────────────────────────────

export function startStatus(): void {
  const [dot, name, short] = [part("model-dot"), part("model-name"), part("model-state")];
  let told = "";
  const tell = (text: string) => {
    if (text !== told) status.textContent = told = text;
  };
  engine.listen(() => {
    const { state, wanted } = engine;
    dot.dataset["state"] = state.kind;
    name.textContent = plain(wanted?.name ?? "No model");
    short.textContent = shortly(state);
    switch (state.kind) {
      case "loading": {
        const { progress } = state;
        if (!progress) return tell("Loading the model\u2026");
        // Screen readers announce each quarter only, because more would disturb.
        const quarter = progress.total > 0 ? Math.floor((4 * progress.loaded) / progress.total) * 25 : 0;
        return tell(`${PHASES[progress.phase]} the model${quarter > 0 ? `, ${quarter} %` : ""}\u2026`);
      }
      case "ready": {
        const { adapter, loadMs } = state.model.info;
        return tell(`Ready. Loaded in ${(loadMs / 1000).toFixed(2)}\u00a0s. Runs on ${adapterName(adapter)}.`);
      }
      case "stopped":
        return tell("The model has stopped.");
      case "failed":
        return tell("No model is loaded.");
      case "offered":
        return tell(`${wanted?.name} is not loaded yet.`);
      default:
        return tell("");
    }
  });
}

function shortly(state: State): string {
  switch (state.kind) {
    case "loading": {
      const { progress } = state;
      if (!progress) return "loading";
      const { phase, loaded, total } = progress;
      return `${PHASES[phase].toLowerCase()}${phase !== "compile" && total > 0 ? ` ${Math.round((100 * loaded) / total)}\u00a0%` : ""}`;
    }
    case "ready":
      return "ready";
    case "recovering":
      return "recovering";
    case "failed":
      return "failed";
    case "stopped":
      return "stopped";
    default:
      return "not loaded";
  }
}

export function adapterName(adapter: { description: string; vendor: string; architecture: string; software: boolean }): string {
  const name = plain(adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(" ")) || "an unnamed adapter";
  return adapter.software ? `${name} (a software adapter: slow)` : name;
}
