// The package in a browser: right answers on both devices, and its errors.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import { join } from "node:path";
import { launch } from "./chromium.mjs";
import { root, serve } from "./serve.mjs";

const SCENE = "assets/demo/scene.png";

/** The program's answer for the demo's scene. */
function native(task, weights = `assets/demo/${task === "embed" ? "classify" : task}`) {
  const program = process.env.GOLDCREST_PROGRAM ?? join(root, "target/release/goldcrest");
  const args = [task, join(root, SCENE), "--weights", join(root, weights), "--backend", "cpu", "--json"];
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
        const pixels = context.getImageData(0, 0, width, height);
        // A part of a buffer, as of another module's memory.
        const part = new Uint8ClampedArray(pixels.data.length + 8).subarray(4, -4);
        part.set(pixels.data);
        const sources = [scene, canvas, offscreen, image, frame, pixels, new ImageData(part, width, height)];
        const labels = [];
        for (const source of sources) labels.push((await session.classify(source, { top: 1 }))[0].label);
        frame.close();
        return labels;
      }, device);
      assert.deepEqual(labels, Array(7).fill("star"));
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

    test("computes in f32 where it has no f16", async () => {
      const label = await page.evaluate(async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device, f16: true });
        return (await session.classify(scene))[0].label;
      }, device);
      assert.equal(label, "star");
    });

    test("can be closed twice", async () => {
      const error = await refusal(page, async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device });
        const running = session.classify(scene);
        await Promise.all([session.close(), session.close()]);
        await running;
        await session.close();
        await session.classify(scene);
      }, device);
      assert.equal(error, "Error: the session is closed");
    });

    test("names the task that a network has", async () => {
      const error = await refusal(page, async (device) => {
        const session = await goldcrest.Session.create(await demo("classify"), { device });
        await session.detect(scene);
      }, device);
      assert.match(error, /^Error: the session.s network classifies pictures: use `classify`$/);
    });
  });
}

describe("a texture", () => {
  /** In the page: a session on the GPU, and a texture of its device that holds the scene. */
  const prepared = (page) =>
    page.evaluate(async () => {
      window.session ??= await goldcrest.Session.create(await demo("classify"), { device: "gpu" });
      window.texture = (change = {}, device = session.gpuDevice) =>
        device.createTexture({ size: [scene.width, scene.height], format: "rgba8unorm", usage: GPUTextureUsage.TEXTURE_BINDING, ...change });
      window.filled = (change = {}) => {
        const { TEXTURE_BINDING, COPY_DST, RENDER_ATTACHMENT } = GPUTextureUsage;
        const made = texture({ usage: TEXTURE_BINDING | COPY_DST | RENDER_ATTACHMENT, ...change });
        session.gpuDevice.queue.copyExternalImageToTexture({ source: scene }, { texture: made }, [scene.width, scene.height]);
        return made;
      };
    });

  test("gives what its picture gives, frame after frame", async () => {
    await prepared(page);
    const { bitmap, textures } = await page.evaluate(async () => {
      const made = filled();
      const textures = [];
      for (const picture of [made, made, filled({ format: "bgra8unorm" })]) textures.push(await session.classify(picture));
      return { bitmap: await session.classify(scene), textures };
    });
    for (const found of textures) {
      assert.deepEqual(found.map(({ label }) => label), bitmap.map(({ label }) => label));
      found.forEach(({ probability }, at) => close(probability, bitmap[at].probability, 1e-5, bitmap[at].label));
    }
  });

  test("of floats is linear light", async () => {
    await prepared(page);
    const found = await page.evaluate(async () => {
      const srgb = session.gpuDevice.createTexture({ size: [64, 64], format: "rgba8unorm-srgb", usage: 6 });
      const float = session.gpuDevice.createTexture({ size: [64, 64], format: "rgba32float", usage: 6 });
      const bytes = Uint8Array.from({ length: 64 * 64 * 4 }, (_, at) => (at * 37) % 256);
      const light = Float32Array.from(bytes, (byte, at) => {
        const value = byte / 255;
        return at % 4 === 3 ? value : value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
      });
      session.gpuDevice.queue.writeTexture({ texture: srgb }, bytes, { bytesPerRow: 256 }, [64, 64]);
      session.gpuDevice.queue.writeTexture({ texture: float }, light, { bytesPerRow: 1024 }, [64, 64]);
      return [await session.classify(srgb, { top: 10 }), await session.classify(float, { top: 10 })];
    });
    found[0].forEach(({ label, probability }, at) => {
      assert.equal(found[1][at].label, label);
      close(found[1][at].probability, probability, 1e-3, label);
    });
  });

  for (const [what, work, message] of [
    ["of another device", async () => {
      const other = await (await navigator.gpu.requestAdapter()).requestDevice();
      await session.classify(texture({}, other));
    }, /another device: create it on the session's device/],
    ["of a format without colours", () => session.classify(texture({ format: "rgba8uint" })), /format rgba8uint, not one of rgba8unorm, /],
    ["that cannot be sampled", () => session.classify(texture({ usage: GPUTextureUsage.COPY_DST })), /without TextureUsages::TEXTURE_BINDING/],
    ["with several samples", () => {
      const usage = GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.RENDER_ATTACHMENT;
      return session.classify(texture({ sampleCount: 4, usage }));
    }, /not two-dimensional with one sample per texel/],
    ["of three dimensions", () => session.classify(texture({ dimension: "3d", size: [8, 8, 8] })), /not two-dimensional with one sample per texel/],
    ["that is destroyed", async () => {
      const destroyed = filled();
      destroyed.destroy();
      await session.classify(destroyed);
    }, /cannot be read, perhaps because it was destroyed/],
    ["that is destroyed between two pictures", async () => {
      const destroyed = filled();
      await session.classify(destroyed);
      destroyed.destroy();
      await session.classify(destroyed);
    }, /cannot be read, perhaps because it was destroyed/],
    ["on the CPU", async () => {
      const onCpu = await goldcrest.Session.create(await demo("classify"), { device: "cpu" });
      await onCpu.classify(filled());
    }, /on the CPU, which cannot read a GPUTexture: create it with the device "gpu"/],
  ]) {
    test(`${what} is refused, and the session goes on`, async () => {
      await prepared(page);
      assert.match((await refusal(page, work)) ?? "accepted", message);
      const label = await page.evaluate(async () => (await session.classify(filled(), { top: 1 }))[0].label);
      assert.equal(label, "star");
    });
  }

  test("makes auto choose the GPU", async () => {
    await prepared(page);
    const found = await page.evaluate(async () => {
      const auto = await goldcrest.Session.create(await demo("classify"));
      const [{ label }] = await auto.classify(filled());
      return { label, device: auto.device, decided: auto.decided };
    });
    assert.deepEqual(found, { label: "star", device: "gpu", decided: true });
  });
});

describe("auto", () => {
  test("answers on the CPU at once, and chooses the faster device", async () => {
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
      const warnings = [];
      page.on("console", (message) => message.text().startsWith("goldcrest:") && warnings.push(message.text()));
      const found = await page.evaluate(async () => {
        const session = await goldcrest.Session.create(await demo("classify"));
        let label;
        do {
          label = (await session.classify(scene))[0].label;
          await new Promise((resolve) => setTimeout(resolve, 20));
        } while (!session.decided);
        return { label, device: session.device, decided: session.decided };
      });
      assert.deepEqual(found, { label: "star", device: "cpu", decided: true });
      assert.deepEqual(warnings, []);
      const error = await refusal(page, async () => goldcrest.Session.create(await demo("classify"), { device: "gpu" }));
      assert.match(error, /no graphics adapter: this browser has no WebGPU/);
    } finally {
      await without.close();
    }
  });
});

describe("a GPU", () => {
  test("reports its progress when the first picture prepares it", async () => {
    // A page of its own, which has compiled nothing yet.
    const page = await opened(browser);
    const totals = await page.evaluate(async () => {
      const totals = [];
      const progress = (compiled, total) => totals.push(total);
      const session = await goldcrest.Session.create(await demo("classify"), { device: "gpu", progress });
      await session.classify(scene);
      return totals;
    });
    assert.ok(Math.max(...totals) > 0, `totals: ${totals}`);
    await page.close();
  });

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

  test("is not disturbed by the page's own mistakes on it", async () => {
    const label = await page.evaluate(async () => {
      const session = await goldcrest.Session.create(await demo("classify"), { device: "gpu" });
      await session.classify(scene);
      const reported = new Promise((resolve) => session.gpuDevice.addEventListener("uncapturederror", resolve));
      session.gpuDevice.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
      session.gpuDevice.queue.submit([]);
      await reported;
      return (await session.classify(scene))[0].label;
    });
    assert.equal(label, "star");
  });

  // What breaks in the browser under a session with `auto` or `gpu`, before its first picture or once it has chosen
  // the GPU.
  const FAULTS = {
    "without a device": () => (GPUAdapter.prototype.requestDevice = async () => Promise.reject(new DOMException("too busy", "OperationError"))),
    "without memory": () => (GPUDevice.prototype.popErrorScope = async () => new GPUOutOfMemoryError("too large")),
    "whose memory cannot be mapped": () => {
      const create = GPUDevice.prototype.createBuffer;
      GPUDevice.prototype.createBuffer = function (descriptor) {
        if (descriptor.mappedAtCreation) throw new RangeError("allocation failed");
        return create.call(this, descriptor);
      };
    },
    "whose kernels do not compile": () => {
      const create = GPUDevice.prototype.createShaderModule;
      GPUDevice.prototype.createShaderModule = function () {
        return create.call(this, { code: "not WGSL" });
      };
    },
    "whose driver fails": () => (GPUDevice.prototype.popErrorScope = async () => new GPUInternalError("driver failed")),
    "that is lost each time": () => {
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (descriptor) {
        const device = await request.call(this, descriptor);
        device.destroy();
        return device;
      };
    },
  };
  for (const [what, fault] of Object.entries(FAULTS)) {
    test(`${what} leaves auto on the CPU, which it says once`, async () => {
      const page = await opened(browser);
      const warnings = [];
      page.on("console", (message) => message.text().startsWith("goldcrest:") && warnings.push(message.text()));
      await page.evaluate((fault) => eval(`(${fault})`)(), fault.toString());
      const { labels, device, decided } = await page.evaluate(async () => {
        const session = await goldcrest.Session.create(await demo("classify"));
        const labels = [];
        while (!session.decided || session.device === "gpu" || labels.length < 10) {
          labels.push((await session.classify(scene, { top: 1 }))[0].label);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
        return { labels: [...new Set(labels)], device: session.device, decided: session.decided };
      });
      assert.deepEqual({ labels, device, decided }, { labels: ["star"], device: "cpu", decided: true });
      assert.equal(warnings.length, 1, warnings.join("\n"));
      assert.match(warnings[0], /^goldcrest: continuing on the CPU: .*\w/);
      const error = await refusal(page, async () => {
        const session = await goldcrest.Session.create(await demo("classify"), { device: "gpu" });
        await session.classify(scene);
      });
      assert.match(error ?? "accepted", /^Device(Lost)?Error: /);
      await page.close();
    });
  }

  test("that fails later leaves auto on the CPU", async () => {
    const page = await opened(browser);
    const found = await page.evaluate(async () => {
      // The GPU is chosen for a texture.
      const session = await goldcrest.Session.create(await demo("classify"));
      const gpu = await goldcrest.Session.create(await demo("classify"), { device: "gpu" });
      const texture = gpu.gpuDevice.createTexture({ size: [64, 64], format: "rgba8unorm", usage: GPUTextureUsage.TEXTURE_BINDING });
      await session.classify(texture);
      const devices = [session.device];
      const { gpuDevice } = session;
      const pop = gpuDevice.popErrorScope;
      gpuDevice.popErrorScope = async () => {
        await pop();
        return new GPUOutOfMemoryError("too large");
      };
      const labels = [];
      for (let run = 0; run < 3; run++) {
        labels.push((await session.classify(scene, { top: 1 }))[0].label);
        devices.push(session.device);
      }
      return { labels, devices };
    });
    assert.deepEqual(found, { labels: Array(3).fill("star"), devices: ["gpu", "cpu", "cpu", "cpu"] });
    await page.close();
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

  test("of PyTorch load their reader, and give what the program gives", async () => {
    const path = "tests/fixtures/checkpoints/zip/resnet18.pth";
    const from = server.requests.length;
    await page.evaluate(() => demo("classify"));
    const reader = () => server.requests.slice(from).some(({ path }) => path.endsWith("torch_bg.wasm"));
    assert.ok(!reader(), "loaded without need");
    const found = await page.evaluate(async (path) => {
      const session = await goldcrest.Session.create(await goldcrest.load(`/${path}`), { device: "cpu" });
      return session.classify(scene);
    }, path);
    assert.ok(reader());
    for (const expected of native("classify", path).classes) {
      close(found.find(({ index }) => index === expected.index).probability, expected.probability, 2e-3, expected.index);
    }
  });

  test("with an object's URL are loaded", async () => {
    const labels = await page.evaluate(async () => {
      const weights = URL.createObjectURL(await (await fetch("/assets/demo/classify/model.safetensors")).blob());
      return (await goldcrest.load(weights, { config: "/assets/demo/classify/config.json" })).labels;
    });
    assert.ok(labels.includes("star"), `${labels}`);
  });

  // A network that needs no config.json, and has none.
  const alone = (page) =>
    refusal(page, async () => {
      await goldcrest.load("/tests/fixtures/checkpoints/zip/resnet18.pth");
    });

  test("have no config.json only if the server says so", async () => {
    const page = await opened(browser);
    let status;
    await page.route("**/config.json", (route) => route.fulfill({ status, contentType: "text/plain", body: "no" }));
    for (status of [403, 404, 410]) assert.equal(await alone(page), undefined);
    for (status of [429, 500, 503]) {
      assert.match((await alone(page)) ?? "accepted", new RegExp(`/zip/config\\.json: ${status}`));
    }
    await page.close();
  });

  test("are loaded off line, with the same config.json or without", async () => {
    const page = await opened(browser);
    const labels = () => page.evaluate(async () => (await demo("classify")).labels);
    const online = await labels();
    assert.equal(await alone(page), undefined);
    await page.context().setOffline(true);
    assert.deepEqual(await labels(), online);
    assert.equal(await alone(page), undefined);
    // What is not kept is named.
    const error = await refusal(page, () => demo("detect"));
    assert.match(error ?? "accepted", /\/detect\/(model\.safetensors|config\.json): /);
    await page.close();
  });

  for (const [what, work, message] of [
    ["missing", () => goldcrest.load("/missing.safetensors"), /missing\.safetensors: 404/],
    ["of another kind", () => goldcrest.load(new Blob(["hello"])), /weights: .*safetensors/i],
    ["that are empty", () => goldcrest.load(new Blob([])), /weights: is empty/],
    ["of PyTorch that are cut off", async () => {
      const whole = await (await fetch("/tests/fixtures/checkpoints/zip/resnet18.pth")).blob();
      await goldcrest.load(whole.slice(0, whole.size / 2));
    }, /weights: .*zip/],
    ["cut off", async () => {
      const whole = await (await fetch("/assets/demo/classify/model.safetensors")).blob();
      await goldcrest.load(whole.slice(0, 100_000));
    }, /weights: /],
    ["of an unknown network", () => goldcrest.load("/assets/demo/classify/model.safetensors", { arch: "vgg16" }), /vgg16/],
    ["with a config that is not JSON", async () => {
      const whole = await (await fetch("/assets/demo/classify/model.safetensors")).blob();
      await goldcrest.load(whole, { config: "{" });
    }, /config\.json/],
    ["with a config that is a page", async () => {
      const whole = await (await fetch("/assets/demo/classify/model.safetensors")).blob();
      await goldcrest.load(whole, { config: "/" });
    }, /is an HTML page/],
    ["of another kind, in a URL", () => goldcrest.load("data:,hello"), /weights: .*safetensors/i],
  ]) {
    test(`${what} are refused`, async () => {
      assert.match((await refusal(page, work)) ?? "accepted", message);
    });
  }
});

test("networks are measured for 0 to 60 seconds only", async () => {
  for (const seconds of [Number.NaN, -1, 61]) {
    const error = await refusal(page, async (seconds) => {
      const [device] = await goldcrest.devices();
      await device.network("mobilenet_v2", { macs: 1, bytes: 1, launch: 0 }, seconds);
    }, seconds);
    assert.equal(error, `Error: seconds: expected 0 to 60, found ${seconds}`);
  }
});

test("the first answer on the CPU takes less than 0.4 s from the loaded module", async () => {
  const times = [];
  for (let visit = 0; visit < 3; visit++) {
    const page = await opened(browser);
    times.push(
      await page.evaluate(async () => {
        await goldcrest.start();
        const begun = performance.now();
        const session = await goldcrest.Session.create(await demo("classify"), { device: "cpu" });
        await session.classify(scene);
        return performance.now() - begun;
      }),
    );
    await page.close();
  }
  console.log(`first answer after ${times.map(Math.round).join(", ")} ms`);
  assert.ok(Math.min(...times) < 400, `${times} ms`);
});

test("the published types are complete: tsc --strict on a program that uses everything", () => {
  const tsc = join(root, "bindings/web/node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "--project", join(root, "bindings/web/test/consumer")], { stdio: "inherit" });
});
