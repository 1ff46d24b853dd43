// esbuild does not follow `new URL(…, import.meta.url)`, so the package stays as it is, beside the bundle.

import { cp } from "node:fs/promises";
import { join } from "node:path";

export default {
  options: {
    entryPoints: ["main.js"],
    bundle: true,
    format: "esm",
    outdir: "dist",
    alias: { "fanlight/screen-reader": "./fanlight/src/screen-reader.js", fanlight: "./fanlight/src/index.js" },
    external: ["./fanlight/*"],
  },
  copy: (folder) => cp(join(folder, "node_modules/fanlight/dist"), join(folder, "dist/fanlight"), { recursive: true }),
};
