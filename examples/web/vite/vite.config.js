import { defineConfig } from "vite";

export default defineConfig({
  // The only line that Fanlight needs: in `vite dev` its worker and wasm are found beside its own modules.
  optimizeDeps: { exclude: ["fanlight"] },
});
