// The package in a browser: right answers on both devices, and its errors.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launch } from "./chromium.mjs";
import { root, serve } from "./serve.mjs";

const SCENE = "assets/demo/scene.png";

/** The program's answer for the demo's scene. */
function native(task) {
  const program = process.env.GOLDCREST ?? join(root, "target/release/goldcrest");
  const args = [task, join(root, SCENE), "--weights", join(root, `assets/demo/${task === "embed" ? "classify" : task}`), "--backend", "cpu", "--json"];
  return JSON.parse(execFileSync(program, args, { stdio: ["ignore", "pipe", "ignore"] })).pictures[0];
}

/** Asserts that numbers differ by at most `most`. */
function close(found, expected, most, what) {
  assert.ok(Math.abs(found - expected) <= most, `${what}: ${found}, expected ${expected}`);
}

let server, browser, page;

before(async () => {
  server = await serve();
  browser = await launch();
  page = await opened(browser);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** A page with the package and the scene. */
async function opened(browser) {
  const page = await browser.newPage();
  page.on("console", (message) => message.type() === "error" && console.error(message.text()));
  await page.goto(server.url);
  await page.evaluate(async (scene) => {
    window.goldcrest = await import("/bindings/web/dist/index.js");
    window.scene = await createImageBitmap(await (await fetch(scene)).blob());
    window.demo = (task) => goldcrest.load(`/assets/demo/${task}/model.safetensors`);
  }, `/${SCENE}`);
  return page;
}

/** The error that a page's function throws. */
function refusal(page, work, argument) {
  return page.evaluate(
    async ([work, argument]) => {
      try {
        await eval(`(${work})`)(argument);
        return undefined;
      } catch (e) {
        return `${e.name}: ${e.message}`;
      }
    },
    [work.toString(), argument],
  );
}

for (const device of ["cpu", "gpu"]) {
  describe(device, () => {
    test("classifies as the program does", async () => {
      const { found, used } = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device });
        return { found: await session.classify(scene, { top: 10 }), used: session.device };
      }, device);
      assert.equal(used, device);
      const { classes } = native("classify");
      assert.ok(found.length >= classes.length);
      classes.forEach((expected, at) => {
        assert.equal(found[at].label, expected.label);
        close(found[at].probability, expected.probability, 2e-3, expected.label);
      });
    });

    test("detects as the program does", async () => {
      const found = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("detect"), { device });
        return session.detect(scene);
      }, device);
      const expected = native("detect").detections.filter((detection) => detection.score >= 0.5);
      assert.deepEqual(found.map((of) => of.label), expected.map((of) => of.label));
      expected.forEach((of, at) => {
        close(found[at].score, of.score, 5e-3, of.label);
        for (const edge of ["left", "top", "right", "bottom"]) close(found[at].bounds[edge], of.bounds[edge], 1, edge);
      });
    });

    test("segments as the program does", async () => {
      const found = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("segment"), { device });
        const { width, height, labels, classes } = await session.segment(scene);
        return { width, height, pixels: labels.length, classes };
      }, device);
      assert.deepEqual([found.width, found.height, found.pixels], [384, 384, 384 * 384]);
      for (const { label, share } of native("segment").classes) {
        const fraction = found.classes.find((of) => of.label === label)?.share ?? 0;
        close(fraction, share, 2e-3, label);
      }
    });

    test("embeds as the program does", async () => {
      const found = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device, embedding: true });
        return [...(await session.embed(scene))];
      }, device);
      const { embedding } = native("embed");
      assert.equal(found.length, embedding.length);
      const norm = Math.hypot(...embedding);
      close(Math.hypot(...found.map((value, at) => value - embedding[at])) / norm, 0, 2e-3, "relative error");
    });

    test("takes every source of pictures", async () => {
      const labels = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device });
        const { width, height } = scene;
        const canvas = Object.assign(document.createElement("canvas"), { width, height });
        const context = canvas.getContext("2d");
        context.drawImage(scene, 0, 0);
        const offscreen = new OffscreenCanvas(width, height);
        offscreen.getContext("2d").drawImage(scene, 0, 0);
        const image = new Image();
        image.src = "/assets/demo/scene.png";
        await image.decode();
        const frame = new VideoFrame(canvas, { timestamp: 0 });
        const sources = [scene, canvas, offscreen, image, frame, context.getImageData(0, 0, width, height)];
        const labels = [];
        for (const source of sources) labels.push((await session.classify(source, { top: 1 }))[0].label);
        frame.close();
        return labels;
      }, device);
      assert.deepEqual(labels, Array(6).fill("star"));
    });

    test("runs on pictures of different sizes, in the order of the calls", async () => {
      const widths = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("segment"), { device });
        const small = await createImageBitmap(scene, { resizeWidth: 200, resizeHeight: 120 });
        const all = await Promise.all([scene, small, scene].map((picture) => session.segment(picture)));
        return all.map(({ width }) => width);
      }, device);
      assert.deepEqual(widths, [384, 200, 384]);
    });

    test("names the task that a network has", async () => {
      const error = await refusal(page, async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device });
        await session.detect(scene);
      }, device);
      assert.match(error, /^Error: .*network that classifies/);
    });
  });
}

describe("auto", () => {
  test("answers on the CPU at once, and chooses the quicker device", async () => {
    const { first, devices, decided } = await page.evaluate(async () => {
      const session = await goldcrest.Session.create(await demo("classify"));
      const begun = performance.now();
      const [best] = await session.classify(scene);
      const first = { label: best.label, device: session.device, ms: performance.now() - begun };
      const devices = new Set();
      for (let run = 0; run < 2000 && !session.decided; run++) {
        await session.classify(scene);
        devices.add(session.device);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      return { first, devices: [...devices], decided: session.decided };
    });
    assert.equal(first.label, "star");
    assert.equal(first.device, "cpu");
    assert.ok(decided, `only used ${devices}`);
    assert.ok(devices.includes("gpu") && devices.includes("cpu"));
  });

  test("runs without WebGPU", async () => {
    const without = await launch({ gpu: false });
    try {
      const page = await opened(without);
      const { label, device } = await page.evaluate(async () => {
        const session = await goldcrest.Session.create(await demo("classify"));
        const [best] = await session.classify(scene);
        return { label: best.label, device: session.device };
      });
      assert.deepEqual([label, device], ["star", "cpu"]);
      const error = await refusal(page, async () => goldcrest.Session.create(await demo("classify"), { device: "gpu" }));
      assert.match(error, /no graphics adapter: this browser has no WebGPU/);
    } finally {
      await without.close();
    }
  });
});

describe("a GPU", () => {
  test("is opened again when it is lost", async () => {
    const labels = await page.evaluate(async () => {
      const session = await goldcrest.Session.create(await demo("classify"), { device: "gpu" });
      const label = async () => (await session.classify(scene))[0].label;
      const labels = [await label()];
      session.gpuDevice.destroy();
      await session.gpuDevice.lost;
      labels.push(await label());
      labels.push(await label());
      return labels;
    });
    assert.deepEqual(labels, Array(3).fill("star"));
  });
});

describe("files", () => {
  test("are kept, and fetched again only if they have changed", async () => {
    await page.evaluate(() => demo("detect"));
    const from = server.requests.length;
    const received = await page.evaluate(async () => {
      let received = 0;
      await goldcrest.load("/assets/demo/detect/model.safetensors", { progress: (count) => (received = count) });
      return received;
    });
    const weights = server.requests.slice(from).filter(({ path }) => path.endsWith(".safetensors"));
    assert.deepEqual(weights.map(({ status }) => status), [304]);
    assert.ok(received > 1e6);
  });

  for (const [what, work, message] of [
    ["missing", () => goldcrest.load("/missing.safetensors"), /missing\.safetensors: 404/],
    ["of another kind", () => goldcrest.load(new Blob(["hello"])), /weights: .*safetensors/i],
    ["cut off", async () => {
      const whole = await (await fetch("/assets/demo/classify/model.safetensors")).blob();
      await goldcrest.load(whole.slice(0, 100_000));
    }, /weights: /],
    ["of an unknown network", () => goldcrest.load("/assets/demo/classify/model.safetensors", { arch: "vgg16" }), /vgg16/],
    ["with a config that is not JSON", async () => {
      const whole = await (await fetch("/assets/demo/classify/model.safetensors")).blob();
      await goldcrest.load(whole, { config: "{" });
    }, /config\.json/],
  ]) {
    test(`${what} are refused`, async () => {
      assert.match((await refusal(page, work)) ?? "accepted", message);
    });
  }
});
