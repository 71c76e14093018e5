// Results, drawn over the picture and listed beside it.
import { palette, type Class, type Detection, type Segmentation } from "../../dist/index.js";

/** The colour of a class: the same for its mask, its boxes and its entry in the list. */
const css = (index: number) => `rgb(${colour(index).join(" ")})`;
const colour = (index: number) => palette()[index < 256 ? index : 1 + (index % 255)]!;

/** A line of the list of results. */
export interface Line {
  index?: number;
  label: string;
  value: string;
}

/** The name of a class. */
const named = (of: { index: number; label: string | null }) => of.label ?? `class ${of.index}`;

/** Lists the classes of a picture. */
export function classes(found: Class[]): Line[] {
  return found.map((of) => ({
    label: named(of),
    value: of.probability === null ? of.value.toFixed(3) : `${(100 * of.probability).toFixed(1)} %`,
  }));
}

let overlay: OffscreenCanvas | undefined;

/** Draws the classes of all pixels except those of class 0, the background, and lists them. */
export function mask(context: CanvasRenderingContext2D, { width, height, labels, classes }: Segmentation): Line[] {
  const image = new ImageData(width, height);
  for (let at = 0; at < labels.length; at++) {
    const label = labels[at]!;
    if (label === 0) continue;
    const [red, green, blue] = colour(label);
    // Opaque along edges.
    const edge = labels[at - 1] !== label || labels[at + 1] !== label || labels[at - width] !== label || labels[at + width] !== label;
    image.data.set([red, green, blue, edge ? 255 : 150], 4 * at);
  }
  overlay ??= new OffscreenCanvas(width, height);
  Object.assign(overlay, { width, height });
  overlay.getContext("2d")!.putImageData(image, 0, 0);
  // First the colour without the brightness, so that masks have the hues of the list on any picture.
  for (const mode of ["color", "source-over"] as const) {
    context.globalCompositeOperation = mode;
    context.drawImage(overlay, 0, 0, context.canvas.width, context.canvas.height);
  }
  const shown = classes.filter(({ index, share }) => index !== 0 && share >= 5e-4);
  return shown.map((of) => ({ index: of.index, label: named(of), value: `${(100 * of.share).toFixed(1)} %` }));
}

/** Draws boxes with their names, and lists them. */
export function boxes(context: CanvasRenderingContext2D, found: Detection[]): Line[] {
  const unit = Math.max(1, context.canvas.width / 400);
  context.font = `${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const of of found) {
    const { left, top, right, bottom } = of.bounds;
    // A dark outline makes boxes visible on light backgrounds.
    for (const [style, width] of [["#000", 4], [css(of.index), 2]] as const) {
      context.strokeStyle = style;
      context.lineWidth = width * unit;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    const text = `${named(of)} ${(100 * of.score).toFixed(0)} %`;
    const height = 18 * unit;
    const y = top >= height ? top - height : Math.min(bottom, context.canvas.height - height);
    context.fillStyle = css(of.index);
    context.fillRect(left - unit, y, context.measureText(text).width + 8 * unit, height);
    context.fillStyle = "#000";
    context.fillText(text, left + 3 * unit, y + 3 * unit);
  }
  return found.map((of) => ({ index: of.index, label: named(of), value: `${(100 * of.score).toFixed(0)} %` }));
}

/** Shows the list of results. */
export function list(element: HTMLElement, lines: Line[]): void {
  element.replaceChildren(
    ...lines.map(({ index, label, value }) => {
      const line = document.createElement("li");
      const swatch = document.createElement("span");
      if (index !== undefined) {
        swatch.className = "swatch";
        swatch.style.background = css(index);
      }
      line.append(swatch, text("span", label), text("span", value));
      return line;
    }),
  );
}

/** An element with a text. */
function text(name: string, content: string): HTMLElement {
  return Object.assign(document.createElement(name), { textContent: content });
}
