// Measures the visitor's device, and shows where a network's time goes.
import { devices as browserDevices, type NetworkTiming, type Peaks } from "../../dist/index.js";
import { text } from "./draw.js";

const NETWORKS = ["mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"];

interface Report {
  date: string;
  browser: string;
  devices: { name: string; backend: string; peaks: Peaks; networks: NetworkTiming[] }[];
}

/** Connects the section's buttons. */
export function measurements(run: HTMLButtonElement, save: HTMLButtonElement, status: HTMLElement, place: HTMLElement): void {
  let report: Report | undefined;
  run.addEventListener("click", async () => {
    run.disabled = true;
    place.replaceChildren();
    report = { date: new Date().toISOString(), browser: navigator.userAgent, devices: [] };
    try {
      for (const device of await browserDevices()) {
        status.textContent = `Measuring the peak rates of ${device.name}.`;
        const peaks = await device.peaks();
        const of = { name: device.name, backend: device.backend, peaks, networks: [] as NetworkTiming[] };
        report.devices.push(of);
        for (const network of NETWORKS) {
          status.textContent = `Measuring ${network} on ${device.name}.`;
          of.networks.push(await device.network(network, peaks, 1));
          place.replaceChildren(...report.devices.map(shown));
        }
      }
      status.textContent = verdict(report);
      save.hidden = false;
    } catch (e) {
      status.textContent = `${e instanceof Error ? e.message : e}`;
    } finally {
      run.disabled = false;
    }
  });
  save.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([JSON.stringify(report, null, 1)], { type: "application/json" }));
    Object.assign(document.createElement("a"), { href: url, download: "goldcrest.json" }).click();
    URL.revokeObjectURL(url);
  });
}

/** The share of its peak that each device reaches in the separable layers, in a sentence. */
function verdict({ devices }: Report): string {
  const of = (name: RegExp, device: Report["devices"][number]) => {
    const steps = device.networks.flatMap(({ steps }) => steps).filter(({ kernel, ms }) => name.test(kernel) && ms);
    const [macs, ms] = steps.reduce(([macs, ms], step) => [macs + step.macs, ms + step.ms!], [0, 0]);
    return ms ? (100 * macs) / (ms / 1e3) / device.peaks.macs : undefined;
  };
  const sentences = devices.map((device) => {
    const [depthwise, pointwise] = [of(/depthwise/, device), of(/pointwise/, device)];
    if (depthwise === undefined || pointwise === undefined) {
      return `${device.name}: the browser does not time the steps of this device, or they are fused.`;
    }
    return `${device.name}: depthwise layers reach ${depthwise.toFixed(0)} % of the peak rate, pointwise layers ${pointwise.toFixed(0)} %.`;
  });
  return sentences.join(" ");
}

/** A device's tables. */
function shown({ name, peaks, networks }: Report["devices"][number]): HTMLElement {
  const section = document.createElement("div");
  section.className = "scroll";
  const [macs, bytes, launch] = [peaks.macs / 1e9, peaks.bytes / 1e9, 1e6 * peaks.launch].map((rate) => Number(rate.toPrecision(3)));
  const rates = `${macs} G multiply-adds/s, ${bytes} GB/s, ${launch} µs per launch`;
  const rows = networks.map(({ network, wall_ms, gpu_ms, macs, utilisation }) => [
    network,
    (macs / 1e6).toFixed(0),
    wall_ms.median.toFixed(2),
    gpu_ms ? gpu_ms.median.toFixed(2) : "",
    utilisation === null ? "" : `${(100 * utilisation).toFixed(0)} %`,
  ]);
  section.append(table(`${name}: ${rates}`, ["network", "M multiply-adds", "ms", "GPU ms", "of peak"], rows));
  for (const network of networks) section.append(layers(network));
  return section;
}

/** A network's steps. */
function layers({ network, steps }: NetworkTiming): HTMLElement {
  const details = document.createElement("details");
  const most = Math.max(...steps.map(({ ms }) => ms ?? 0));
  const rows = steps.map(({ name, kernel, macs, ms, bound }) => [name, kernel, (macs / 1e6).toFixed(2), ms?.toFixed(3) ?? "", bound ?? ""]);
  const element = table("", ["step", "kernel", "M multiply-adds", "ms", "bound by"], rows);
  element.querySelectorAll("tbody tr").forEach((row, at) => {
    const bar = text("span", "");
    bar.className = "bar";
    bar.style.width = `${(8 * (steps[at]!.ms ?? 0)) / (most || 1)}rem`;
    const cell = document.createElement("td");
    cell.append(bar);
    row.append(cell);
  });
  element.querySelector("thead tr")!.append(text("th", ""));
  details.append(text("summary", `${network}, layer by layer`), element);
  return details;
}

function table(caption: string, head: string[], rows: string[][]): HTMLTableElement {
  const element = document.createElement("table");
  if (caption) element.append(text("caption", caption));
  const line = (name: string, cells: string[]) => {
    const row = document.createElement("tr");
    row.append(...cells.map((cell) => text(name, cell)));
    return row;
  };
  element.createTHead().append(line("th", head));
  element.createTBody().append(...rows.map((row) => line("td", row)));
  return element;
}
