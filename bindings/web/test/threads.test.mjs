// The CPU engine's threads: in workers of cross-origin isolated pages, and nowhere else.
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { after, before, test } from "node:test";
import { launch } from "./chromium.mjs";
import { ISOLATED, serve } from "./serve.mjs";

const WEIGHTS = "/assets/demo/segment/model.safetensors";

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

/**
 * Segments the demo's scene in a page of a server with these headers: in a worker, or in the page itself. Returns the
 * device's name, the number of pixels of each class in several runs, the warnings, and the requested files.
 */
async function segmented(headers, { inWorker, runs = 3 }) {
  const server = await serve(undefined, headers);
  try {
    const page = await browser.newPage();
    const warnings = [];
    page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    await page.goto(server.url);
    const result = await page.evaluate(
      async ([weights, inWorker, runs]) => {
        const work = async (origin, weights, runs) => {
          const { load, Session } = await import(`${origin}/bindings/web/dist/index.js`);
          const session = await Session.create(await load(origin + weights), { device: "cpu" });
          const scene = await createImageBitmap(await (await fetch(`${origin}/assets/demo/scene.png`)).blob());
          const counts = [];
          for (let run = 0; run < runs; run++) {
            const { labels } = await session.segment(scene);
            const pixels = new Array(256).fill(0);
            for (const label of labels) pixels[label]++;
            counts.push(pixels);
          }
          return { name: session.deviceName, counts };
        };
        if (!inWorker) return work(location.origin, weights, runs);
        const args = JSON.stringify([location.origin, weights, runs]);
        const script = `(${work})(...${args}).then(postMessage, (e) => postMessage({ error: String(e) }))`;
        const worker = new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" });
        const { data } = await new Promise((resolve, reject) => {
          worker.onmessage = resolve;
          worker.onerror = (e) => reject(new Error(e.message));
        });
        worker.terminate();
        return data;
      },
      [WEIGHTS, inWorker, runs],
    );
    await page.close();
    assert.equal(result.error, undefined);
    return { ...result, warnings, paths: server.requests.map(({ path }) => path) };
  } finally {
    server.close();
  }
}

test("a worker of an isolated page computes on all cores, with the results of one thread", async () => {
  const [threaded, single] = [
    await segmented(ISOLATED, { inWorker: true, runs: 20 }),
    await segmented({}, { inWorker: true }),
  ];
  const cores = availableParallelism();
  if (cores > 1) assert.match(threaded.name, new RegExp(`\\b${cores} threads`));
  assert.match(single.name, /\b1 thread\b/);
  assert.ok(threaded.paths.includes("/bindings/web/dist/wasm/threads/goldcrest_bg.wasm"));
  for (const counts of [...threaded.counts, ...single.counts]) assert.deepEqual(counts, single.counts[0]);
});

test("elsewhere there is one thread, and its module only", async () => {
  for (const [headers, inWorker] of [[ISOLATED, false], [{}, true], [{}, false]]) {
    const { name, paths } = await segmented(headers, { inWorker, runs: 1 });
    assert.match(name, /\b1 thread\b/);
    assert.ok(!paths.some((path) => path.includes("/threads/")), paths.join(" "));
  }
});

test("without workers the engine continues on one thread and says so", async () => {
  const { name, warnings } = await segmented(
    { ...ISOLATED, "content-security-policy": "worker-src blob:" },
    { inWorker: true, runs: 1 },
  );
  assert.match(name, /\b1 thread\b/);
  assert.match(warnings.join("\n"), /goldcrest: continuing on one thread/);
});
