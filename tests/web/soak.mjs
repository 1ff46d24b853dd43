// `node soak.mjs ADDRESS-OF-MODEL [--prompts N] [--pictures N] [--aborts N]`: one model in headless Chromium answers many prompts about
// many pictures, in conversations that are begun and ended, and is aborted now and then. Fails if a prompt fails, if an abort takes
// longer than two seconds, or if the worker's memory grows after the first fifth of the prompts.

import { parseArgs } from "node:util";

import { launch, site } from "./support/browser.mjs";
import { watchWorkers } from "./support/memory.mjs";

const { positionals: [model = "/models/screen-reader/"], values } = parseArgs({
  allowPositionals: true,
  options: { prompts: { type: "string", default: "500" }, pictures: { type: "string", default: "50" }, aborts: { type: "string", default: "200" } },
});
const [prompts, pictures, aborts] = [values.prompts, values.pictures, values.aborts].map(Number);
/** A conversation has this many prompts. */
const LENGTH = 5;
/** Memory that comes and goes with garbage. */
const SLACK = 24e6;

const browser = await launch();
let failed = false;
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  const memory = await watchWorkers(page);
  // The size of wasm's memory is not among what the browser tells, so the worker says it.
  const telling = `
    const own = WebAssembly.instantiateStreaming;
    WebAssembly.instantiateStreaming = async (...args) => {
      const made = await own(...args);
      const { memory } = made.instance.exports;
      new BroadcastChannel("wasm memory").onmessage = ({ data, target }) => data === "?" && target.postMessage(memory.buffer.byteLength);
      return made;
    };\n`;
  await page.route("**/src/worker/worker.js", async (route) => {
    const response = await route.fetch();
    return route.fulfill({ response, body: telling + (await response.text()) });
  });
  const wasm = () =>
    page.evaluate(
      () =>
        new Promise((resolve) => {
          const channel = new BroadcastChannel("wasm memory");
          channel.onmessage = ({ data }) => (channel.close(), resolve(data));
          channel.postMessage("?");
        }),
    );
  const measured = async () => ({ js: memory.now().js, wasm: await wasm() });
  await page.goto(`${site()}blank/`);
  await page.evaluate(
    async ([model, pictures]) => {
      const { load } = await import("/src/index.js");
      // Pictures that differ, of the size of a photo on a phone's screen.
      const paint = async (number) => {
        const canvas = new OffscreenCanvas(640, 480);
        const context = canvas.getContext("2d");
        for (let i = 0; i < 40; i++) {
          context.fillStyle = `hsl(${(number * 37 + i * 61) % 360} 70% 50%)`;
          context.fillRect((i * 97 + number * 13) % 640, (i * 53 + number * 7) % 480, 90, 60);
        }
        return canvas.convertToBlob({ type: "image/jpeg" });
      };
      globalThis.soak = { model: await load(model), pictures: await Promise.all(Array.from({ length: pictures }, (_, i) => paint(i))), session: undefined };
    },
    [model, pictures],
  );
  const ask = (number, abort) =>
    page.evaluate(
      async ([number, abort, length]) => {
        const { soak } = globalThis;
        if (number % length === 0) {
          soak.session?.destroy();
          soak.session = await soak.model.session();
        }
        const image = soak.pictures[Math.floor(number / length) % soak.pictures.length];
        const text = { type: "text", text: `Question ${number}: what is at the top?` };
        const stop = new AbortController();
        const begin = performance.now();
        const answer = soak.session.prompt([{ role: "user", content: number % length === 0 ? [{ type: "image", image, maxPixels: 50_000 }, text] : [text] }], { maxTokens: 8, signal: stop.signal });
        let aborted;
        if (abort) setTimeout(() => ((aborted = performance.now()), stop.abort()), number % 7 === 0 ? 0 : (number * 31) % 400);
        const ended = await answer.then(({ finishReason }) => finishReason, ({ code }) => code);
        return { ended, ms: performance.now() - begin, after: aborted === undefined ? 0 : performance.now() - aborted };
      },
      [number, abort, LENGTH],
    );
  let settled;
  for (let number = 0; number < prompts; number++) {
    const abort = Math.floor(((number + 1) * aborts) / prompts) > Math.floor((number * aborts) / prompts);
    const { ended, ms, after } = await ask(number, abort);
    if (!["stop", "length", "repetition", ...(abort ? ["abort", "aborted"] : [])].includes(ended) || after > 2000) {
      failed = true;
      console.log(`prompt ${number}: ${ended} after ${Math.round(ms)} ms, ${Math.round(after)} ms after its abort`);
    }
    if (number + 1 === Math.ceil(prompts / 5)) settled = await measured();
    if ((number + 1) % 50 === 0) console.log(`${number + 1} prompts: ${JSON.stringify(await measured())}`);
  }
  await new Promise((resolve) => setTimeout(resolve, 1000));
  memory.stop();
  const end = await measured();
  const grown = end.js + end.wasm - settled.js - settled.wasm;
  console.log(`after ${Math.ceil(prompts / 5)} prompts ${JSON.stringify(settled)}, after ${prompts} ${JSON.stringify(end)}: ${(grown / 1e6).toFixed(1)} MB more`);
  failed ||= grown > SLACK;
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
