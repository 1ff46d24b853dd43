import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // The only line that Fanlight needs: in `vite dev` its worker and wasm are found beside its own modules.
  optimizeDeps: { exclude: ["fanlight"] },
});
