// Links to the demonstration page are written by anybody. What a link names is shown before anything of it is requested, and what it
// leaves in the form does not reach what the person chooses afterwards.

import assert from "node:assert/strict";
import { test } from "node:test";

import { demo } from "../support/demo-page.mjs";
import { withBrowser } from "../support/helpers.mjs";

withBrowser();

const EVIL = "https://evil.example";

/** Opens the page by a link, and keeps what it asks of other machines. */
async function linked(t, query) {
  const asked = [];
  const page = await demo(t, {
    path: `?${new URLSearchParams(query)}`,
    servers: [EVIL, "https://huggingface.co"],
    setup: (p) =>
      p.route(/^https:\/\/(evil\.example|huggingface\.co)\//, (route) => {
        const { authorization } = route.request().headers();
        asked.push({ url: route.request().url(), authorization });
        return route.fulfill({ status: 404, headers: { "access-control-allow-origin": "*", "access-control-allow-headers": "*" } });
      }),
  });
  return { page, asked };
}

for (const [what, query, said] of [
  ["an endpoint that is no address", { model: "a/b", endpoint: "http://" }, /"http:\/\/" is not a valid address/],
  ["an endpoint that runs code", { model: "a/b", endpoint: "javascript:alert(1)" }, /not a plain http/],
  ["a model inside the link", { model: 'data:,{"model_type":"qwen2_5_vl"}' }, /is not the address of a folder/],
  ["a model in a blob", { model: "blob:https://evil.example/1" }, /is not the address of a folder/],
]) {
  test(`a link with ${what} loads nothing and is explained`, async (t) => {
    const { page, asked } = await linked(t, query);
    await page.getByRole("alert").getByText(said).waitFor();
    assert.deepEqual(asked, []);
  });
}

test("a server that a link names is shown, gets no token, and does not stay when a known model is chosen", async (t) => {
  const { page, asked } = await linked(t, { model: "x/y", endpoint: EVIL });
  await page.getByText("x/y from evil.example is not loaded yet").first().waitFor();
  await page.locator("#model-pill").click();
  const sheet = page.getByRole("dialog", { name: "Models" });
  await sheet.getByText("This model comes from evil.example, not from Hugging Face.").waitFor();
  assert.deepEqual(asked, [], "a link alone requests nothing");
  await sheet.getByText("Revision, server, token").click();
  await sheet.getByLabel("Access token").fill("hf_secret");
  await sheet.getByText("The access token is not sent there.").waitFor();
  await sheet.getByRole("button", { name: "How large is it?" }).click();
  await sheet.getByRole("alert").waitFor();
  assert.ok(asked.length > 0 && asked.every(({ url, authorization }) => url.startsWith(EVIL) && authorization === undefined), JSON.stringify(asked));

  asked.length = 0;
  await sheet.getByRole("button", { name: "Qwen2.5-VL-3B-Instruct" }).click();
  await page.waitForFunction(() => document.getElementById("other-server").hidden);
  assert.equal(await sheet.getByLabel("Server").inputValue(), "");
  await sheet.getByRole("alert").waitFor();
  assert.ok(asked.length > 0 && asked.every(({ url }) => url.startsWith("https://huggingface.co/")), JSON.stringify(asked));

  // A server that the person types gets the token that the person types.
  await sheet.getByLabel("Server").fill(`${EVIL}/mirror`);
  asked.length = 0;
  await sheet.getByRole("button", { name: "How large is it?" }).click();
  await sheet.getByRole("alert").waitFor();
  assert.ok(asked.length > 0 && asked.some(({ authorization }) => authorization === "Bearer hf_secret"), JSON.stringify(asked));
});
