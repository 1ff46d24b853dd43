// Several pictures and a question. The answer is streamed and can be stopped.

import { estimate, FanlightError, type ImagePart, load, type Progress, support } from "fanlight";
import { screenReader } from "fanlight/screen-reader";

// The demonstration model comes with the package and reads simple screens, nothing else. To use a real model:
// const MODEL = "Qwen/Qwen2.5-VL-3B-Instruct";
const MODEL = screenReader;

const element = <T extends HTMLElement>(selector: string) => document.querySelector<T>(selector)!;
const form = element<HTMLFormElement>("form");
const [status, answer] = [element("#status"), element("#answer")];
const [ask, stop] = [element<HTMLButtonElement>("#ask"), element<HTMLButtonElement>("#stop")];

/** Shows what went wrong and what to do. Anything but a FanlightError is a bug in this page and is thrown again. */
function tell(error: unknown): void {
  if (!(error instanceof FanlightError)) throw error;
  status.textContent = `${error.message} ${error.hint}`;
}

function onProgress({ phase, loaded, total }: Progress): void {
  status.textContent = total > 0 ? `${phase} ${Math.round((100 * loaded) / total)} %` : phase;
}

async function start(): Promise<void> {
  const { webgpu, reason, hint } = await support();
  if (!webgpu) {
    status.textContent = `${reason}. ${hint}`;
    return;
  }
  // How much memory the model needs is known before any weights are downloaded.
  const plan = await estimate(MODEL);
  if (!plan.fits) {
    status.textContent = plan.reason;
    return;
  }
  const model = await load(MODEL, { onProgress });
  status.textContent = `Ready: ${Math.round(plan.totalBytes / 1e6)} MB of the device's memory.`;
  ask.disabled = false;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const data = new FormData(form);
    const images: ImagePart[] = data.getAll("pictures").map((file) => ({ type: "image", image: file as File }));
    const aborting = new AbortController();
    stop.onclick = () => aborting.abort();
    [ask.disabled, stop.disabled, answer.textContent] = [true, false, ""];
    const session = await model.session();
    try {
      const content = [...images, { type: "text", text: String(data.get("question")) } as const];
      const stream = session.promptStreaming([{ role: "user", content }], { signal: aborting.signal });
      for await (const { text } of stream) answer.append(text);
      const { finishReason, usage, timings } = await stream.result;
      const speed = `${timings.decodeTps.toFixed(1)} tokens a second`;
      status.textContent = finishReason === "abort" ? "Stopped." : `${usage.imageTokens} image tokens, ${speed}.`;
    } catch (error) {
      tell(error);
    } finally {
      session.destroy();
      [ask.disabled, stop.disabled] = [false, true];
    }
  });
}

start().catch(tell);
