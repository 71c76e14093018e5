// The study in the page: measured, stopped, saved, and compared by the program.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { launch } from "./chromium.mjs";
import { root, serve } from "./serve.mjs";

const folder = mkdtempSync(join(tmpdir(), "goldcrest-"));
const screenshots = process.env.SCREENSHOTS ?? folder;
const program = process.env.GOLDCREST_PROGRAM ?? join(root, "target/release/goldcrest");
let server, browser;

before(async () => {
  server = await serve(join(root, "bindings/web/site/dist"));
  browser = await launch();
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** The page with these experiments and this device chosen, and the errors in its console. */
async function visit(experiments, devices, options = {}) {
  const page = await browser.newPage(options);
  const errors = [];
  page.on("pageerror", (e) => errors.push(e.message));
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  await page.goto(`${server.url}index.html`);
  for (const box of await page.$$("[name=experiment]")) await box.setChecked(experiments.includes(await box.getAttribute("value")));
  await page.selectOption("#measured-devices", devices);
  return { page, errors };
}

const status = (page) => page.textContent("#measuring");
const says = (page, pattern) =>
  page.waitForFunction((source) => new RegExp(source).test(document.getElementById("measuring").textContent), pattern.source, { timeout: 240_000 });

/** The file that a button saves. */
async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

test("measures single layers on the CPU by keyboard, and the program compares the result", async () => {
  const { page, errors } = await visit(["E1"], "cpu", { viewport: { width: 1200, height: 900 } });
  assert.ok(!server.requests.some(({ path }) => /study/.test(path)), "the study is loaded before it is wanted");
  // The longest time in which the page did nothing else, until the first report.
  await page.evaluate(() => {
    let last = performance.now();
    window.longest = 0;
    const timer = setInterval(() => {
      const now = performance.now();
      window.longest = Math.max(window.longest, now - last);
      last = now;
      if (!document.getElementById("report").hidden) clearInterval(timer);
    }, 10);
  });
  await page.focus("#measure");
  await page.keyboard.press("Enter");
  assert.ok(await page.isDisabled("#measure"));
  await page.waitForFunction(() => / of 1: standard .* on the CPU/.test(document.querySelector("#progress span").textContent), undefined, { timeout: 120_000 });
  await says(page, /^Done/);
  assert.ok((await page.evaluate(() => window.longest)) < 500, "the page was blocked");
  assert.ok(await page.isEnabled("#measure"));

  const report = page.frameLocator("#report");
  assert.match(await report.locator(".lead").innerText(), /In single layers, .* on the CPU/);
  assert.match(await report.locator("#E1 .verdict").innerText(), /the CPU reaches \d+\s% of the speed-up/);
  assert.equal(await report.locator("svg.wide:visible").count(), 2, "the answer's figure and E1's");
  assert.match(await report.locator("table.facts").textContent(), /Clock\s*steps of 0\.\d+ ms.*Browser\s*Mozilla/s);
  assert.equal(await report.locator("section").count(), 2, "E1 and the notes");
  // The report does not scroll by itself.
  await page.waitForFunction(() => {
    const frame = document.getElementById("report");
    return frame.clientHeight >= frame.contentDocument.documentElement.offsetHeight;
  });
  await page.screenshot({ path: join(screenshots, "study-light.png"), fullPage: true });

  const opened = await browser.newPage();
  await opened.goto(pathToFileURL(await saved(page, "#save-page")).href);
  assert.equal(await opened.locator("svg.wide:visible").count(), 2);
  assert.match(await opened.textContent("#E1 .verdict"), /speed-up/);
  await opened.close();

  const data = await saved(page, "#save-data");
  const native = join(folder, "native.html");
  const study = (...options) => execFileSync(program, ["study", ...options], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  study("--quick", "--only", "E1", "--threads", "1", "--out", native);
  const both = join(folder, "both.html");
  const words = study("--compare", data, native.replace(".html", ".json"), "--out", both);
  assert.match(words, /E1: The paper's claim /);
  assert.match(readFileSync(both, "utf8"), /goldcrest-study: CPU[^]*native: CPU/);
  assert.deepEqual(errors, []);
  await page.close();
});

test("keeps the results so far when it is stopped", async () => {
  const { page, errors } = await visit(["E1", "E2", "E4"], "cpu");
  await page.click("#measure");
  await says(page, /An experiment is finished/);
  await page.focus("#stop");
  await page.keyboard.press("Enter");
  await says(page, /^Stopped\. The results so far/);
  const report = page.frameLocator("#report");
  assert.match(await report.locator(".lead").innerText(), /Interrupted: \d of 3 experiments/);
  assert.equal(await report.locator("#E4").count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), "measure", "the focus is lost with the button");
  assert.ok(await page.isVisible("#save-data"));
  assert.deepEqual(errors, []);
  await page.close();
});

test("begins on the GPU, and is stopped at once", async () => {
  // A software adapter: it takes minutes.
  const { page, errors } = await visit(["E1"], "gpu");
  await page.click("#measure");
  await page.waitForFunction(() => /GPU/.test(document.querySelector("#progress span").textContent), undefined, { timeout: 120_000 });
  await page.click("#stop");
  if (!/^Stopped/.test(await status(page))) await page.click("#stop");
  await says(page, /^Stopped/);
  assert.ok(await page.isEnabled("#measure"));
  assert.deepEqual(errors, []);
  await page.close();
});

test("says what is missing", async () => {
  const { page } = await visit([], "cpu");
  await page.click("#measure");
  assert.match(await status(page), /Choose at least one experiment/);
  await page.close();
  const without = await launch({ gpu: false });
  const other = await without.newPage();
  await other.goto(`${server.url}index.html`);
  await other.selectOption("#measured-devices", "gpu");
  await other.click("#measure");
  await says(other, /WebGPU|adapter/);
  assert.ok(await other.isEnabled("#measure"));
  await without.close();
});

for (const [name, options] of [
  ["dark", { viewport: { width: 1200, height: 900 }, colorScheme: "dark" }],
  ["phone", { viewport: { width: 390, height: 844 }, colorScheme: "light", hasTouch: true }],
]) {
  test(`shows a report on a ${name} screen`, async () => {
    const { page, errors } = await visit(["E2"], "cpu", options);
    await page.click("#measure");
    await says(page, /^Done/);
    const report = page.frameLocator("#report");
    const [shown, hidden] = name === "phone" ? ["narrow", "wide"] : ["wide", "narrow"];
    assert.equal(await report.locator(`svg.${shown}:visible`).count(), 2);
    assert.equal(await report.locator(`svg.${hidden}:visible`).count(), 0);
    assert.ok(!(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)), "the page scrolls sideways");
    assert.ok(await page.evaluate(() => {
      const { documentElement: root } = document.getElementById("report").contentDocument;
      return root.scrollWidth <= root.clientWidth;
    }), "the report scrolls sideways");
    await page.screenshot({ path: join(screenshots, `study-${name}.png`), fullPage: true });
    assert.deepEqual(errors, []);
    await page.close();
  });
}
