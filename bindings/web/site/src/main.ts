// The page: a picture or the camera, a network, and its results.
import { load, Session, type Network, type Picture } from "../../dist/index.js";
import { boxes, classes, list, mask, type Line } from "./draw.js";
import { measurements } from "./measure.js";
import { builtIn, scene, type Task } from "./networks.js";

const element = <E extends HTMLElement>(id: string) => document.getElementById(id) as E;
const view = element<HTMLCanvasElement>("view");
const video = element<HTMLVideoElement>("video");
const stage = element("stage");
const camera = element<HTMLButtonElement>("camera");
const context = view.getContext("2d")!;

type DeviceChoice = "auto" | "gpu" | "cpu";

/** What is shown: a network, as a session once it is ready, and a picture. */
let session: Session | undefined;
let own: Network | undefined;
let picture: Picture | undefined;
let stream: MediaStream | undefined;
/** Counts what the visitor asked for, so that answers to an earlier question are dropped. */
let question = 0;

const say = (text: string) => {
  if (element("status").textContent !== text) element("status").textContent = text;
};
const complain = (e: unknown) => say(`${e instanceof Error ? e.message : e}`);

/** Opens the chosen network on the chosen device, and shows its answer. */
async function open(): Promise<void> {
  const asked = ++question;
  const device = element<HTMLSelectElement>("device").value as DeviceChoice;
  const task = (document.querySelector("input[name=task]:checked") as HTMLInputElement | null)?.value as Task | undefined;
  const previous = session;
  session = undefined;
  try {
    const received = (count: number, total?: number) =>
      say(`Loading the network: ${total ? `${Math.round((100 * count) / total)} %` : `${(count / 1e6).toFixed(1)} MB`}.`);
    const network = own ?? (await builtIn(task ?? "segment", received));
    const opened = await Session.create(network, {
      device,
      progress: (done, of) => device === "gpu" && say(`Preparing the GPU: ${done} of ${of} kernels.`),
    });
    if (asked !== question) return void opened.close();
    session = opened;
    await answer();
    if (device === "auto") void decide(opened);
  } catch (e) {
    if (asked === question) complain(e);
  } finally {
    void previous?.close();
  }
}

/** Repeats a still picture until the session has chosen its device. */
async function decide(of: Session): Promise<void> {
  while (of === session && !of.decided && !stream) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (of === session && !stream) await answer();
  }
}

/** Runs the session on the picture, and shows the results. Returns whether it did. */
async function answer(): Promise<boolean> {
  if (!session || !picture) return false;
  const [asked, shown, source] = [question, session, picture];
  const begun = performance.now();
  let draw: () => Line[];
  try {
    switch (shown.task) {
      case "segment": {
        const found = await shown.segment(source);
        draw = () => mask(context, found);
        break;
      }
      case "detect": {
        const found = await shown.detect(source);
        draw = () => boxes(context, found);
        break;
      }
      default: {
        const found = await shown.classify(source);
        draw = () => classes(found);
      }
    }
  } catch (e) {
    if (asked === question) complain(e);
    return false;
  }
  if (asked !== question || source !== picture) return false;
  const ms = performance.now() - begun;
  paint(source);
  list(element("results"), draw());
  const rate = stream ? `, ${frames(ms)} pictures per second` : "";
  const pending = shown.decided ? "" : " Still comparing CPU and GPU.";
  say(`${shown.device === "gpu" ? "GPU" : "CPU"}: ${ms.toFixed(ms < 10 ? 1 : 0)} ms${rate}.${pending}`);
  return true;
}

/** The pictures per second, smoothed. */
let smooth = 0;
const frames = (ms: number) => (1e3 / (smooth = smooth ? 0.9 * smooth + 0.1 * ms : ms)).toFixed(0);

/** Draws the picture alone. */
function paint(source: Picture): void {
  const [width, height] = source instanceof HTMLVideoElement ? [source.videoWidth, source.videoHeight] : [view.width, view.height];
  if (view.width !== width || view.height !== height) Object.assign(view, { width, height });
  context.drawImage(source as CanvasImageSource, 0, 0, width, height);
}

async function show(blob: Blob): Promise<void> {
  const bitmap = await createImageBitmap(blob);
  stop();
  picture = bitmap;
  Object.assign(view, { width: bitmap.width, height: bitmap.height });
  paint(bitmap);
  await answer();
}

/** Counts the files that the visitor gave, so that a newer one's message is not replaced. */
let given = 0;

/** Opens files that the visitor chose or dropped. */
async function take(files: Iterable<File>): Promise<void> {
  const mine = ++given;
  try {
    const all = [...files];
    const weights = all.find(({ name }) => /\.(safetensors|pth|pt|bin|ckpt)$/.test(name));
    const config = all.find(({ name }) => name.endsWith(".json"));
    if (weights) {
      say(`Opening ${weights.name}.`);
      const network = await load(weights, { config: config ? await config.text() : null });
      if (mine !== given) return;
      own = network;
      document.querySelectorAll<HTMLInputElement>("input[name=task]").forEach((input) => (input.checked = false));
      return await open();
    }
    const image = all.find(({ type }) => type.startsWith("image/"));
    if (!image) throw new Error("This is neither a picture nor a file of weights.");
    await show(image);
  } catch (e) {
    if (mine === given) complain(e instanceof DOMException ? "This picture cannot be decoded." : e);
  }
}

/** Ends the camera. */
function stop(): void {
  stream?.getTracks().forEach((track) => track.stop());
  stream = undefined;
  camera.textContent = "Use the camera";
}

/** Follows the camera until it ends. */
async function follow(): Promise<void> {
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 } } });
  } catch (e) {
    return say(`The camera could not be opened: ${(e as Error).message}.`);
  }
  camera.textContent = "Stop the camera";
  const mine = stream;
  video.srcObject = mine;
  await video.play();
  picture = video;
  smooth = 0;
  while (stream === mine) {
    if (!(await answer())) await new Promise((resolve) => setTimeout(resolve, 100));
    await new Promise(requestAnimationFrame);
  }
}

camera.addEventListener("click", () => {
  if (!stream) return void follow();
  stop();
  void start();
});
element("tasks").addEventListener("change", () => {
  own = undefined;
  void open();
});
element("device").addEventListener("change", () => void open());
element<HTMLInputElement>("file").addEventListener("change", (event) => void take((event.target as HTMLInputElement).files ?? []));
for (const kind of ["dragover", "dragleave", "drop"] as const) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop") void take(event.dataTransfer?.files ?? []);
  });
}

/** Shows the built-in scene. */
async function start(): Promise<void> {
  await show(await (await fetch(scene)).blob());
}

measurements();
await Promise.all([start(), open()]);
// Works off line from the second visit on.
if (import.meta.env.PROD) void navigator.serviceWorker?.register("./worker.js");
