// The embedded model in the browser answers about a fixed set of screens exactly as transformers does
// (train/transcript.py); tests/screens.rs asks the same of the native engine.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

const screens = new URL("../../screens/", import.meta.url);
// The first question about each screen; the native test asks them all.
const all = JSON.parse(await readFile(new URL("transcript.json", screens), "utf8"));
const transcript = all.filter(({ image }, i) => all.findIndex((other) => other.image === image) === i);

test("the transcript is that of transformers", async (t) => {
  const page = await open(t);
  const pictures = {};
  for (const { image } of transcript) pictures[image] ??= (await readFile(new URL(image, screens))).toString("base64");
  const answers = await withPackage(
    page,
    async ({ load }, { pictures, questions }) => {
      const model = await load("/models/screen-reader/");
      const answers = [];
      for (const { image, question } of questions) {
        const bytes = Uint8Array.from(atob(pictures[image]), (c) => c.charCodeAt(0));
        const session = await model.session();
        const content = [{ type: "image", image: bytes }, { type: "text", text: question }];
        const { text, tokenIds, finishReason } = await session.prompt([{ role: "user", content }], { maxTokens: 160 });
        answers.push({ text, tokenIds, finishReason });
        session.destroy();
      }
      model.destroy();
      return answers;
    },
    { pictures, questions: transcript.map(({ image, question }) => ({ image, question })) },
  );
  const expected = transcript.map(({ text, token_ids, finish_reason }) => ({
    text,
    tokenIds: token_ids,
    finishReason: finish_reason,
  }));
  assert.deepEqual(answers, expected);
});
