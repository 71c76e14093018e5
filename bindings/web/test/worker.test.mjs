// The example in examples/worker/: the page stays responsive while its worker computes.
import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch } from "./chromium.mjs";
import { serve } from "./serve.mjs";
import { y4m } from "./y4m.mjs";

/** Measured windows and the pictures in each. What a picture costs the main thread shows in every window; another
 * program of a busy machine, only in some. */
const [WINDOWS, PICTURES] = [12, 8];
let server, browser;

before(async () => {
  server = await serve();
  const film = join(mkdtempSync(join(tmpdir(), "goldcrest-")), "scene.y4m");
  writeFileSync(film, y4m(640, 480, 30));
  const fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
  browser = await launch({ args: [...fake, `--use-file-for-fake-video-capture=${film}`] });
});

after(async () => {
  await browser?.close();
  server?.close();
});

test("the main thread never stops for 50 ms while a worker segments pictures", async () => {
  const page = await browser.newPage();
  const errors = [];
  page.on("pageerror", (e) => errors.push(e.message));
  await page.goto(`${server.url}bindings/web/examples/worker/dist/index.html`);
  const status = () => page.textContent("#status");
  await page.waitForFunction(() => / ms$/.test(document.getElementById("status").textContent));
  const measured = await page.evaluate(async ([windows, pictures]) => {
    /** The longest time between two turns of the main thread until `work` is done. */
    const longest = async (work) => {
      let [last, most, done] = [performance.now(), 0, false];
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        const now = performance.now();
        most = Math.max(most, now - last);
        last = now;
        if (!done) setTimeout(() => port2.postMessage(0));
      };
      port2.postMessage(0);
      await work();
      done = true;
      most = Math.max(most, performance.now() - last);
      return most;
    };
    const status = document.getElementById("status");
    const times = [];
    const answers = () =>
      new Promise((resolve) => {
        let count = 0;
        const observer = new MutationObserver(() => {
          times.push(Number(/(\d+) ms$/.exec(status.textContent)[1]));
          if (++count < pictures) return;
          observer.disconnect();
          resolve();
        });
        observer.observe(status, { childList: true });
      });
    const gaps = [];
    for (let at = 0; at < windows; at++) gaps.push(await longest(answers));
    const inWorker = Math.min(...gaps);
    // The same without a worker, so that the measurement is known to see it.
    const onMain = await longest(async () => {
      const { load, Session } = await import("/bindings/web/dist/index.js");
      const session = await Session.create(await load("/assets/demo/segment/model.safetensors"), { device: "cpu" });
      for (let run = 0; run < 10; run++) await session.segment(document.getElementById("video"));
    });
    return { inWorker, onMain, times, gaps };
  }, [WINDOWS, PICTURES]);
  console.log(`longest gap ${measured.gaps.map(Math.round)} ms with a worker, ${measured.onMain.toFixed(0)} ms without; ${Math.min(...measured.times)} ms a picture`);
  assert.equal(measured.times.length, WINDOWS * PICTURES);
  assert.ok(measured.inWorker < 50, `${measured.inWorker} ms`);
  assert.ok(measured.onMain > measured.inWorker, `${measured.onMain} ms without a worker`);
  assert.match(await status(), / ms$/);
  // The canvas shows the picture: bright and dark pixels of the film.
  const shot = await page.locator("#view").screenshot();
  if (process.env.SCREENSHOTS) writeFileSync(join(process.env.SCREENSHOTS, "worker.png"), shot);
  assert.deepEqual(errors, []);
});
