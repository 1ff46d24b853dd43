// `node bench.mjs ADDRESS-OF-MODEL [--tokens N]`: loads a model in headless Chromium twice, over the network and from what
// was kept, asks one question, and prints what it took. Peaks of memory are those of the worker, where everything is.

import { parseArgs } from "node:util";

import { launch, site } from "./support/browser.mjs";
import { watchWorkers } from "./support/memory.mjs";

const { positionals: [model], values } = parseArgs({
  allowPositionals: true,
  options: { tokens: { type: "string", default: "16" }, weights: { type: "string" } },
});

const browser = await launch();
try {
  const context = await browser.newContext();
  for (const where of ["over the network", "from the disk"]) print(where, await run(context));
} finally {
  await browser.close();
}

async function run(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(0);
  const { peak, stop } = await watchWorkers(page);
  await page.goto(`${site()}blank/`);
  const result = await page.evaluate(
    async ({ model, tokens, weights }) => {
      const { load } = await import("/src/index.js");
      const loaded = await load(model, weights ? { weights } : {});
      const session = await loaded.session();
      const { text, usage, timings } = await session.prompt("Write one sentence about the sea.", { maxTokens: tokens, temperature: 0 });
      return { info: loaded.info, text, usage, timings };
    },
    { model, tokens: Number(values.tokens), weights: values.weights },
  );
  stop();
  await page.close();
  return { ...result, ...peak };
}

function print(where, { info, text, usage, timings, js, buffers }) {
  const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  const s = (ms) => `${(ms / 1000).toFixed(2)} s`;
  console.log(`\n${where}: ${info.modelType}, ${mb(info.weightBytes)} on ${info.adapter.description || info.adapter.architecture}`);
  console.log(`  load            ${s(info.loadMs)}, ${mb(info.cache.networkBytes)} over the network, kept: ${info.cache.kind}`);
  console.log(`  memory, peak    wasm heap ${mb(info.wasmBytes)}, JavaScript heap ${mb(js)}, its buffers with the wasm heap ${mb(buffers)}`);
  console.log(`  first token     ${s(timings.ttftMs)} for ${usage.promptTokens} tokens`);
  console.log(`  decode          ${timings.decodeTps.toFixed(2)} tokens/s`);
  console.log(`  ${JSON.stringify(text)}`);
}
