// `node browsers.mjs`: launches the browsers that all tests share. Prints, as NAME=VALUE for the environment of the tests, where they are
// reached; then an empty line. Ends, and ends them, when its standard input closes.

import { chromium, firefox } from "playwright-core";

import { adapter, chromiumOptions, firefoxOptions } from "./browser.mjs";

const kind = await adapter();
const servers = await Promise.all([chromium.launchServer(chromiumOptions(kind)), firefox.launchServer(firefoxOptions())]);
const [chromiumServer, firefoxServer] = servers.map((server) => server.wsEndpoint());
console.log(`FANLIGHT_ADAPTER=${kind}\nFANLIGHT_CHROMIUM_SERVER=${chromiumServer}\nFANLIGHT_FIREFOX_SERVER=${firefoxServer}\n`);

process.stdin.on("end", async () => {
  await Promise.all(servers.map((server) => server.close()));
  process.exit(0);
});
process.stdin.resume();
