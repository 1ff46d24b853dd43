// The browsers that the tests and the headless demo run in: Chromium, with a real GPU where there is one, and Firefox, whose WebGPU
// is another implementation (wgpu and naga in place of Dawn and Tint).
//
// playwright-core stays at 1.64 for as long as Debian's Firefox does not know WebDriver BiDi's `emulation.setMediaFeaturesOverride`,
// which later versions send for every context.

import { existsSync } from "node:fs";

import { chromium, firefox } from "playwright-core";

/** @returns {string} the address the page is served at, ending in "/" */
export function site() {
  return required("FANLIGHT_URL");
}

export function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start this with \`cargo xtask test\` or \`cargo xtask demo --headless\``);
  return value;
}

/** Which browser this process tests with: "chromium" or "firefox". */
export const BROWSER = process.env.FANLIGHT_BROWSER ?? "chromium";

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

/** Options for a launch of Chromium with this kind of adapter and these flags. */
export function chromiumOptions(adapter, more = []) {
  const flags = ADAPTERS[adapter];
  if (!flags) throw new Error(`FANLIGHT_ADAPTER is "${adapter}"; it may be ${Object.keys(ADAPTERS).join(" or ")}`);
  // Chromium's sandbox refuses to run as root, which is what CI is.
  const sandbox = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return { executablePath: required("FANLIGHT_CHROMIUM"), args: [...QUIET, ...flags, ...sandbox, ...more] };
}

/** Options for a launch of Firefox as people have it, driven by WebDriver BiDi. Its WebGPU is switched on, on Mesa's lavapipe too. */
export function firefoxOptions() {
  const lavapipe = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
  const software = process.env.FANLIGHT_ADAPTER !== "hardware" && existsSync(lavapipe) ? { VK_DRIVER_FILES: lavapipe } : {};
  return {
    channel: "moz-firefox",
    executablePath: required("FANLIGHT_FIREFOX"),
    env: { ...process.env, ...software },
    firefoxUserPrefs: {
      "dom.webgpu.enabled": true,
      "dom.webgpu.workers.enabled": true,
      "dom.webgpu.allow-in-parent": true,
      "gfx.webgpu.force-enabled": true,
      "gfx.webgpu.ignore-blocklist": true,
      // Firefox's sandbox lets a content process open no Vulkan driver that computes on the CPU.
      "security.sandbox.content.level": 0,
    },
  };
}

/**
 * Launches Chromium, with `more` flags. FANLIGHT_ADAPTER=hardware or =software insists on one kind of adapter; without it, hardware is
 * tried first.
 */
export async function launch(more = []) {
  return chromium.launch(chromiumOptions(await adapter(), more));
}

/** A browser for a test file: the shared one, or, where the file needs flags of Chromium's, a Chromium for itself. */
export async function browserFor(flags = []) {
  if (BROWSER === "firefox") return firefox.connect(required("FANLIGHT_FIREFOX_SERVER"));
  if (flags.length > 0) return launch(flags);
  return chromium.connect(required("FANLIGHT_CHROMIUM_SERVER"));
}

/** The kind of adapter that Chromium has here. */
export async function adapter() {
  if (process.env.FANLIGHT_ADAPTER) return process.env.FANLIGHT_ADAPTER;
  const browser = await chromium.launch(chromiumOptions("hardware"));
  try {
    const page = await browser.newPage();
    // WebGPU exists only on secure origins; the page's own files are one, and 404 is as good as any of them.
    await page.goto(new URL("nothing", process.env.FANLIGHT_URL ?? "http://localhost/").href);
    const hardware = await page.evaluate(async () => {
      const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
      return Boolean(adapter) && !(adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter);
    });
    return hardware ? "hardware" : "software";
  } catch {
    return "software";
  } finally {
    await browser.close();
  }
}
