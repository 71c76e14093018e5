/** Sources of pictures. */

/** What sessions take as a picture. A GPU reads all of them without a copy in the page's memory. */
export type Picture =
  | ImageData
  | ImageBitmap
  | HTMLImageElement
  | HTMLVideoElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | VideoFrame;

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
export function pixelsOf(picture: Picture, [width, height]: [number, number]): ImageData {
  if (picture instanceof ImageData) return picture;
  canvas ??= new OffscreenCanvas(width, height);
  // Setting a size clears the canvas, also to the same size.
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("this browser has no canvas to read pixels with");
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
