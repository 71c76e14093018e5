// The CPU engine's threads: in workers of cross-origin isolated pages, and nowhere else.
import assert from "node:assert/strict";
import { availableParallelism } from "node:os";
import { after, before, test } from "node:test";
import { inWorker as runInWorker, launch } from "./chromium.mjs";
import { ISOLATED, serve } from "./serve.mjs";

let browser;

before(async () => {
  browser = await launch();
});

after(async () => {
  await browser?.close();
});

/** Segments the demo's scene. Returns the device's name, and the number of pixels of each class in each run. */
async function segment({ origin, runs }) {
  const { load, Session } = await import(`${origin}bindings/web/dist/index.js`);
  const session = await Session.create(await load(`${origin}assets/demo/segment/model.safetensors`), { device: "cpu" });
  const scene = await createImageBitmap(await (await fetch(`${origin}assets/demo/scene.png`)).blob());
  const counts = [];
  for (let run = 0; run < runs; run++) {
    const { labels } = await session.segment(scene);
    const pixels = new Array(256).fill(0);
    for (const label of labels) pixels[label]++;
    counts.push(pixels);
  }
  return { name: session.deviceName, counts };
}

/**
 * The result of `segment` in a page of a server with these headers, in a worker or in the page itself; the warnings, and
 * the requested files.
 */
async function segmented(headers, { inWorker, runs = 3 }) {
  const server = await serve(undefined, headers);
  try {
    const page = await browser.newPage();
    const warnings = [];
    page.on("console", (message) => message.type() === "warning" && warnings.push(message.text()));
    await page.goto(server.url);
    const args = { origin: server.url, runs };
    const result = await (inWorker ? runInWorker(page, segment, args) : page.evaluate(segment, args));
    await page.close();
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
