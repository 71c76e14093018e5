/** The threads of the CPU engine: workers that share its memory. */
import { wasm } from "./module.js";

/** Starts as many threads as `wasm.Device.cpu` expects. The CPU must not be used before. */
export async function startThreads(count: number): Promise<void> {
  const memory = wasm.threadMemory();
  await Promise.all(Array.from({ length: count }, () => startThread(memory)));
}

function startThread(memory: unknown): Promise<void> {
  const worker = new Worker(new URL("./thread.js", import.meta.url), { type: "module", name: "goldcrest" });
  return new Promise((resolve, reject) => {
    const refuse = (reason: string) => {
      worker.terminate();
      reject(new Error(reason));
    };
    worker.onmessage = ({ data }) => (data.error ? refuse(data.error) : resolve());
    worker.onerror = (e) => refuse(e.message || "the browser refuses workers");
    worker.postMessage(memory);
  });
}
