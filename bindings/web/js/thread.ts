/** The script of a worker that is a thread of the CPU engine. */
import init, { runThread } from "./wasm/threads/goldcrest.js";

addEventListener("message", async ({ data }: MessageEvent<[WebAssembly.Module, WebAssembly.Memory]>) => {
  const [module_or_path, memory] = data;
  try {
    await init({ module_or_path, memory });
  } catch (e) {
    return postMessage({ error: String(e) });
  }
  postMessage({});
  // Returns when the page is closed.
  runThread();
});
