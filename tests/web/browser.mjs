// Starts the browser the tests and the headless demo run in, with a real GPU where there is one.

import { chromium } from "playwright-core";

/** @returns {string} the address the page is served at, ending in "/" */
export function site() {
  return required("FANLIGHT_URL");
}

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start this with \`cargo xtask test\` or \`cargo xtask demo --headless\``);
  return value;
}

const QUIET = [
  "--headless=new",
  "--enable-unsafe-webgpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const ADAPTERS = {
  hardware: process.platform === "linux" ? ["--enable-features=Vulkan", "--use-angle=vulkan"] : [],
  software: ["--use-webgpu-adapter=swiftshader", "--enable-unsafe-swiftshader"],
};

/** Launches Chromium, with `more` flags. FANLIGHT_ADAPTER=hardware or =software insists on one kind of adapter. */
export async function launch(more = []) {
  const wanted = process.env.FANLIGHT_ADAPTER;
  if (wanted) return start(wanted, more);
  const browser = await start("hardware", more);
  if (await hasHardware(browser)) return browser;
  await browser.close();
  return start("software", more);
}

function start(adapter, more) {
  const flags = ADAPTERS[adapter];
  if (!flags) throw new Error(`FANLIGHT_ADAPTER is "${adapter}"; it may be ${Object.keys(ADAPTERS).join(" or ")}`);
  // Chromium's sandbox refuses to run as root, which is what CI is.
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath: required("FANLIGHT_CHROMIUM"), args: [...QUIET, ...flags, ...sandbox, ...more] });
}

async function hasHardware(browser) {
  const page = await browser.newPage();
  try {
    // WebGPU exists only on secure origins; the page's own files are one, and 404 is as good as any of them.
    await page.goto(new URL("nothing", process.env.FANLIGHT_URL ?? "http://localhost/").href);
    return await page.evaluate(async () => {
      const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
      return Boolean(adapter) && !(adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter);
    });
  } catch {
    return false;
  } finally {
    await page.close();
  }
}
