// Checked, not run: what the types allow, and with @ts-expect-error what they do not.

import { estimate, FanlightError, load, type LoadOptions, type Message, models, type Result, support } from "fanlight";
import { screenReader } from "fanlight/screen-reader";

const options: LoadOptions = {
  weights: { text: "q4" },
  worker: () => new Worker("worker.js", { type: "module" }),
  wasm: new Response(),
  onProgress: ({ phase, loaded, total }) => console.log(phase, loaded / total),
};

export async function ask(picture: Blob): Promise<Result> {
  const { webgpu, reason } = await support();
  if (!webgpu) throw new Error(reason ?? "no WebGPU");
  const plan = await estimate({ "model.gguf": "https://example.org/model.gguf?signature=1" }, options);
  console.log(plan.totalBytes, await models.list());
  const model = await load(screenReader, options);
  const session = await model.session();
  const question: Message[] = [{ role: "user", content: [{ type: "image", image: picture }, { type: "text", text: "?" }] }];
  const answer = session.promptStreaming(question, { maxTokens: 4 });
  for await (const { text } of answer) console.log(text);
  return answer.result;
}

export const codeOf = (error: unknown): string => (error instanceof FanlightError ? error.code : "none");

// @ts-expect-error: not a format
export const wrong: LoadOptions = { weights: "q5" };
