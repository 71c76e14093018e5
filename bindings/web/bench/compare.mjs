// Compares Goldcrest with ONNX Runtime Web in the same page: `node bench/compare.mjs FOLDER [--out FILE]`, with the
// files of export.py in FOLDER. Rounds alternate. The device `threads` is the CPU with a thread per core, in a worker of a
// cross-origin isolated page. WebGPU runs on SwiftShader here, which says nothing about GPUs.
import { writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { inWorker, launch } from "../test/chromium.mjs";
import { ISOLATED, serve } from "../test/serve.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    out: { type: "string" },
    rounds: { type: "string", default: "5" },
    devices: { type: "string", default: "cpu,threads,gpu" },
    networks: { type: "string", default: "mobilenet_v2,mobilenet_v3_large,mobilenet_v3_small" },
  },
});
const [site, isolated, models] = [await serve(), await serve(undefined, ISOLATED), await serve(positionals[0])];
const browser = await launch();
const results = [];
try {
  for (const device of values.devices.split(",")) {
    for (const network of values.networks.split(",")) {
      const page = await browser.newPage();
      const threaded = device === "threads";
      const threads = threaded ? availableParallelism() : 1;
      const { url } = threaded ? isolated : site;
      await page.goto(url);
      const args = { url, network, models: models.url, rounds: Number(values.rounds), threads, gpu: device === "gpu" };
      const times = await (threaded ? inWorker(page, measured, args) : page.evaluate(measured, args));
      const [ours, theirs] = [times.goldcrest, times.onnxruntime].map(median);
      results.push({ network, device, threads, ms: { goldcrest: ours, onnxruntime: theirs }, over: ours / theirs, rounds_ms: times });
      console.log(`${network}, ${device}: ${ours.toFixed(1)} ms, ONNX Runtime ${theirs.toFixed(1)} ms, ratio ${(ours / theirs).toFixed(2)}`);
      await page.close();
    }
  }
} finally {
  const version = browser.version();
  await browser.close();
  for (const server of [site, isolated, models]) server.close();
  if (values.out) {
    const report = { date: new Date().toISOString().slice(0, 10), browser: `Chromium ${version}`, results };
    await writeFile(values.out, `${JSON.stringify(report, null, 1)}\n`);
  }
}

function median(values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

/** Milliseconds per picture of each round, from the input to the output in the page's memory. */
async function measured({ url, gpu, network, models, rounds, threads }) {
  const goldcrest = await import(`${url}bindings/web/dist/index.js`);
  const ort = await import(`${url}bindings/web/node_modules/onnxruntime-web/dist/ort.all.min.mjs`);
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
  const executionProviders = [gpu ? "webgpu" : "wasm"];
  const theirs = await ort.InferenceSession.create(`${models}${network}.onnx`, { executionProviders });
  const input = new ort.Tensor("float32", Float32Array.from({ length: 3 * 224 * 224 }, (_, i) => Math.sin(0.37 * i)), [1, 3, 224, 224]);
  const ours = (await goldcrest.devices()).find(({ backend }) => backend === (gpu ? "gpu" : "cpu"));
  const peaks = { macs: 1, bytes: 1, launch: 0 };
  const seconds = 0.5;
  const times = { goldcrest: [], onnxruntime: [] };
  for (let round = 0; round < rounds; round++) {
    times.goldcrest.push((await ours.network(network, peaks, seconds)).wall_ms.median);
    const runs = [];
    for (let warm = 0; warm < 2; warm++) await theirs.run({ x: input });
    for (const begun = performance.now(); runs.length < 5 || performance.now() - begun < 1e3 * seconds; ) {
      const start = performance.now();
      const { y } = await theirs.run({ x: input });
      await y.getData();
      runs.push(performance.now() - start);
    }
    times.onnxruntime.push(runs.toSorted((a, b) => a - b)[runs.length >> 1]);
  }
  return times;
}
