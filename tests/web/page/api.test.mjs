// The page of the API: it has everything that the package exports, says something about all of it, and is safe and legible.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { declarations } from "../../../www/api/declarations.mjs";
import { apiPage } from "../../../www/api/make.mjs";
import { prose } from "../../../www/api/prose.mjs";
import { open, withBrowser } from "../support/helpers.mjs";

withBrowser();

const text = (html) => html.replace(/<[^>]*>/g, "").replace(/&#(\d+);/g, (_, code) => String.fromCharCode(code));

test("every export, method and option has a place on the page and a sentence about it", async () => {
  const { problems } = await apiPage();
  assert.deepEqual(problems, []);
});

test("every link within the page leads somewhere, and to one place", async () => {
  const { html } = await apiPage();
  const ids = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assert.deepEqual(ids.filter((id, index) => ids.indexOf(id) !== index), []);
  const lost = [...html.matchAll(/href="#([^"]*)"/g)].filter(([, id]) => !ids.includes(id)).map(([, id]) => id);
  assert.deepEqual(lost, []);
});

test("signatures are those that a caller sees", async (t) => {
  const { entries, problems } = await fixture(t, `
    interface Hidden { a: 1 }
    /** What is said. */
    export interface Said<T extends string = string> {
      type: "said";
      /** It. */
      readonly it?: T;
      bare: number;
    }
    /** Adds. */
    export async function add(a: number, by = 1, { far = true }: { far?: boolean } = {}, ...rest: Said[]): Promise<void> {}
    /** Many. @since 3 */
    export function many(one: Hidden): void {}
    /** Holds. */
    export class Holder {
      #secret = 1;
      private gone = 2;
      /** @internal */
      constructor(secret: number) { this.#secret = secret + this.gone; }
      /** Holds one, */
      hold(one: string): void;
      /** or two. */
      hold(one: string, two: string): void;
      hold(): void {}
      /** How many. */
      get size(): number { return this.#secret; }
      /** Drops. */
      static drop(): void {}
    }
    export type Word =
      | "yes" // it is
      | "no"; // it is not
    /** Several. */
    export type Several =
      /** One. */
      | Word
      | { two: 2 };
    /** The things. */
    export const things = {
      /** Lists. */
      list(): Word[] { return []; },
    };
  `);
  const shown = (name) => [text(entries.get(name).signature), ...entries.get(name).members.map((m) => `${text(m.signature)} ${m.doc}`.trim())];
  assert.deepEqual(shown("Said"), ["interface Said<T extends string = string>", 'type: "said"', "readonly it?: T It.", "bare: number"]);
  assert.deepEqual(shown("add"), [
    "function add(\n  a: number,\n  by?: number,\n  options?: { far?: boolean },\n  ...rest: Said[],\n): Promise<void>",
  ]);
  assert.deepEqual(shown("Holder"), [
    "",
    "hold(one: string): void\nhold(one: string, two: string): void Holds one,\n\nor two.",
    "readonly size: number How many.",
    "static drop(): void Drops.",
  ]);
  assert.deepEqual(shown("Word"), ["", '"yes" it is', '"no" it is not']);
  assert.deepEqual(shown("Several"), ["type Several =\n  // One.\n  | Word\n  | { two: 2 }"]);
  assert.deepEqual(shown("things"), ["", "list(): Word[] Lists."]);
  assert.match(entries.get("add").signature, /<a href="#Said">Said<\/a>/);
  assert.deepEqual(problems.sort(), [
    "Said.bare has no doc comment",
    "Word has no doc comment",
    "many names Hidden, which is not exported",
    "many uses @since, which the page does not show",
  ]);
});

test("what the outline does not name is shown, and is a problem", async (t) => {
  const points = await written(t, "/** One. */\nexport const one = 1;");
  const { html, problems } = await apiPage(points);
  assert.match(html, /<h2 id="about-more">/);
  assert.match(html, /<article id="one">/);
  assert.ok(problems.includes("one has no place in outline.md"));
  assert.ok(problems.includes("outline.md names load, which is not exported"));
});

test("doc comments cannot become markup", () => {
  const place = (name) => (name === "load" ? "#load" : undefined);
  assert.equal(
    prose("Takes `a<b>` & \"c\", **`load()`**,\nnot *<img src=x onerror=alert(1)>* or [x](javascript:alert(1)).\n\n- one\n  more\n- two", place),
    "<p>Takes <code>a&#60;b&#62;</code> &#38; &#34;c&#34;, <strong><a href=\"#load\"><code>load()</code></a></strong>,\n" +
      "not <em>&#60;img src=x onerror=alert(1)&#62;</em> or [x](javascript:alert(1)).</p>\n<ul><li>one more</li><li>two</li></ul>",
  );
  const code = prose("```ts\nimport { load } from \"fanlight\"; // <b>\nconst load2 = await load(`</code>${load.x}`);\n```", place);
  assert.equal(text(code), "import { load } from \"fanlight\"; // <b>\nconst load2 = await load(`</code>${load.x}`);");
  assert.equal(code.match(/<a href="#load">load<\/a>/g).length, 3);
  assert.doesNotMatch(code.replace("</code></pre>", ""), /<\/code>/);
  assert.throws(() => prose("```ts\nopen", place), /not closed/);
});

for (const [name, viewport] of [["phone", { width: 360, height: 740 }], ["desktop", { width: 1440, height: 900 }]]) {
  test(`the page as built, on a ${name}, without scripts`, async (t) => {
    const page = await open(t, { path: "api/", viewport, javaScriptEnabled: false });
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(beyond, 0, "no sideways scrolling");
    assert.equal(await page.locator("script").count(), 0);
    const contents = page.getByRole("navigation", { name: "Contents" });
    const link = contents.getByRole("link", { name: "GenerateOptions" });
    // Beside the text the contents are always open; above it they open when asked.
    assert.equal(await link.isVisible(), name === "desktop");
    if (name === "phone") await contents.getByText("Contents").click();
    await link.click();
    const top = await page.locator("#GenerateOptions").evaluate((section) => section.getBoundingClientRect().top);
    assert.ok(top >= 0 && top < viewport.height / 2, `the section is ${top} pixels down`);
    await page.locator("#GenerateOptions dt a:text-is('AbortSignal')").getAttribute("href").then((href) => {
      assert.equal(href, "https://developer.mozilla.org/docs/Web/API/AbortSignal");
    });
  });
}

/** An entry point with this source. */
async function written(t, source) {
  const folder = await mkdtemp(join(tmpdir(), "fanlight-api-"));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "index.ts"), source);
  return [{ from: "fixture", file: join(folder, "index.ts") }];
}

async function fixture(t, source) {
  return declarations(await written(t, source));
}
