import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // Fanlight needs only this line: without pre-bundling, `vite dev` finds its worker and its wasm file beside its modules.
  optimizeDeps: { exclude: ["fanlight"] },
});
