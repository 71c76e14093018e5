// A program in TypeScript that uses everything the package exports: `tsc --strict` checks the published types.
import {
  devices,
  load,
  MeasuredDevice,
  Network,
  palette,
  Session,
  start,
  type Class,
  type Colour,
  type Detection,
  type LoadOptions,
  type NetworkTiming,
  type Peaks,
  type Picture,
  type Segmentation,
  type SessionOptions,
  type Spread,
  type StepTiming,
  type Task,
} from "goldcrest";

const loading: LoadOptions = {
  arch: "torchvision/mobilenet_v2",
  config: null,
  preprocessor: new URL("https://host/preprocessor_config.json"),
  progress: (received: number, total: number | undefined) => console.log(received / (total ?? received)),
};
const options: SessionOptions = {
  device: "auto",
  embedding: false,
  f16: true,
  progress: (compiled: number, total: number) => console.log(compiled, total),
};

export async function everything(file: File, view: OffscreenCanvas, video: HTMLVideoElement): Promise<void> {
  await start();
  const network: Network = await load("/weights.safetensors", loading);
  const others: Network[] = [await load(new URL("https://host/a.pth")), await load(file), await load(new Uint8Array(8)), await load(new ArrayBuffer(8))];
  const names: string[] = [network.arch, ...network.labels];
  const task: Task = network.task;
  const session: Session = await Session.create(network, options);
  await session.prepare(640, 480);
  const device: "gpu" | "cpu" = session.device;
  const state: [string, boolean, string] = [session.deviceName, session.decided, session.task];
  const texture: GPUTexture | undefined = session.gpuDevice?.createTexture({ size: [64, 64], format: "rgba8unorm", usage: 4 });
  const pictures: Picture[] = [new ImageData(8, 8), await createImageBitmap(file), new Image(), video, document.createElement("canvas"), view, new VideoFrame(video)];
  if (texture) pictures.push(texture);
  for (const picture of pictures) {
    const classes: Class[] = await session.classify(picture, { top: 3 });
    const best: [number, string | null, number | null, number] = [classes[0]!.index, classes[0]!.label, classes[0]!.probability, classes[0]!.value];
    const found: Segmentation = await session.segment(picture);
    const labels: Uint8Array = found.labels;
    const shares: number[] = found.classes.map(({ share }) => share * found.width * found.height);
    const objects: Detection[] = await session.detect(picture, { score: 0.25 });
    const edges: number[] = objects.flatMap(({ bounds: { left, top, right, bottom }, score }) => [left, top, right, bottom, score]);
    const vector: Float32Array = await session.embed(picture);
    console.log(best, labels, shares, edges, vector);
  }
  const [red, green, blue]: Colour = palette()[1]!;
  console.log(`rgb(${red} ${green} ${blue})`);
  await session.close();
  network.free();
  for (const measured of await devices()) {
    const one: MeasuredDevice = measured;
    const backend: "gpu" | "cpu" = one.backend;
    const peaks: Peaks = await one.peaks();
    const timing: NetworkTiming = await one.network("mobilenet_v2", peaks, 2);
    const spread: Spread = timing.gpu_ms ?? timing.wall_ms;
    const steps: StepTiming[] = timing.steps;
    console.log(one.name, backend, peaks.macs, peaks.bytes, peaks.launch, spread.median, steps[0]?.bound);
  }
  // @ts-expect-error: there is no such device.
  await Session.create(network, { device: "npu" });
  // @ts-expect-error: a URL is no picture.
  await session.classify("photo.jpg");
  console.log(names, task, others, device, state);
}
