/** Sources of pictures. */

/**
 * What sessions take as a picture. A GPU reads all of them without a copy in the page's memory.
 *
 * A `GPUTexture` is one of {@link Session.gpuDevice} with the usage `TEXTURE_BINDING`, and needs a session on the
 * GPU: it is read in place. Its format holds colours or luminance; `*-srgb` and float formats are linear light.
 * A canvas's current texture expires before it is read: pass the canvas.
 */
export type Picture =
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | VideoFrame
  | GPUTexture;

/** Whether a picture is a texture. Browsers without WebGPU do not have the class. */
export function isTexture(picture: Picture): picture is GPUTexture {
  return typeof GPUTexture !== "undefined" && picture instanceof GPUTexture;
}

/** The width and height of a picture, in pixels. */
export function sizeOf(picture: Picture): [number, number] {
  const size: [number, number] =
    "videoWidth" in picture
      ? [picture.videoWidth, picture.videoHeight]
      : "naturalWidth" in picture
        ? [picture.naturalWidth, picture.naturalHeight]
        : "displayWidth" in picture
          ? [picture.displayWidth, picture.displayHeight]
          : [picture.width, picture.height];
  if (!size[0] || !size[1]) throw new Error("the picture has no pixels yet: wait until it has loaded");
  return size;
}

let canvas: OffscreenCanvas | undefined;

/** The pixels of a picture. */
export function pixelsOf(picture: Exclude<Picture, GPUTexture>, [width, height]: [number, number]): ImageData {
  if (picture instanceof ImageData) return picture;
  canvas ??= new OffscreenCanvas(width, height);
  // Setting a size clears the canvas, also to the same size.
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no canvas to read pixels with");
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
