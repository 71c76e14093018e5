"""Makes tests/fixtures/formats: small pictures in every supported format, and Pillow's decoding of each.

    pip install pillow numpy scikit-image tifffile; apt install libjpeg-turbo-progs
    python scripts/make_picture_fixtures.py

Next to each file `NAME` is `NAME.png`: the result of Pillow's `convert("RGB")`, rotated by
`ImageOps.exif_transpose`; all frames or pages, one below the other. In three cases the expected picture is not
Pillow's, but is computed here:

- 16-bit grey keeps the high eight bits; Pillow clips.
- TIFFs with 16 bits per sample keep the high eight bits; Pillow does not read all of them.
- PNM samples are scaled to 255 and rounded.
"""

import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps, ImageSequence
from skimage import data

OUT = Path(__file__).parent.parent / "tests" / "fixtures" / "formats"
W, H = 37, 29

photo = Image.fromarray(data.astronaut()).resize((96, 96), Image.LANCZOS).crop((30, 8, 30 + W, 8 + H))
pixels = np.asarray(photo)
grey = photo.convert("L")
alpha = photo.copy()
alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))))
deep = (pixels.astype(np.uint16) << 8) | np.arange(W * H * 3, dtype=np.uint16).reshape(H, W, 3) * 37 % 256


def expect(name, frames=None):
    """Writes the expected picture of a file: `frames`, or Pillow's decoding."""
    if frames is None:
        with Image.open(OUT / name) as file:
            frames = []
            for frame in ImageSequence.Iterator(file):
                frames.append(np.asarray(ImageOps.exif_transpose(frame).convert("RGB")))
    Image.fromarray(np.concatenate(frames)).save(OUT / f"{name}.png", optimize=True)


def save(name, image, **options):
    image.save(OUT / name, **options)
    expect(name)


def write(name, contents, frames=None):
    (OUT / name).write_bytes(contents)
    expect(name, frames)


def orientation(value):
    exif = Image.Exif()
    exif[0x112] = value
    return exif


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(samples, kind, depth, interlaced=False, extra=b""):
    """A PNG of samples (rows, columns, channels) of any bit depth; Pillow does not write all of them."""

    def lines(part):
        packed = part.reshape(part.shape[0], -1)
        if depth == 16:
            rows = packed.astype(">u2").view(np.uint8).reshape(part.shape[0], -1)
        else:
            bits = (packed[..., None] >> np.arange(depth - 1, -1, -1)) & 1
            rows = np.packbits(bits.reshape(part.shape[0], -1).astype(np.uint8), axis=1)
        return b"".join(b"\0" + row.tobytes() for row in rows)

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [samples[y::dy, x::dx] for x, y, dx, dy in passes] if interlaced else [samples]
    body = zlib.compress(b"".join(lines(part) for part in parts if part.size), 9)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, kind, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpegs():
    for subsampling in ("4:4:4", "4:2:2", "4:2:0", "4:1:1"):
        name = subsampling.replace(":", "")
        save(f"{name}.jpg", photo, quality=85, subsampling=subsampling)
    save("progressive.jpg", photo, quality=85, progressive=True)
    save("coarse.jpg", photo, quality=20)
    save("restarts.jpg", photo, quality=85, restart_marker_blocks=2)
    save("grey.jpg", grey, quality=85)
    save("cmyk.jpg", photo.convert("CMYK"), quality=85)
    save("rgb.jpg", photo, quality=85, keep_rgb=True)
    save("turned.jpg", photo, quality=85, exif=orientation(6))
    # Sampling factors that some cameras use for 4:2:2 and 4:4:4, and chroma components with different factors.
    ppm = b"P6 %d %d 255\n" % (W, H) + photo.tobytes()
    for name, sampling in (("422_tall", "2x2,1x2,1x2"), ("444_wide", "2x1,2x1,2x1"), ("uneven", "2x2,1x2,1x1")):
        made = subprocess.run(["cjpeg", "-sample", sampling], input=ppm, capture_output=True, check=True)
        write(f"{name}.jpg", made.stdout)
    # With one component, sampling factors have no effect; some programs write 2x2.
    bytes_ = bytearray((OUT / "grey.jpg").read_bytes())
    frame = bytes_.index(b"\xff\xc0")
    bytes_[frame + 11] = 0x22
    write("grey_2x2.jpg", bytes(bytes_))
    # CMYK without Adobe's marker, which Pillow decodes like Adobe's.
    bytes_ = (OUT / "cmyk.jpg").read_bytes()
    at = bytes_.index(b"\xff\xee")
    write("cmyk_plain.jpg", bytes_[:at] + bytes_[at + 2 + int.from_bytes(bytes_[at + 2 : at + 4], "big") :])
    # The same components declared as luma, chroma and black.
    at = bytes_.index(b"Adobe") + 11
    write("ycck.jpg", bytes_[:at] + b"\x02" + bytes_[at + 1 :])


def pngs():
    save("rgb.png", photo)
    save("rgba.png", alpha)
    save("grey.png", grey)
    save("grey_alpha.png", alpha.convert("LA"))
    save("bits1.png", photo.convert("1"))
    for bits in (1, 2, 4, 8):
        save(f"palette{bits}.png", photo.quantize(2**bits), bits=bits)
    save("palette_alpha.png", photo.quantize(16), transparency=bytes(range(0, 256, 16)))
    save("grey_key.png", grey, transparency=100)
    save("turned.png", photo, exif=orientation(8))
    values = np.asarray(grey)[..., None]
    write("grey2.png", png(values >> 6, 0, 2))
    write("grey4.png", png(values >> 4, 0, 4))
    write("deep.png", png(deep, 2, 16))
    write("deep_alpha.png", png(np.dstack([deep, deep[..., :1]]), 6, 16))
    write("deep_key.png", png(deep, 2, 16, extra=chunk(b"tRNS", deep[3, 4].astype(">u2").tobytes())))
    one = deep[..., :1]
    three = np.repeat(one >> 8, 3, axis=2).astype(np.uint8)
    write("deep_grey.png", png(one, 0, 16), [three])
    write("deep_grey_alpha.png", png(np.dstack([one, one]), 4, 16))
    write("interlaced.png", png(pixels, 2, 8, interlaced=True))
    write("interlaced4.png", png(values >> 4, 0, 4, interlaced=True))


def sprites():
    """Frames that change a part of the picture and have transparent holes."""
    frames = []
    for i in range(4):
        frame = np.zeros((H, W, 4), np.uint8)
        frame[4 + 3 * i : 15 + 3 * i, 2 + 5 * i : 16 + 5 * i, :3] = pixels[4 : 15, 2 : 16]
        frame[4 + 3 * i : 15 + 3 * i, 2 + 5 * i : 16 + 5 * i, 3] = 255
        frame[6 + 3 * i, 3 + 5 * i : 9 + 5 * i, 3] = 128 if i % 2 else 0
        frames.append(Image.fromarray(frame))
    return [photo.convert("RGBA"), *frames]


def animations():
    first, *rest = sprites()
    hard = [frame.copy() for frame in (first, *rest)]
    for frame in hard:
        frame.putalpha(frame.getchannel("A").point(lambda a: 255 if a == 255 else 0))
    for disposal in (1, 2, 3):
        options = {"save_all": True, "duration": 40, "disposal": disposal, "optimize": False}
        save(f"dispose{disposal}.gif", hard[1], append_images=hard[2:], **options)
    # The first frame is opaque, the others have holes; every frame has a local palette.
    save("solid.gif", hard[0].convert("RGB"), append_images=hard[1:], save_all=True, duration=40, disposal=1)
    save("still.gif", photo.quantize(32))
    save("still_hole.gif", photo.quantize(32), transparency=3)
    save("plain.gif", photo.quantize(32), interlace=0)

    for blend in (0, 1):
        for disposal in (0, 1, 2):
            # Pillow restores the wrong picture after a blended frame.
            if (blend, disposal) == (1, 2):
                continue
            options = {"save_all": True, "duration": 40, "blend": blend, "disposal": disposal}
            save(f"blend{blend}_dispose{disposal}.apng", first, append_images=rest, format="PNG", **options)
    rgb = [frame.convert("RGB") for frame in (first, *rest)]
    save("opaque.apng", rgb[0], append_images=rgb[1:], format="PNG", save_all=True, duration=40)
    options = {"save_all": True, "duration": 40, "default_image": True, "blend": 0}
    save("apart.apng", first, append_images=[first.transpose(Image.FLIP_LEFT_RIGHT), *rest], format="PNG", **options)

    options = {"save_all": True, "duration": 40, "minimize_size": False, "kmin": 9, "kmax": 17}
    save("lossless_frames.webp", first, append_images=rest, lossless=True, **options)
    save("small_frames.webp", rgb[0], append_images=rgb[1:], save_all=True, duration=40, minimize_size=True, lossless=True)
    save("lossy_frames.webp", first, append_images=rest, quality=80, **options)


def webps():
    save("lossless.webp", photo, lossless=True)
    save("lossless_alpha.webp", alpha, lossless=True, exact=True)
    save("turned.webp", photo, lossless=True, exif=orientation(5))
    save("lossy.webp", photo, quality=80)
    save("lossy_alpha.webp", alpha, quality=80)


def tiffs():
    save("rgb.tif", photo)
    save("grey.tif", grey)
    save("rgba.tif", alpha)
    save("grey_alpha.tif", alpha.convert("LA"))
    save("cmyk.tif", photo.convert("CMYK"))
    save("palette.tif", photo.quantize(64))
    save("bits1.tif", photo.convert("1"))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        save(f"{compression}.tif", photo, compression=compression)
    save("group4.tif", photo.convert("1"), compression="group4")
    save("pages.tif", photo, save_all=True, append_images=[photo.transpose(Image.ROTATE_180), grey.convert("RGB")])
    save("turned.tif", photo, tiffinfo={274: 6})
    save("luma.tif", photo.convert("YCbCr"))
    save("luma_jpeg.tif", photo.convert("YCbCr"), compression="jpeg", quality=95)

    def make(name, samples, frames=None, **options):
        tifffile.imwrite(OUT / name, samples, metadata=None, **options)
        expect(name, frames)

    # Pillow cannot write tiles, and cannot read uncompressed planes or BigTIFFs.
    make("big.tif", pixels, bigtiff=True, photometric="rgb", frames=[pixels])
    make("motorola.tif", pixels, byteorder=">", photometric="rgb")
    make("motorola_palette.tif", np.asarray(photo.quantize(64)), byteorder=">", photometric="palette",
         colormap=np.array(photo.quantize(64).getpalette("RGB") + [0] * 576, np.uint16)[:768].reshape(256, 3).T * 257)
    make("tiled.tif", pixels, tile=(16, 16), photometric="rgb", compression="zlib")
    make("predicted.tif", pixels, photometric="rgb", compression="zlib", predictor=True)
    make("planes.tif", np.moveaxis(pixels, 2, 0), planarconfig="separate", photometric="rgb", frames=[pixels])
    make("deep.tif", deep, photometric="rgb", frames=[pixels])
    make("motorola_deep.tif", deep, photometric="rgb", byteorder=">", frames=[pixels])
    make("deep_grey.tif", deep[..., 0], photometric="minisblack", frames=[np.repeat(pixels[..., :1], 3, axis=2)])
    make("white_is_zero.tif", np.asarray(grey), photometric="miniswhite")


def bmps():
    save("rgb.bmp", photo)
    save("grey.bmp", grey)
    save("bits1.bmp", photo.convert("1"))
    save("palette8.bmp", photo.quantize(64))
    save("rgba.bmp", alpha)

    def bmp(bits, rows, extra=b"", compression=0, height=H):
        header = struct.pack("<IiiHHIIiiII", 40, W, height, 1, bits, compression, len(rows), 0, 0, 0, 0) + extra
        return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(rows), 0, 0, 14 + len(header)) + header + rows

    def rows(values):
        lines = [line.tobytes() for line in values]
        return b"".join(line + b"\0" * (-len(line) % 4) for line in lines)

    r, g, b = (pixels[..., k].astype(np.uint16) for k in range(3))
    write("555.bmp", bmp(16, rows(((r >> 3) << 10 | (g >> 3) << 5 | b >> 3)[::-1].astype("<u2"))))
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    values = ((r >> 3) << 11 | (g >> 2) << 5 | b >> 3)[::-1].astype("<u2")
    write("565.bmp", bmp(16, rows(values), masks, compression=3))
    write("top_down.bmp", bmp(24, rows(pixels[..., ::-1]), height=-H))
    indices = np.asarray(photo.quantize(16))
    palette = np.array(photo.quantize(16).getpalette("RGB")).reshape(-1, 3)
    table = b"".join(bytes([*colour[::-1], 0]) for colour in palette.astype(np.uint8)).ljust(64, b"\0")
    nibbles = np.pad(indices, ((0, 0), (0, 1)))
    header = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 4, 0, 0, 0, 0, 16, 0) + table
    body = rows((nibbles[:, ::2] << 4 | nibbles[:, 1::2])[::-1].astype(np.uint8))
    write("palette4.bmp", b"BM" + struct.pack("<IHHI", 14 + len(header) + len(body), 0, 0, 14 + len(header)) + header + body)
    runs = b""
    for line in indices[::-1]:
        for start in np.flatnonzero(np.diff(line, prepend=-1)):
            length = int(np.argmax(np.append(line[start:], -1) != line[start]))
            runs += bytes([length, int(line[start])])
        runs += b"\0\0"
    runs += b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 8, 1, len(runs), 0, 0, 16, 0) + table
    write("rle8.bmp", b"BM" + struct.pack("<IHHI", 14 + len(header) + len(runs), 0, 0, 14 + len(header)) + header + runs)


def others():
    save("rgb.ppm", photo)
    save("grey.pgm", grey)
    save("bits1.pbm", photo.convert("1"))
    bits = 1 - np.asarray(photo.convert("1")).astype(int)
    write("plain.pbm", f"P1 # told in words\n{W} {H}\n{' '.join(map(str, bits.ravel()))}\n".encode())
    write("plain.pgm", f"P2\n# a comment\n{W}\n{H} 255\n{' '.join(map(str, np.asarray(grey).ravel()))}\n".encode())
    write("plain.ppm", f"P3 {W} {H} 255\n{' '.join(map(str, pixels.ravel()))}\n".encode())
    coarse = (pixels.astype(int) * 100 // 255).astype(np.uint8)
    scaled = np.round(coarse * (255 / 100)).astype(np.uint8)
    write("to100.ppm", f"P6 {W} {H} 100\n".encode() + coarse.tobytes(), [scaled])
    write("deep.ppm", f"P6 {W} {H} 65535\n".encode() + deep.astype(">u2").tobytes(), [pixels])
    header = f"P7\nWIDTH {W}\nHEIGHT {H}\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    write("rgba.pam", header.encode() + np.asarray(alpha).tobytes(), [pixels])
    both = [pixels, pixels[::-1]]
    several = b"".join(f"P6 {W} {H} 255\n".encode() + part.tobytes() for part in both)
    write("several.ppm", several, both)
    save("rgb.qoi", photo)
    save("rgba.qoi", alpha)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    for make in (jpegs, pngs, animations, webps, tiffs, bmps, others):
        make()
    sizes = [path.stat().st_size for path in OUT.iterdir()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes")
