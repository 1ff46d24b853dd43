// The sheet "Models": where a model comes from, how it is loaded, what it needs, and which models are kept on this device.

import { type CachedModel, estimate, type MemoryPlan, models, type ModelSource } from "../../src/index.js";
import { button, field, h, part, say, select } from "../base/dom.js";
import { bytes, millions, plain, sentence, whole } from "../base/format.js";
import { save, settings } from "../base/settings.js";
import { remember } from "../panel/diagnostics.js";
import { asError, engine, HUB, isKept, OWN, type Wanted, wantedBy } from "./engine.js";
import { progressFacts, words } from "./notices.js";

const SUGGESTED = [
  "Qwen/Qwen2-VL-2B-Instruct",
  "Qwen/Qwen2.5-VL-3B-Instruct",
  "Qwen/Qwen2.5-VL-7B-Instruct",
  "Qwen/Qwen3-VL-2B-Instruct",
  "Qwen/Qwen3-VL-4B-Instruct",
  "Qwen/Qwen3-VL-8B-Instruct",
];

const WEIGHTS = {
  auto: "what fits this device",
  "": "as they are",
  "text=q4,embeddings=q8": "4 bits, the vision tower as it is",
  q8: "8 bits",
  q4: "4 bits",
};
const CACHES = { "": "as the weights need it", f32: "32 bits", q8: "8 bits" };

type Where = "own" | "hub" | "files" | "address";
const PLACES: Record<Where, string> = { own: "Demonstration", hub: "Hugging Face", files: "Your files", address: "Address" };

const sheet = part("models", HTMLDialogElement);

let where: Where = "own";
let picked: File[] = [];
/** The estimate for what is chosen. Removed when something is changed. */
let plan: MemoryPlan | undefined;
let measuring: AbortController | undefined;
let kept = false;
/** The server that the person has typed on this visit. A server that a link or the list has filled in gets no access token. */
let typedServer = "";

const input = (attrs: Record<string, string>) => h("input", { attrs: { type: "text", autocapitalize: "off", spellcheck: "false", autocomplete: "off", ...attrs } });

const controls = {
  hub: input({ placeholder: "Qwen/Qwen2.5-VL-3B-Instruct" }),
  revision: input({ placeholder: "main" }),
  endpoint: input({ placeholder: "https://huggingface.co", inputmode: "url" }),
  token: input({ type: "password", placeholder: "hf_\u2026" }),
  address: input({ placeholder: "https://your.server/model/", inputmode: "url" }),
  gguf: input({ placeholder: "model-Q4_K_M.gguf" }),
  mmproj: input({ placeholder: "mmproj-F16.gguf" }),
  weights: select(WEIGHTS, settings.picker.weights, changed),
  kvCache: select(CACHES, settings.picker.kvCache, changed),
  contextLength: input({ type: "number", min: "256", step: "256", placeholder: "the model\u2019s own", inputmode: "numeric" }),
  maxPixels: input({ type: "number", min: "0.05", step: "0.05", placeholder: "the model\u2019s own", inputmode: "decimal" }),
};
const folder = h("input", { attrs: { type: "file", webkitdirectory: true, hidden: true } });
const files = h("input", { attrs: { type: "file", accept: ".gguf,.safetensors,.json,.jinja,.txt", multiple: true, hidden: true } });

const verdict = h("div", { attrs: { id: "estimate", "aria-live": "polite" } });
const go = h("button", { class: "main", attrs: { type: "button", id: "load" } });
const measure = h("button", { attrs: { type: "button", id: "measure" } }, "How large is it?");
const pickedLine = h("p", { class: "facts" });
/** Where the model comes from, if that is not the Hub: it must not be overlooked that a link has named another server. */
const serverLine = h("p", { class: "problem", attrs: { id: "other-server", role: "status" } });
const running = h("div", { class: "stack" });
const keptBody = h("div", { class: "stack" });
const tabs = new Map<Where, HTMLButtonElement>();
const bodies = new Map<Where, HTMLElement>();
const how = h("div", { class: "stack" });

// ── What is chosen ──────────────────────────────────────────────────────────────────────────────────────────────────

/** The query of a link to what is chosen. */
function queryOf(): URLSearchParams | undefined {
  const { hub, address, revision, endpoint, gguf, mmproj } = controls;
  const model = where === "hub" ? hub.value.trim() : where === "address" ? address.value.trim() : OWN;
  if (!model) return undefined;
  const query = new URLSearchParams();
  if (where !== "own") query.set("model", model);
  const set = (name: string, value: string) => value.trim() && query.set(name, value.trim());
  if (where === "hub") {
    set("revision", revision.value);
    set("endpoint", endpoint.value);
  }
  if (where !== "own") {
    set("gguf", gguf.value);
    set("mmproj", mmproj.value);
    setHow(set);
  }
  return query;
}

function setHow(set: (name: string, value: string) => void): void {
  const { weights, kvCache, contextLength, maxPixels } = controls;
  set("weights", weights.value);
  set("kvCache", kvCache.value);
  set("context", contextLength.value);
  if (Number(maxPixels.value) > 0) set("maxPixels", String(Math.round(Number(maxPixels.value) * 1e6)));
}

/** What is chosen; `undefined` if no model is named yet. */
function chosen(): Wanted | undefined {
  if (where === "files") {
    if (picked.length === 0) return undefined;
    const query = new URLSearchParams();
    setHow((name, value) => value && query.set(name, value));
    const { options } = wantedBy(query);
    delete options.cache;
    return { source: picked as ModelSource, name: nameOf(picked), options, own: false };
  }
  const query = queryOf();
  if (!query) return undefined;
  const wanted = wantedBy(query);
  const token = controls.token.value.trim();
  if (where === "hub" && token && isTrusted()) wanted.options.token = token;
  return wanted;
}

const otherServer = (): string => {
  const server = controls.endpoint.value.trim();
  return where === "hub" && server !== "" && URL.parse(server)?.origin !== HUB ? server : "";
};

/** Whether the access token may go to the chosen server: the Hub, or one that the person has typed. */
const isTrusted = (): boolean => otherServer() === "" || otherServer() === typedServer;

const nameOf = (files: File[]): string =>
  plain((files[0]?.webkitRelativePath.split("/")[0] || files.find(({ name }) => /\.gguf$/.test(name))?.name || files[0]?.name) ?? "");

function changed(): void {
  const { hub, address, weights, kvCache, contextLength, maxPixels } = controls;
  settings.picker = {
    hub: hub.value,
    address: address.value,
    weights: weights.value,
    kvCache: kvCache.value,
    contextLength: contextLength.value,
    maxPixels: maxPixels.value,
  };
  save();
  measuring?.abort();
  measuring = undefined;
  plan = undefined;
  kept = false;
  verdict.replaceChildren();
  show();
  const wanted = chosen();
  if (wanted && where !== "own" && where !== "files") void lookForKept(wanted);
}

async function lookForKept(wanted: Wanted): Promise<void> {
  const there = await isKept(wanted);
  if (JSON.stringify(chosen()?.query?.toString()) !== JSON.stringify(wanted.query?.toString())) return;
  kept = there;
  show();
}

// ── What it takes ───────────────────────────────────────────────────────────────────────────────────────────────────

async function look(): Promise<void> {
  const wanted = chosen();
  if (!wanted) return missing();
  measuring?.abort();
  const mine = (measuring = new AbortController());
  verdict.replaceChildren(h("p", { class: "facts" }, wanted.host ? `Asking ${wanted.host}\u2026` : "Looking it up\u2026"));
  show();
  try {
    const found = await estimate(wanted.source, { ...wanted.options, signal: mine.signal });
    if (mine !== measuring) return;
    plan = found;
    verdict.replaceChildren(planCard(found));
  } catch (error) {
    if (mine !== measuring || mine.signal.aborted) return;
    const { what, todo } = words(asError(error));
    verdict.replaceChildren(h("p", { class: "problem", attrs: { role: "alert" } }, h("strong", {}, what), ` ${todo}`));
  }
  measuring = undefined;
  show();
}

function missing(): void {
  const control = where === "hub" ? controls.hub : where === "address" ? controls.address : undefined;
  control?.focus();
  say(where === "files" ? "Choose a folder or files first." : "Name a model first.");
}

/** The parts of what the device has to hold, as a bar and as a list. */
function planCard(found: MemoryPlan): HTMLElement {
  const { vision = 0, text = 0, embeddings = 0 } = found.weightBytes;
  const { activationBytes = { vision: 0, prefill: 0 }, kvBytes = 0, maxPixels = null } = found;
  const parts: [name: string, bytes: number, kind: string][] = [
    ["Vision weights", vision, "vision"],
    ["Language weights", text + embeddings, "text"],
    ["Conversation", kvBytes, "kv"],
    ["While it computes", Math.max(activationBytes.vision, activationBytes.prefill), "work"],
  ];
  const total = found.totalBytes;
  const bar = h("div", { class: "bar", attrs: { "aria-hidden": "true" } });
  for (const [, size, kind] of parts) {
    const piece = bar.appendChild(h("span", { class: kind }));
    piece.style.flexGrow = String(size / Math.max(1, total));
  }
  const pixels = maxPixels === null ? "" : ` and pictures of ${(maxPixels / 1e6).toFixed(1)} megapixels`;
  return h(
    "div",
    { class: found.fits === false ? "plan wrong" : "plan" },
    h(
      "p",
      { class: "plan-head" },
      h("strong", {}, `${bytes(found.downloadBytes)} to download`),
      ` \u00b7 ${bytes(total)} on the device${found.parameters ? ` \u00b7 ${millions(found.parameters)}` : ""}`,
    ),
    bar,
    h("ul", { class: "legend" }, ...parts.filter(([, size]) => size > 0).map(([name, size, kind]) => h("li", { class: kind }, `${name} ${bytes(size)}`))),
    h("p", { class: "facts" }, `For ${whole(found.contextLength)} tokens${pixels}. ${sentence(plain(found.reason))}`),
    ...found.decisions.map((decision) => h("p", { class: "facts" }, sentence(plain(decision)))),
  );
}

function load(): void {
  const wanted = chosen();
  if (!wanted) return missing();
  if (plan) remember(plan);
  history.replaceState(null, "", wanted.query?.size ? `?${wanted.query}` : location.pathname);
  void engine.load(wanted);
}

// ── What is shown ───────────────────────────────────────────────────────────────────────────────────────────────────

function show(): void {
  for (const [name, tab] of tabs) {
    tab.ariaPressed = String(name === where);
    const body = bodies.get(name);
    if (body) body.hidden = name !== where;
  }
  how.hidden = where === "own";
  const loading = engine.state.kind === "loading";
  go.textContent = goWords();
  const server = otherServer();
  const host = URL.parse(server)?.host || server;
  serverLine.hidden = server === "";
  const withheld = controls.token.value.trim() !== "" && !isTrusted();
  const why = withheld ? " The access token is not sent there. Type the server's address yourself if the token is meant for it." : "";
  serverLine.textContent = server && `This model comes from ${plain(host)}, not from Hugging Face.${why}`;
  go.disabled = loading;
  measure.hidden = where === "own";
  measure.disabled = loading || measuring !== undefined;
  const name = nameOf(picked);
  pickedLine.textContent = picked.length > 0 ? `${name}: ${picked.length} ${picked.length === 1 ? "file" : "files"}, ${bytes(picked.reduce((sum, { size }) => sum + size, 0))}` : "";
}

function goWords(): string {
  if (where === "own" || where === "files" || kept) return "Open";
  if (plan) return `Download ${bytes(plan.downloadBytes)}`;
  return "Download and open";
}

/** How far the load is, while the sheet is open. */
function showRunning(): void {
  const { state, wanted } = engine;
  if (state.kind !== "loading") {
    running.replaceChildren();
    return;
  }
  const { progress } = state;
  let bar = running.querySelector("progress");
  if (!bar) {
    bar = h("progress", { attrs: { "aria-label": "Loading the model" } });
    running.replaceChildren(
      h("div", { class: "split" }, h("p", {}, h("strong", {}, `Loading ${plain(wanted?.name ?? "")}\u2026`)), button("Cancel", () => engine.cancel(), { class: "small" })),
      bar,
      h("p", { class: "facts" }),
    );
  }
  if (progress && progress.total > 0) bar.value = progress.loaded / progress.total;
  else bar.removeAttribute("value");
  const line = running.querySelector(".facts");
  if (line && progress) line.textContent = progressFacts(progress);
}

/** The models whose files are on this device, with buttons that remove them. */
async function showKept(): Promise<void> {
  const [all, total] = await Promise.all([models.list(), models.size()]);
  const list = all.filter(({ bytes }) => bytes > 0);
  const persisted = await navigator.storage?.persisted?.().catch(() => false);
  keptBody.replaceChildren(
    list.length === 0
      ? h("p", { class: "facts" }, "Nothing is kept yet. What you download stays in this browser, so that the next start needs no network.")
      : h("ul", { class: "kept" }, ...list.map(keptItem)),
  );
  if (list.length === 0) return;
  const keepIt = async () => {
    const granted = await navigator.storage?.persist?.().catch(() => false);
    say(granted ? "The browser keeps them until you remove them." : "The browser did not agree to keep them.");
    await showKept();
  };
  keptBody.append(
    h(
      "div",
      { class: "split" },
      h("p", { class: "facts" }, `${bytes(total)} in all. ${persisted ? "The browser keeps it until you remove it." : "The browser may clear it when it needs room."}`),
      !persisted && button("Ask it to keep them", keepIt, { class: "small" }),
    ),
  );
}

function keptItem(one: CachedModel): HTMLElement {
  const name = one.model === new URL(OWN, location.href).href ? "Screen reader (the demonstration)" : plain(one.model);
  const version = one.revisions[0] ?? one.commit?.slice(0, 8);
  const used = one.lastUsed.toLocaleDateString("en", { day: "numeric", month: "short", year: "numeric" });
  const server = one.endpoint && URL.parse(one.endpoint)?.origin !== HUB ? `from ${URL.parse(one.endpoint)?.host}` : false;
  const size = [server, version, bytes(one.bytes), !one.complete && "not complete", `used ${used}`].filter(Boolean).join(" \u00b7 ");
  const acts = h("div", { class: "row" });
  const ask = () => {
    const sure = button(`Delete ${bytes(one.bytes)}`, remove, { class: "small danger" });
    acts.replaceChildren(sure, button("Keep", rest, { class: "small" }));
    sure.focus();
  };
  const rest = () => acts.replaceChildren(...(one.complete ? [open] : [resume]), drop);
  const remove = async () => {
    try {
      await models.remove(one);
      await showKept();
      changed();
    } catch (error) {
      const { what, todo } = words(asError(error));
      acts.replaceChildren(h("p", { class: "problem", attrs: { role: "alert" } }, `${what} ${todo}`), drop);
    }
  };
  const begin = () => {
    const query = new URLSearchParams({ model: one.model, ...(one.endpoint && { endpoint: one.endpoint }), ...(one.revisions[0] && { revision: one.revisions[0] }) });
    // It is not known in which formats it was kept. Those that are chosen now are the most likely.
    setHow((name, value) => value && query.set(name, value));
    fill(wantedBy(query));
    load();
  };
  const open = button("Open", begin, { class: "small" });
  const resume = button("Resume", begin, { class: "small" });
  const drop = button("Remove", ask, { class: "small" });
  for (const act of [open, resume, drop]) act.setAttribute("aria-label", `${act.textContent} ${name}`);
  rest();
  return h("li", {}, h("div", {}, h("p", { class: "kept-name" }, name), h("p", { class: "facts" }, size)), acts);
}

/** Puts what a link or the list names into the fields. */
function fill({ query, own }: Wanted): void {
  const get = (name: string) => query?.get(name) ?? "";
  const model = get("model");
  where = own ? "own" : /^[^/\s]+\/[^/\s]+$/.test(model) && !/\.gguf$/.test(model) ? "hub" : "address";
  if (where === "hub") controls.hub.value = model;
  if (where === "address") controls.address.value = URL.canParse(model, location.href) ? new URL(model, location.href).href : model;
  for (const name of ["revision", "endpoint", "gguf", "mmproj"] as const) controls[name].value = get(name);
  if (!own) {
    // If a link names formats that are not in the list, they are added to it.
    const weights = get("weights");
    if (![...controls.weights.options].some(({ value }) => value === weights)) {
      controls.weights.append(h("option", { attrs: { value: weights } }, weights));
    }
    controls.weights.value = weights;
    controls.kvCache.value = get("kvCache");
    controls.contextLength.value = get("context");
    controls.maxPixels.value = get("maxPixels") ? String(Number(get("maxPixels")) / 1e6) : "";
  }
  changed();
}

function body(): HTMLElement {
  const { picker } = settings;
  controls.hub.value = picker.hub;
  controls.address.value = picker.address;
  controls.contextLength.value = picker.contextLength;
  controls.maxPixels.value = picker.maxPixels;
  controls.endpoint.addEventListener("input", () => (typedServer = controls.endpoint.value.trim()));
  for (const control of Object.values(controls)) if (control instanceof HTMLInputElement) control.addEventListener("input", changed);
  const suggested = SUGGESTED.map((id) =>
    button(id.replace("Qwen/", ""), () => {
      controls.hub.value = id;
      // These are the Hub's models: nothing that a link has filled in belongs to them.
      for (const name of ["revision", "endpoint", "gguf", "mmproj"] as const) controls[name].value = "";
      changed();
      void look();
    }, { class: "chip" }),
  );
  bodies.set(
    "own",
    h(
      "div",
      { class: "stack" },
      h(
        "p",
        {},
        "A tiny model with the true Qwen2.5-VL architecture, 10\u00a0MB, that is part of this page. It reads simple, computer-drawn screens and nothing else: enough to see everything work.",
      ),
    ),
  );
  bodies.set(
    "hub",
    h(
      "div",
      { class: "stack" },
      field("Name on the Hub", controls.hub, "Qwen2-VL, Qwen2.5-VL and Qwen3-VL as they are published: safetensors, AWQ, GPTQ or GGUF."),
      h("div", { class: "row", attrs: { role: "group", "aria-label": "Well-known models" } }, ...suggested),
      more("Revision, server, token", [
        field("Revision", controls.revision),
        field("Server", controls.endpoint, "A server with the same paths as the Hub."),
        field("Access token", controls.token, "For gated models. It is sent only to that server and never stored."),
      ]),
    ),
  );
  folder.addEventListener("change", () => take(folder));
  files.addEventListener("change", () => take(files));
  bodies.set(
    "files",
    h(
      "div",
      { class: "stack" },
      h("p", {}, "A folder in Hugging Face layout, or a .gguf file with its mmproj. They are read where they are: nothing is uploaded."),
      h("div", { class: "row" }, button("Choose a folder", () => folder.click()), button("Choose files", () => files.click())),
      pickedLine,
      folder,
      files,
    ),
  );
  bodies.set(
    "address",
    h("div", { class: "stack" }, field("Address of a folder or a .gguf file", controls.address, "Its server has to allow this page to read it (CORS).")),
  );
  how.append(
    h("div", { class: "pairs" }, field("Weights", controls.weights), field("Keys and values", controls.kvCache), field("Context, in tokens", controls.contextLength), field("Largest picture, in megapixels", controls.maxPixels)),
    more("Files of a GGUF model", [field("Model", controls.gguf), field("Vision tower", controls.mmproj)]),
    verdict,
  );
  for (const [name, words] of Object.entries(PLACES) as [Where, string][]) {
    tabs.set(
      name,
      button(words, () => {
        where = name;
        changed();
      }),
    );
  }
  go.addEventListener("click", load);
  measure.addEventListener("click", () => void look());
  return h(
    "div",
    { class: "stack" },
    h("div", { class: "segments", attrs: { role: "group", "aria-label": "Where the model comes from" } }, ...tabs.values()),
    ...bodies.values(),
    how,
    serverLine,
    h("div", { class: "row end" }, measure, go),
    running,
    h("section", { class: "stack", attrs: { "aria-label": "Models on this device" } }, h("h3", {}, "On this device"), keptBody),
    h("p", { class: "help" }, "On your own machine, ", h("code", {}, "cargo xtask demo --model FOLDER"), " opens this page with a checkpoint you have on disk. All of this is a package: ", h("a", { attrs: { href: "api/" } }, "its API"), "."),
  );
}

function take(from: HTMLInputElement): void {
  picked = [...(from.files ?? [])];
  from.value = "";
  changed();
}

function more(name: string, fields: HTMLElement[]): HTMLElement {
  return h("details", { class: "more" }, h("summary", {}, name), h("div", { class: "pairs" }, ...fields));
}

export function startPicker(): { open(): void; measure(wanted: Wanted): void } {
  part("models-body").append(body());
  part("models-close").onclick = () => sheet.close();
  // A click beside the sheet closes it.
  sheet.addEventListener("click", (event) => {
    if (event.target === sheet) sheet.close();
  });
  engine.listen((before) => {
    const { kind } = engine.state;
    if (sheet.open) {
      show();
      showRunning();
      if (kind === "ready" && before.kind === "loading") sheet.close();
    }
    if (kind !== before.kind && kind !== "loading") void showKept();
  });
  const open = () => {
    sheet.showModal();
    showRunning();
    void showKept();
    show();
  };
  const initial = (wanted: Wanted | undefined) => {
    if (wanted?.query) fill(wanted);
    else show();
  };
  return {
    open: () => {
      if (!sheet.open) {
        initial(engine.wanted);
        open();
      }
    },
    measure: (wanted) => {
      fill(wanted);
      open();
      void look();
    },
  };
}
