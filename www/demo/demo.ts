// The demo page. It uses the package as an outsider would: through src/index.js and nothing else.

import {
  type CachedModel,
  estimate,
  FanlightError,
  type ImageInfo,
  load,
  type LoadOptions,
  type Located,
  type MemoryPlan,
  type Model,
  type ModelInfo,
  models,
  type Progress,
  type Result,
  type Session,
  type VideoInfo,
} from "../src/index.js";
import { loaded, Overlay } from "./overlay.js";

const OWN_MODEL = "models/screen-reader/";
const SAMPLE = "public-sample/sample-screen.png";
const SUGGESTIONS = [
  "What does the red button say?",
  "Locate the red button.",
  "What color is the \"Buy now\" button?",
  "How many buttons are there?",
  "Read the text.",
];

function part<E extends HTMLElement>(id: string, kind: new () => E): E {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`index.html has no ${kind.name} #${id}`);
}
const button = (id: string) => part(id, HTMLButtonElement);
const block = (id: string) => part(id, HTMLElement);

const page = {
  status: block("status"),
  progress: part("progress", HTMLProgressElement),
  problem: block("problem"),
  problemWhat: block("problem-what"),
  problemHint: block("problem-hint"),
  start: button("start"),
  measure: button("measure"),
  tiny: block("tiny"),
  stage: block("stage"),
  empty: block("empty"),
  moments: block("moments"),
  momentsWhat: block("moments-what"),
  momentsList: block("moments-list"),
  thumbs: block("thumbs"),
  choose: button("choose"),
  add: button("add"),
  sample: button("sample"),
  file: part("file", HTMLInputElement),
  pictureProblem: block("picture-problem"),
  log: block("log"),
  ask: part("ask", HTMLFormElement),
  question: part("question", HTMLTextAreaElement),
  suggestions: block("suggestions"),
  send: button("send"),
  stop: button("stop"),
  restart: button("restart"),
  other: part("other", HTMLFormElement),
  address: part("address", HTMLInputElement),
  weights: part("weights", HTMLSelectElement),
  kept: block("kept"),
  keptList: block("kept-list"),
};
const overlay = new Overlay(block("frame"), part("image", HTMLImageElement), part("film", HTMLVideoElement), block("boxes"));

/** A picture or a video. */
interface Picture {
  kind: "image" | "video";
  blob: Blob;
  url: string;
  name: string;
  /** Known once the model has seen it. */
  info?: ImageInfo | VideoInfo;
}

let model: Model | undefined;
let session: Session | undefined;
let pictures: Picture[] = [];
let shown: Picture | undefined;
/** By the last answer; `image` counts the pictures of the conversation, which are `pictures`. */
let located: Located[] = [];
let generating: AbortController | undefined;

// ── The model ───────────────────────────────────────────────────────────────────────────────────────────────────────

const query = new URLSearchParams(location.search);
const address = query.get("model") ?? OWN_MODEL;

/** A repository on the Hub, as `load` sees it; everything else is an address. */
const repository = /^[^/\s]+\/[^/\s]+$/.test(address) && !/\.gguf$/.test(address);

/**
 * `revision=`, `endpoint=` of a repository; `gguf=FILE`, `mmproj=FILE` of a GGUF model; `weights=q8`, `weights=q4` or
 * `weights=text=q4,embeddings=q8`.
 */
function loadOptions(): LoadOptions {
  const options: LoadOptions = { onProgress: showProgress };
  for (const name of ["revision", "endpoint", "gguf", "mmproj"] as const) {
    const value = query.get(name);
    if (value) options[name] = value;
  }
  const weights = query.get("weights");
  if (weights) {
    const parts = weights.split(",").map((part) => part.split("="));
    // What is no format is told by the engine, in words.
    options.weights = (weights.includes("=") ? Object.fromEntries(parts) : weights) as NonNullable<LoadOptions["weights"]>;
    // A page that is opened by a link again and again need not keep both.
    options.cache = "quantized";
  }
  return options;
}

const place = (): string | URL => (repository ? address : new URL(address, location.href));

/** Says what loading would take, before it is begun. */
async function measure(): Promise<void> {
  page.measure.hidden = page.problem.hidden = true;
  page.status.textContent = "Looking it up…";
  try {
    page.status.textContent = planFacts(await estimate(place(), { ...loadOptions(), onProgress: () => {} }));
  } catch (error) {
    page.status.textContent = "It could not be looked up.";
    showProblem(error, "Load the model");
    page.measure.hidden = false;
  }
}

function planFacts(plan: MemoryPlan): string {
  const weights = Object.values(plan.weightBytes).reduce((sum, bytes) => sum + bytes, 0);
  const pixels = plan.maxPixels === null ? "" : ` and pictures of ${(plan.maxPixels / 1e6).toFixed(1)} megapixels`;
  return [
    `It downloads ${megabytes(plan.downloadBytes)} and takes ${megabytes(plan.totalBytes)} on the device: ${megabytes(weights)} of`,
    `weights, and the rest for ${plan.contextLength} tokens${pixels}.`,
    sentence(plan.reason),
    ...plan.decisions.map(sentence),
  ].join(" ");
}

async function start(): Promise<void> {
  page.start.hidden = page.measure.hidden = page.problem.hidden = true;
  page.progress.hidden = false;
  page.progress.removeAttribute("value");
  page.status.textContent = "Loading the model…";
  try {
    model = await load(place(), loadOptions());
    page.status.textContent = modelFacts(model.info);
    void model.closed.then((reason) => {
      model = session = undefined;
      page.status.textContent = "The model has stopped.";
      showProblem(reason, "Load it again");
      update();
    });
  } catch (error) {
    page.status.textContent = "No model is loaded.";
    showProblem(error, "Try again");
  }
  page.progress.hidden = true;
  update();
  void showKept();
}

function showProgress({ phase, loaded, total, fromCache, bytesPerSecond = 0, waiting }: Progress): void {
  const words = {
    resolve: "Looking up",
    download: "Downloading",
    upload: "Loading",
    quantize: "Loading and quantizing",
    compile: "Preparing",
  };
  const share = phase !== "compile" && total > 0 ? ` ${megabytes(loaded)} of ${megabytes(total)}` : "";
  const rate = phase === "download" && !fromCache && bytesPerSecond > 0 ? `, ${megabytes(bytesPerSecond)} a second` : "";
  page.status.textContent = waiting
    ? `Another tab is downloading this model; waiting for it…${share}`
    : `${words[phase]} the model…${share}${rate}`;
  if (total > 0) page.progress.value = loaded / total;
  else page.progress.removeAttribute("value");
}

function modelFacts({ parameters, weightBytes, decisions, adapter, cache, loadMs }: ModelInfo): string {
  const name = adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(" ") || "unnamed";
  const kind = adapter.software ? `${name} (a software adapter: slow)` : name;
  const size = `${(parameters / 1e6).toFixed(1)} million parameters, ${megabytes(weightBytes)} on the device`;
  const lost = cache.kind === "none" && cache.reason && !own ? ` It is not kept for next time: ${sentence(cache.reason)}` : "";
  const chosen = decisions.map((decision) => ` ${sentence(decision)}`).join("");
  return `Ready. Loaded in ${seconds(loadMs)}: ${size}. Runs on ${kind}.${lost}${chosen}`;
}

/** Models whose files are on this device, and a way to be rid of them. */
async function showKept(): Promise<void> {
  const list = (await models.list()).filter(({ bytes }) => bytes > 0);
  page.kept.hidden = list.length === 0;
  page.keptList.replaceChildren(...list.map(keptItem));
}

function keptItem(kept: CachedModel): HTMLElement {
  const item = document.createElement("li");
  const { revisions, commit, complete, bytes } = kept;
  const version = revisions[0] ?? commit?.slice(0, 8);
  const facts = [version, megabytes(bytes), !complete && "not complete"].filter(Boolean).join(", ");
  item.append(`${kept.model} (${facts}) `);
  const remove = item.appendChild(document.createElement("button"));
  remove.type = "button";
  remove.textContent = "Remove";
  remove.onclick = async () => {
    try {
      await models.remove(kept);
      await showKept();
    } catch (error) {
      item.append(` ${sentence(error instanceof Error ? error.message : String(error))}`);
    }
  };
  return item;
}

function showProblem(error: unknown, again: string): void {
  const { message, hint } = error instanceof FanlightError ? error : { message: String(error), hint: "" };
  page.problemWhat.textContent = sentence(message);
  page.problemHint.textContent = hint;
  page.problem.hidden = false;
  page.start.textContent = again;
  page.start.hidden = false;
}

// ── The picture ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** Settles when every picture that was given has been taken: a question waits for it. */
let arriving: Promise<unknown> = Promise.resolve();

/** Takes a picture into the conversation, or into a new one. */
function take(blob: Blob | Promise<Blob>, name: string, keep: boolean): Promise<void> {
  const taken = Promise.resolve(blob).then((blob) => takeBlob(blob, name, keep));
  arriving = Promise.allSettled([arriving, taken]);
  return taken;
}

async function takeBlob(blob: Blob, name: string, keep: boolean): Promise<void> {
  const url = URL.createObjectURL(blob);
  page.pictureProblem.hidden = true;
  const kind = await kindOf(url);
  if (!kind) {
    URL.revokeObjectURL(url);
    page.pictureProblem.textContent = `${name} is not a picture or a video this browser can show.`;
    page.pictureProblem.hidden = false;
    return;
  }
  const picture: Picture = { kind, blob, url, name };
  if (!keep) {
    restart();
    for (const { url } of pictures) URL.revokeObjectURL(url);
    pictures = [];
  }
  pictures.push(picture);
  await show(picture);
}

async function kindOf(url: string): Promise<Picture["kind"] | undefined> {
  const trial = new Image();
  trial.src = url;
  return trial.decode().then(
    () => "image" as const,
    () => loaded(document.createElement("video"), url).then(() => "video" as const, () => undefined),
  );
}

async function show(picture: Picture): Promise<void> {
  shown = picture;
  if (picture.kind === "image") await overlay.show(picture.url, picture.name);
  else await overlay.play(picture.url, picture.name);
  draw();
  update();
}

/** Which frames of the video the model saw; each leads there. */
function showMoments(): void {
  const info = shown?.info;
  page.moments.hidden = !info || !("timestamps" in info);
  if (!info || !("timestamps" in info)) return;
  const { frames, resized, timestamps, decisions } = info;
  const size = `${resized.width}\u00d7${resized.height}`;
  page.momentsWhat.textContent = [`The model saw ${frames} frames, each ${size} pixels:`, ...decisions.map(sentence)].join(" ");
  page.momentsList.replaceChildren(
    ...timestamps.map((time) => {
      const item = document.createElement("li");
      const go = item.appendChild(document.createElement("button"));
      go.type = "button";
      go.textContent = `${time.toFixed(2)}\u00a0s`;
      go.onclick = () => overlay.seek(time);
      return item;
    }),
  );
}

/** The pictures without the videos, as the engine counts them. */
const stills = () => pictures.filter(({ kind }) => kind === "image");

/** What the last answer located in the picture that is shown. */
function draw(): void {
  overlay.draw(located.filter(({ image }) => shown && stills()[image] === shown));
}

function showThumbs(): void {
  page.thumbs.hidden = pictures.length < 2;
  page.thumbs.replaceChildren(
    ...pictures.map((picture, index) => {
      const item = document.createElement("li");
      const choose = item.appendChild(document.createElement("button"));
      choose.type = "button";
      choose.ariaPressed = String(picture === shown);
      choose.ariaLabel = `${picture.kind === "image" ? "Picture" : "Video"} ${index + 1}: ${picture.name}`;
      if (picture.kind === "image") {
        const image = choose.appendChild(document.createElement("img"));
        image.src = picture.url;
        image.alt = "";
      } else {
        const still = choose.appendChild(document.createElement("video"));
        still.preload = "metadata";
        still.muted = true;
        still.src = picture.url;
      }
      choose.onclick = () => show(picture);
      return item;
    }),
  );
}

let keepOthers = false;
for (const [control, keep] of [[page.choose, false], [page.add, true]] as const) {
  control.onclick = () => {
    keepOthers = keep;
    page.file.click();
  };
}
page.file.onchange = () => {
  const file = page.file.files?.[0];
  if (file) void take(file, file.name, keepOthers);
  page.file.value = "";
};
function takeSample(): Promise<void> {
  return take(fetch(SAMPLE).then((response) => response.blob()), "the sample screen", false);
}
page.sample.onclick = takeSample;
addEventListener("paste", (event) => {
  const file = event.clipboardData?.files[0];
  if (!file) return;
  event.preventDefault();
  void take(file, file.name, false);
});
// The whole page takes drops: one that misses the frame must not make the browser leave the page.
let depth = 0;
const over = (by: number) => page.stage.classList.toggle("over", (depth += by) > 0);
addEventListener("dragenter", () => over(1));
addEventListener("dragleave", () => over(-1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over(-depth);
  const file = event.dataTransfer?.files[0];
  if (file) void take(file, file.name, false);
});

// ── The conversation ────────────────────────────────────────────────────────────────────────────────────────────────

async function ask(question: string): Promise<void> {
  await arriving;
  if (!model || generating) return;
  const { signal } = (generating = new AbortController());
  const unseen = pictures.filter(({ info }) => !info);
  const turn = newTurn(question);
  page.question.value = "";
  located = [];
  overlay.clear();
  update();
  try {
    const conversation = session ?? (await model.session());
    if (!signal.aborted) {
      session = conversation;
      const seen = unseen.map(({ kind, blob }) =>
        kind === "image" ? { type: kind, image: blob } : { type: kind, video: blob },
      );
      const content = [...seen, { type: "text" as const, text: question }];
      const answer = conversation.promptStreaming([{ role: "user", content }], { maxTokens: 512, signal });
      for await (const { text } of answer) {
        turn.answer.append(text);
        turn.answer.classList.toggle("data", /^\s*(```|[[{])/.test(turn.answer.textContent ?? ""));
      }
      const result = await answer.result;
      showResult(turn.facts, result, unseen);
      // A new conversation may have begun meanwhile.
      if (session === conversation) showLocated(result.located);
    }
  } catch (error) {
    const { message, hint } = error instanceof FanlightError ? error : { message: String(error), hint: "" };
    turn.facts.textContent = `${sentence(message)} ${hint}`;
    turn.facts.className = "problem";
  }
  turn.article.ariaBusy = "false";
  generating = undefined;
  update();
}

function showResult(facts: HTMLElement, result: Result, sent: Picture[]): void {
  facts.textContent = answerFacts(result);
  const infos = { image: [...result.images], video: [...result.videos] };
  for (const picture of sent) {
    const info = infos[picture.kind].shift();
    if (info) picture.info = info;
  }
}

/** Draws what an answer located; if none of it is in the picture on the page, the page shows the one that it is in. */
function showLocated(found: Located[]): void {
  located = found;
  const meant = found.map(({ image }) => stills()[image]).find((picture) => picture !== undefined);
  if (meant && !found.some(({ image }) => stills()[image] === shown)) void show(meant);
  else draw();
}

function newTurn(question: string) {
  const article = page.log.appendChild(document.createElement("article"));
  const line = (name: string) => {
    const element = article.appendChild(document.createElement("p"));
    element.className = name;
    return element;
  };
  article.ariaBusy = "true";
  line("question").textContent = question;
  const turn = { article, answer: line("answer"), facts: line("facts") };
  article.scrollIntoView({ block: "nearest" });
  return turn;
}

function answerFacts({ finishReason, usage, timings }: Result): string {
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
    .join(" · ");
}

function restart(): void {
  generating?.abort();
  session?.destroy();
  session = undefined;
  for (const picture of pictures) delete picture.info;
  page.log.replaceChildren();
  located = [];
  overlay.clear();
  update();
}

page.ask.onsubmit = (event) => {
  event.preventDefault();
  const question = page.question.value.trim();
  if (question && !page.send.disabled) void ask(question);
};
page.question.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.ask.requestSubmit();
};
page.stop.onclick = () => generating?.abort();
page.restart.onclick = restart;
page.start.onclick = start;
page.measure.onclick = measure;
page.other.onsubmit = (event) => {
  event.preventDefault();
  const weights = page.weights.value;
  location.search = new URLSearchParams({ model: page.address.value.trim(), ...(weights && { weights }) }).toString();
};
page.suggestions.append(
  ...SUGGESTIONS.map((text) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.textContent = text;
    chip.onclick = async () => {
      page.question.value = text;
      // The suggestions are about screens: without a picture they take the sample.
      if (pictures.length === 0) await takeSample();
      if (!page.send.disabled) await ask(text);
    };
    return chip;
  }),
);

// ── Everything that follows from the state ──────────────────────────────────────────────────────────────────────────

function update(): void {
  page.send.disabled = !model || Boolean(generating);
  page.stop.hidden = !generating;
  page.restart.hidden = Boolean(generating) || page.log.childElementCount === 0;
  page.empty.hidden = pictures.length > 0;
  page.add.hidden = pictures.length === 0;
  showMoments();
  showThumbs();
}

// A number and its unit stay on one line.
const megabytes = (bytes: number) =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)}\u00a0MB` : `${(bytes / 1e9).toFixed(1)}\u00a0GB`;
const seconds = (ms: number) => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)}\u00a0s`;
const perSecond = (rate: number) => `${rate.toFixed(rate < 10 ? 1 : 0)}\u00a0tokens/s`;
const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1).replace(/[.]?$/, ".");

const own = address === OWN_MODEL;
page.tiny.hidden = !own;
page.suggestions.hidden = !own;
if (!own) page.address.value = repository ? address : new URL(address, location.href).href;
page.weights.value = query.get("weights") ?? (own ? "auto" : "");
update();
void showKept();
if (!repository && new URL(address, location.href).origin === location.origin) {
  void start();
} else {
  // A link to this page must not make a visitor download gigabytes from somewhere: they say so first.
  const host = new URL(repository ? (query.get("endpoint") ?? "https://huggingface.co") : address, location.href).host;
  const what = repository ? `${address} from ${host}` : `A model from ${host}`;
  page.status.textContent = `${what} is not loaded yet. It may be large.`;
  page.start.hidden = page.measure.hidden = false;
}
