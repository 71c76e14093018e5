// Headless Chromium, with WebGPU on a software adapter or without WebGPU.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PATHS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Starts the browser. */
export function launch({ gpu = true, args = [] } = {}) {
  const executablePath = PATHS.find((path) => path && existsSync(path));
  if (!executablePath) throw new Error("no Chromium: install it, or name its program in CHROMIUM");
  const webgpu = gpu
    ? ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
    : ["--disable-features=WebGPU", "--disable-gpu"];
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...webgpu, ...args] });
}

/** Calls a function with `args` in a module worker of the page, and returns its result. */
export function inWorker(page, work, args) {
  const script = `(${work})(${JSON.stringify(args)}).then(postMessage, (e) => postMessage({ error: String(e) }))`;
  return page.evaluate(async (script) => {
    const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" });
    const { data } = await new Promise((resolve, reject) => {
      worker.onmessage = resolve;
      worker.onerror = (e) => reject(new Error(e.message));
    });
    worker.terminate();
    if (data.error) throw new Error(data.error);
    return data;
  }, script);
}
