/** The script of a worker that is a thread of the CPU engine. */
import init, { runThread } from "./wasm/threads/goldcrest.js";

addEventListener("message", async ({ data }: MessageEvent<[WebAssembly.Module, WebAssembly.Memory]>) => {
  const [module_or_path, memory] = data;
  await init({ module_or_path, memory });
  postMessage("ready");
  // Returns when the page is closed.
  runThread();
});
