// The page in site/, as a visitor uses it.
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { launch } from "./chromium.mjs";
import { root, serve } from "./serve.mjs";
import { y4m } from "./y4m.mjs";

const folder = process.env.SCREENSHOTS ?? mkdtempSync(join(tmpdir(), "goldcrest-"));
let server, browser;

before(async () => {
  server = await serve(join(root, "bindings/web/site/dist"));
  const film = join(mkdtempSync(join(tmpdir(), "goldcrest-")), "scene.y4m");
  writeFileSync(film, y4m(320, 240, 30));
  const fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
  browser = await launch({ args: [...fake, `--use-file-for-fake-video-capture=${film}`] });
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** The page, once it has shown its first answer, and the errors in its console. */
async function visit({ prepare, ...options } = {}) {
  const page = await browser.newPage(options);
  if (prepare) await page.addInitScript(prepare);
  const errors = [];
  page.on("pageerror", (e) => errors.push(e.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(`${server.url}index.html`);
  await answered(page);
  return { page, errors };
}

const answered = (page) => page.waitForFunction(() => / ms/.test(document.getElementById("status").textContent));
const results = (page) => page.$$eval("#results li", (lines) => lines.map((line) => line.children[1].textContent));

for (const [name, options] of [
  ["light", { viewport: { width: 1200, height: 900 }, colorScheme: "light" }],
  ["dark", { viewport: { width: 1200, height: 900 }, colorScheme: "dark" }],
  ["phone", { viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true }],
]) {
  test(`fits a ${name} screen`, async () => {
    const { page, errors } = await visit(options);
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.ok(!wide, "scrolls sideways");
    assert.deepEqual((await results(page)).sort(), ["cross", "heart", "hexagon", "star"]);
    assert.deepEqual(errors, []);
    await page.close();
  });
}

test("runs each network on the CPU, chosen by keyboard", async () => {
  const { page, errors } = await visit();
  await page.selectOption("#device", "cpu");
  await page.focus("input[value=segment]");
  for (const expected of [["star", "star", "hexagon", "heart", "cross"], ["star"]]) {
    await page.keyboard.press("ArrowRight");
    await page.waitForFunction(
      ([first, count]) => {
        const lines = [...document.querySelectorAll("#results li")];
        return lines.length === count && lines[0].children[1].textContent === first && !/%/.test(document.getElementById("status").textContent);
      },
      [expected[0], expected.length === 1 ? 5 : expected.length],
    );
    assert.deepEqual((await results(page)).slice(0, expected.length), expected);
  }
  assert.match(await page.textContent("#status"), /^CPU: /);
  assert.deepEqual(errors, []);
  await page.close();
});

test("opens files that are dropped, and says what is wrong with others", async () => {
  const { page } = await visit();
  await page.selectOption("#device", "cpu");
  await page.setInputFiles("#file", ["model.safetensors", "config.json"].map((name) => join(root, "assets/demo/classify", name)));
  await page.waitForFunction(() => document.querySelectorAll("#results li").length === 5);
  assert.equal((await results(page))[0], "star");
  const bad = (name, text) => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(text) });
  for (const [file, message] of [
    [bad("broken.safetensors", "hello"), /^(?!Opening).*broken\.safetensors/],
    [bad("notes.txt", "hello"), /neither a picture nor a file of weights/],
    [{ name: "broken.png", mimeType: "image/png", buffer: Buffer.from("hello") }, /cannot be decoded/],
  ]) {
    await page.setInputFiles("#file", file);
    await page.waitForFunction((message) => new RegExp(message).test(document.getElementById("status").textContent), message.source);
  }
  await page.close();
});

describe("the camera", () => {
  test("is followed for 300 pictures without growth of memory", async () => {
    const { page, errors } = await visit({
      prepare: () => {
        const { instantiateStreaming } = WebAssembly;
        WebAssembly.instantiateStreaming = async (...source) => {
          const result = await instantiateStreaming(...source);
          window.linear = result.instance.exports.memory;
          return result;
        };
      },
    });
    await page.selectOption("#device", "cpu");
    await page.check("input[value=classify]");
    await page.evaluate(() => {
      window.count = 0;
      new MutationObserver(() => window.count++).observe(document.getElementById("results"), { childList: true });
    });
    await page.click("#camera");
    const devtools = await page.context().newCDPSession(page);
    // What remains once garbage is collected: objects, the memory of arrays, and the module's own.
    const memory = async (count) => {
      await page.waitForFunction((count) => window.count >= count, count, { timeout: 120_000 });
      await devtools.send("HeapProfiler.collectGarbage");
      const { usedSize, backingStorageSize } = await devtools.send("Runtime.getHeapUsage");
      return { heap: usedSize + backingStorageSize, module: await page.evaluate(() => linear.buffer.byteLength) };
    };
    const [early, late] = [await memory(60), await memory(300)];
    assert.ok(late.heap < early.heap + 2e6, `${early.heap} bytes grew to ${late.heap}`);
    assert.equal(late.module, early.module);
    assert.match(await page.textContent("#status"), /pictures per second/);
    await page.click("#camera");
    assert.equal(await page.textContent("#camera"), "Use the camera");
    assert.deepEqual(errors, []);
    await page.close();
  });
});

test("works off line on the second visit", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${server.url}index.html`);
  await answered(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
  // The second visit is the first one that the worker sees from its beginning.
  await page.reload();
  await answered(page);
  await context.setOffline(true);
  await page.reload();
  await answered(page);
  await context.close();
});
