import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: { target: "es2022", outDir: "dist", emptyOutDir: true, assetsInlineLimit: 0 },
  worker: { format: "es" },
  // Outside of this repository the package is installed, and neither of these is needed.
  resolve: { alias: { goldcrest: fileURLToPath(new URL("../../dist/index.js", import.meta.url)) } },
  server: { fs: { allow: ["../../../.."] } },
});
