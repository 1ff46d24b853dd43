// The demo page. It uses the package as an outsider would: through src/index.js and nothing else. Each part of the page has
// its own file; this file puts them together.

import { h, part } from "./base/dom.js";
import { bytes, millions, plain, seconds, sentence } from "./base/format.js";
import { save, settings } from "./base/settings.js";
import { engine, isKept, wantedBy } from "./model/engine.js";
import { adapterName, startNotices, startStatus } from "./model/notices.js";
import { startPicker } from "./model/picker.js";
import { startOffline } from "./offline.js";
import { diagnosticsPage } from "./panel/diagnostics.js";
import { outputPage } from "./panel/output.js";
import { openPanel, startPanel } from "./panel/panel.js";
import { samplingPage } from "./panel/sampling.js";
import { showExample } from "./stage/example.js";
import { startCamera } from "./stage/pictures.js";
import { startChat, update } from "./talk/chat.js";
import { TOOLS } from "./talk/tools.js";
import { startTheme } from "./theme.js";

startTheme();
const picker = startPicker();
const diagnostics = diagnosticsPage();
startPanel([
  { id: "answer", name: "Answer", content: outputPage(update) },
  { id: "sampling", name: "Sampling", content: samplingPage(update) },
  { id: "tools", name: "Tools", content: toolsPage() },
  { id: "device", name: "Device", content: diagnostics.content, shown: () => void diagnostics.refresh() },
]);
startStatus();
startNotices({ measure: picker.measure, choose: picker.open });
startChat(() => openPanel("answer"));
startCamera();
startOffline();
part("model-pill").onclick = part("real").onclick = picker.open;

function toolsPage(): HTMLElement {
  const on = h("input", { attrs: { type: "checkbox", id: "use-tools" } });
  on.checked = settings.tools;
  on.addEventListener("change", () => {
    settings.tools = on.checked;
    save();
    update();
  });
  return h(
    "div",
    { class: "stack" },
    h("p", { class: "note" }, "The model can ask this page to run one of these tools, and then uses the result in its answer. The demonstration model was not trained to use tools."),
    h("div", { class: "check" }, on, h("label", { attrs: { for: "use-tools" } }, "Let the model call tools")),
    h(
      "ul",
      { class: "plain" },
      ...TOOLS.map(({ function: { name, description = "" } }) => h("li", {}, h("code", {}, name), ` ${description}`)),
    ),
  );
}

// ── What is on this page's first line ───────────────────────────────────────────────────────────────────────────────

engine.listen(() => {
  const { state, wanted } = engine;
  const without = state.kind === "failed" && state.error.code === "webgpu_unavailable";
  part("tiny").hidden = !wanted?.own || without;
  if (without) void showExample();
  const facts = part("model-facts");
  facts.hidden = state.kind !== "ready";
  if (state.kind !== "ready") return;
  const { parameters, weightBytes, decisions, adapter, cache, loadMs } = state.model.info;
  const lost = cache.kind === "none" && cache.reason && !wanted?.own;
  facts.textContent = [
    `${millions(parameters)}, ${bytes(weightBytes)} on the device, loaded in ${seconds(loadMs)}. Runs on ${adapterName(adapter)}.`,
    lost && `It is not kept for next time: ${sentence(plain(cache.reason ?? ""))}`,
    ...decisions.map((decision) => sentence(plain(decision))),
  ]
    .filter(Boolean)
    .join(" ");
});

void begin();

/** A link to this page must not make a visitor download gigabytes from another machine. The visitor is asked first. */
async function begin(): Promise<void> {
  const wanted = wantedBy(new URLSearchParams(location.search));
  if (!wanted.host || (await isKept(wanted))) await engine.load(wanted);
  else engine.offer(wanted);
}
