// The examples in examples/web, each as a person has it: the package as `npm pack` makes it beside it, in a real browser, with the
// demonstration model. What they build with is what the lockfiles pin, installed once, in tests/web/install/projects.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { before, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";

import { BROWSER, open, withBrowser } from "../support/helpers.mjs";
import { installInto } from "../support/installed.mjs";
import { serve } from "../support/static.mjs";

withBrowser();

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const run = promisify(execFile);
const json = async (path) => JSON.parse(await readFile(path, "utf8"));
const WORK = here(`../../../target/examples/${BROWSER}`);
const EXAMPLES = ["plain", "vite", "react"];
const SCREEN = here("../../screens/screen-000.png");
/** What stands on that screen, from tests/screens/questions.json: where a question has an answer that can be checked. */
const LINK = { question: 'Where is the "Record status" link?', box: [52, 43, 155, 62], resized: [336, 224] };
const BUTTON = { question: "Read the blue button.", answer: "Country" };

before(async () => {
  await rm(WORK, { recursive: true, force: true });
  for (const name of EXAMPLES) {
    const folder = join(WORK, name);
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "package.json"), '{ "private": true }');
    await installInto(folder);
    for (const file of await readdir(here(`../../../examples/web/${name}`))) {
      // What someone made by hand there is no part of the example.
      if (!["node_modules", "dist"].includes(file)) await cp(here(`../../../examples/web/${name}/${file}`), join(folder, file));
    }
    for (const dependency of Object.keys(await dependencies(name))) {
      const link = join(folder, "node_modules", dependency);
      await mkdir(dirname(link), { recursive: true });
      if (dependency !== "fanlight") await symlink(await installation(dependency), link, "junction");
    }
  }
});

const dependencies = async (name) => {
  const about = await json(here(`../../../examples/web/${name}/package.json`));
  return { ...about.dependencies, ...about.devDependencies };
};
/** TypeScript is the one that builds the package, all else is in tests/web/install/projects. */
const installation = async (dependency) =>
  here(dependency === "typescript" ? "../../../www/node_modules/typescript" : `projects/node_modules/${dependency}`);

test("examples are short, and pin what they are tested with", async () => {
  for (const name of EXAMPLES) {
    const folder = here(`../../../examples/web/${name}/`);
    for (const file of (await readdir(folder)).filter((file) => /\.(html|tsx?|js)$/.test(file))) {
      const lines = (await readFile(join(folder, file), "utf8")).trimEnd().split("\n").length;
      assert.ok(lines <= 80, `${name}/${file} has ${lines} lines`);
    }
    const { packages } = await json(join(folder, "package-lock.json"));
    for (const [dependency, wanted] of Object.entries(await dependencies(name))) {
      if (dependency === "fanlight") continue;
      const { version } = await json(join(await installation(dependency), "package.json"));
      assert.deepEqual([wanted, packages[`node_modules/${dependency}`].version], [version, version], `${name}: ${dependency}`);
    }
    const pinned = JSON.stringify(packages);
    assert.doesNotMatch(pinned, /"resolved":"https?:/, `${name}: the lockfile names a registry`);
  }
});

test("plain/index.html answers about a picture, under its own policy", async (t) => {
  const page = await plain(t, "");
  await page.getByText("Ready").waitFor();
  await askAbout(page, [SCREEN], BUTTON.question);
  await page.getByRole("button", { name: "Ask", disabled: false }).waitFor();
  assert.equal(await page.locator("#answer").textContent(), BUTTON.answer);
  assert.ok(await page.locator("img").evaluate((image) => image.naturalWidth > 0), "the picture is shown");
});

test("plain/openai.html streams chunks in OpenAI's shape", async (t) => {
  const page = await plain(t, "openai.html");
  await page.getByText("total_tokens").waitFor();
  assert.match(await page.locator("#answer").textContent(), /"bbox_2d": \[\d+, \d+, \d+, \d+\]/);
  const usage = JSON.parse(await page.locator("#usage").textContent());
  assert.ok(usage.completion_tokens > 5 && usage.prompt_tokens > usage.prompt_tokens_details.image_tokens, JSON.stringify(usage));
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
});

test("plain/json.html gets JSON of its schema", async (t) => {
  const page = await plain(t, "json.html");
  await page.getByText(/\d+ found\./).waitFor();
  const count = Number.parseInt(await page.locator("#status").textContent());
  const found = await page.locator("#found li").allTextContents();
  assert.equal(found.length, count);
  assert.ok(count > 0);
  for (const line of found) assert.match(line, /^.*: \d+, \d+, \d+, \d+$/);
});

test("vite/ compiles, builds, answers about several pictures, and stops when it is told to", async (t) => {
  await compiles("vite");
  const page = await built(t, "vite");
  await page.getByText("Ready").waitFor();
  await askAbout(page, [SCREEN, SCREEN], BUTTON.question);
  await page.getByText("tokens a second").waitFor();
  assert.equal(await page.locator("#answer").textContent(), BUTTON.answer);
  await page.evaluate(() => {
    const answer = document.querySelector("#answer");
    new MutationObserver(() => answer.textContent && document.querySelector("#stop").click()).observe(answer, { childList: true });
  });
  await askAbout(page, [SCREEN], "Read all the text.");
  await page.getByText("Stopped.").waitFor();
  assert.ok(await page.getByRole("button", { name: "Ask" }).isEnabled());
});

test("react/ compiles, builds, draws what it located where it is, and ends an answer that nobody will read", async (t) => {
  const folder = join(WORK, "react");
  await compiles("react");
  // The page as it is, and a way to take the app off it.
  const html = await readFile(join(folder, "index.html"), "utf8");
  await writeFile(join(folder, "index.html"), html.replace("App.tsx", "main.tsx"));
  const main = 'import { root } from "./App";\nObject.assign(globalThis, { unmount: () => root.unmount() });';
  await writeFile(join(folder, "main.tsx"), main);
  const page = await built(t, "react");
  await page.getByText("ready", { exact: true }).waitFor();
  await askAbout(page, [SCREEN], LINK.question);
  await page.locator("svg rect").waitFor({ state: "attached" });
  const [drawn, shown] = await Promise.all(["svg rect", "figure img"].map((selector) => page.locator(selector).boundingBox()));
  const [x, y] = [shown.width / LINK.resized[0], shown.height / LINK.resized[1]];
  const truth = { x: shown.x + LINK.box[0] * x, y: shown.y + LINK.box[1] * y };
  Object.assign(truth, { width: (LINK.box[2] - LINK.box[0]) * x, height: (LINK.box[3] - LINK.box[1]) * y });
  assert.ok(overlap(drawn, truth) > 0.5, `${JSON.stringify(drawn)} for ${JSON.stringify(truth)}`);
  assert.equal(await page.locator("svg title").textContent(), "Record status");

  await askAbout(page, [SCREEN], "Read all the text.");
  const aborts = await page.evaluate(async () => {
    const answer = document.querySelector("[aria-live]");
    const changes = { characterData: true, childList: true, subtree: true };
    while (!answer.textContent) await new Promise((resolve) => new MutationObserver(resolve).observe(answer, changes));
    let aborts = 0;
    const { abort } = AbortController.prototype;
    AbortController.prototype.abort = function (...reason) {
      aborts++;
      return abort.apply(this, reason);
    };
    globalThis.unmount();
    // React cleans up before long, not at once.
    while (aborts === 0) await new Promise((resolve) => setTimeout(resolve));
    return aborts;
  });
  assert.ok(aborts > 0);
  assert.equal(await page.locator("#root").textContent(), "");
});

async function plain(t, name) {
  const server = await serve(join(WORK, "plain"));
  t.after(() => server.close());
  return open(t, { at: server.url + name });
}

async function compiles(name) {
  const tsc = here("../../../www/node_modules/typescript/bin/tsc");
  const done = await run(process.execPath, [tsc, "--project", join(WORK, name), "--pretty", "false"]).catch((error) => error);
  assert.equal(done.stdout, "");
}

async function built(t, name) {
  const root = join(WORK, name);
  const vite = createRequire(here("projects/package.json")).resolve("vite");
  const { build } = await import(pathToFileURL(vite));
  await build({ root, logLevel: "error" });
  const server = await serve(join(root, "dist"));
  t.after(() => server.close());
  return open(t, { at: server.url });
}

async function askAbout(page, pictures, question) {
  await page.getByLabel(/Picture/).setInputFiles(pictures);
  // Typed key by key: what Playwright's `fill` does in Firefox is not an input to React.
  const field = page.getByLabel("Question");
  await field.press("ControlOrMeta+a");
  await field.pressSequentially(question);
  await page.getByRole("button", { name: "Ask" }).click();
}

/** Of two boxes: what they share, in parts of what they cover together. */
function overlap(a, b) {
  const side = (from, size) => Math.min(a[from] + a[size], b[from] + b[size]) - Math.max(a[from], b[from]);
  const shared = Math.max(0, side("x", "width")) * Math.max(0, side("y", "height"));
  return shared / (a.width * a.height + b.width * b.height - shared);
}
