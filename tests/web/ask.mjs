// `node ask.mjs ADDRESS [--image FILE] [--ask TEXT]`: opens the demo page at ADDRESS, gives it a picture, asks, and
// prints the answer as it streams. Ends with 0 only if there was one.

import { parseArgs } from "node:util";

import { launch } from "./support/browser.mjs";

const { positionals: [address], values } = parseArgs({
  allowPositionals: true,
  options: { image: { type: "string" }, ask: { type: "string", default: "What does the red button say?" } },
});
process.env.FANLIGHT_URL ??= address;

const browser = await launch();
try {
  process.exitCode = (await ask(await browser.newPage())) ? 0 : 1;
} finally {
  await browser.close();
}

async function ask(page) {
  page.on("pageerror", (error) => console.error(`the page had an error: ${error}`));
  // A real checkpoint takes long to load and to answer: the person at the terminal decides when to give up.
  page.setDefaultTimeout(0);
  await page.goto(address);
  const problem = page.locator("#problem");
  await page.getByText("Ready.").or(problem).first().waitFor();
  if (await problem.isVisible()) return failed(await problem.innerText());
  console.log(await page.locator("#status").innerText());

  if (values.image) await page.locator("#file").setInputFiles(values.image);
  else await page.getByRole("button", { name: "Use the sample" }).click();
  const unreadable = page.locator("#picture-problem");
  await page.locator("#image").or(unreadable).first().waitFor();
  if (await unreadable.isVisible()) return failed(await unreadable.innerText());

  console.log(`\n> ${values.ask}`);
  let shown = 0;
  let text = "";
  await page.exposeFunction("fanlightAnswer", (written) => {
    text = written;
    process.stdout.write(text.slice(shown));
    shown = text.length;
  });
  // The text as the model wrote it: the page shows it as Markdown.
  await page.evaluate(() => {
    document.getElementById("log").addEventListener("answer", ({ detail }) => globalThis.fanlightAnswer(detail));
  });
  await page.getByLabel("Your question").fill(values.ask);
  await page.getByRole("button", { name: "Ask" }).click();
  const turn = page.locator("#log article");
  await page.locator("#log article[aria-busy=false]").waitFor();
  process.stdout.write("\n\n");
  const wrong = turn.locator(".problem");
  if (await wrong.count()) return failed(await wrong.innerText());
  console.log(await turn.locator(".facts").innerText());
  return text.trim() !== "" || failed("the model's answer is empty");
}

function failed(why) {
  console.error(`demo: ${why}`);
  return false;
}
