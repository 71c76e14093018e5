import { defineConfig } from "vite";

export default defineConfig({
  // Works from any folder of a server.
  base: "./",
  build: { target: "es2022", outDir: "dist", emptyOutDir: true, assetsInlineLimit: 0 },
  worker: { format: "es" },
  assetsInclude: ["**/*.safetensors"],
  // The networks and the scene are the repository's.
  server: { fs: { allow: ["../../.."] } },
});
