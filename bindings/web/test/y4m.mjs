// A film for the fake camera: a bright square that moves over a dark ground.

/** The bytes of a film of this size with so many pictures. */
export function y4m(width, height, count) {
  const parts = [Buffer.from(`YUV4MPEG2 W${width} H${height} F30:1 Ip A1:1 C420mpeg2\n`)];
  for (let at = 0; at < count; at++) {
    const luma = Buffer.alloc(width * height, 60);
    for (let y = 80; y < 160; y++) luma.fill(200, y * width + 40 + 4 * at, y * width + 120 + 4 * at);
    parts.push(Buffer.from("FRAME\n"), luma, Buffer.alloc((width * height) / 2, 128));
  }
  return Buffer.concat(parts);
}
