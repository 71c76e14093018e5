"""Makes tests/fixtures/preprocess: small pictures, and the source libraries' preprocessing of them.

    pip install torch torchvision timm transformers pillow scikit-image safetensors
    python scripts/make_preprocess_fixtures.py [--points N] [--out FOLDER]

Every case is one picture and one preprocessing. `cases.json` describes it in the fields of
`zoo::Preprocessing`. `expected.safetensors` holds the library's normalised output on a lattice of
N rows and columns that includes the edges; cases.json also holds the mean of each channel, which
covers the values between the lattice points. `--points 0` keeps every value (about 80 MB, for a
local comparison only). `--check-tensorflow` only compares this script's numpy version of TensorFlow
1's kernels with an installed TensorFlow.
"""

import argparse
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from skimage import data
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms import functional as F
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation
from transformers.models.mobilenet_v1 import image_processing_mobilenet_v1 as v1
from transformers.models.mobilenet_v1 import image_processing_pil_mobilenet_v1 as v1_pil
from transformers.models.mobilenet_v2 import image_processing_mobilenet_v2 as v2
from transformers.models.mobilenet_v2 import image_processing_pil_mobilenet_v2 as v2_pil

IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
HALF = [0.5] * 3, [0.5] * 3
# Statistics that differ between channels, in BGR order.
BGR = [0.406, 0.456, 0.485], [0.225, 0.224, 0.229]
GREY = [0.45], [0.23]


def photograph(name, size):
    """A photograph scaled to (width, height)."""
    return Image.fromarray(getattr(data, name)()).resize(size, Image.LANCZOS)


def posterised(picture):
    """Reduces a picture to few levels with hard edges: a small PNG, and a strict test of filters that overshoot."""
    return Image.fromarray(np.asarray(picture) // 43 * 51)


def deep_png(path, samples):
    """Writes a PNG with 16 bits per channel; Pillow reads them but does not write them in colour."""
    rows, columns, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", columns, rows, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(lines, 9)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def make_pictures(folder):
    """Writes the pictures. Returns the names of those for every preprocessing, and the names of the others."""
    cat, face = photograph("chelsea", (451, 300)), data.astronaut()
    posterised(photograph("chelsea", (331, 221))).save(folder / "landscape.png", optimize=True)
    cup = photograph("coffee", (420, 280)).transpose(Image.ROTATE_90)
    posterised(cup.resize((220, 330))).save(folder / "portrait.png", optimize=True)
    posterised(Image.fromarray(face[:257, 100:355])).save(folder / "odd.png", optimize=True)
    cat.resize((5, 3)).save(folder / "tiny.png")
    # Much taller than wide: Pillow scales the height first.
    cat.resize((260, 700)).quantize(32).save(folder / "tall.png", optimize=True)
    Image.new("RGB", (1, 1), (200, 100, 7)).save(folder / "one.png")
    # Scaled to 256 it is 271.9 rows high: the margin of a crop to 224 is 47 or 48 rows, depending on rounding.
    cat.resize((242, 257)).quantize(16).save(folder / "palette.png", optimize=True)
    every = sorted(p.name for p in folder.iterdir())

    small = cat.resize((60, 41))
    alpha = Image.fromarray(np.add.outer(np.arange(41) * 5, np.arange(60)).astype(np.uint8))
    rgba = small.copy()
    rgba.putalpha(alpha)
    rgba.save(folder / "rgba.png")
    see_through = small.quantize(8)
    see_through.save(folder / "palette_transparent.png", transparency=3)
    small.convert("L").save(folder / "grey.png")
    Image.merge("LA", (small.convert("L"), alpha)).save(folder / "grey_alpha.png")
    small.convert("1").save(folder / "one_bit.png")
    noise = np.random.default_rng(0).integers(0, 256, (41, 60, 4))
    deep = np.dstack([np.asarray(small), np.asarray(alpha)]).astype(int) * 256 + noise
    deep_png(folder / "deep_rgb.png", deep[..., :3])
    deep_png(folder / "deep_rgba.png", deep)
    deep_png(folder / "deep_grey.png", deep[..., :1])
    deep_png(folder / "deep_grey_alpha.png", deep[..., [0, 3]])
    cup.save(folder / "portrait.jpg", quality=80)
    cat.resize((150, 100)).convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    cat.resize((150, 100)).convert("L").save(folder / "grey.jpg", quality=85)
    cat.resize((151, 101)).save(folder / "progressive.jpg", quality=85, progressive=True)
    for orientation in range(1, 9):
        turned = {"exif": orientation_tag(orientation)}
        cat.resize((60, 40)).save(folder / f"orientation_{orientation}.jpg", quality=85, **turned)
        posterised(cat.resize((30, 20))).save(folder / f"orientation_{orientation}.png", **turned)
    return every, sorted({p.name for p in folder.iterdir()} - set(every))


def orientation_tag(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def load(path):
    """The picture as RGB, upright."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode == "I;16":
        # Pillow's conversion to RGB clips at 255, which makes almost all pixels white.
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGB")


def how(resize, crop, statistics, filter="bilinear", centre="half_to_even", **others):
    resize = {"short": resize} if isinstance(resize, int) else {"exact": resize}
    mean, std = statistics
    crop = crop and [crop, crop]
    ours = {"resize": resize, "filter": filter, "crop": crop, "centre": centre, "mean": mean, "std": std}
    return ours | others


def by_timm(name, **changes):
    """timm's transform for one of its networks, and the same as `zoo::Preprocessing`."""
    config = timm.data.resolve_data_config(changes, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    crop, statistics = config["input_size"][-1], (list(config["mean"]), list(config["std"]))
    size = int(crop / config["crop_pct"])
    size = [size, size] if config["crop_mode"] == "squash" else size
    return timm.data.create_transform(**config), how(size, crop, statistics, config["interpolation"])


def by_transformers(processor, **changes):
    processor = processor(**changes)
    statistics = list(processor.image_mean), list(processor.image_std)
    ours = how(processor.size["shortest_edge"], processor.crop_size["height"], statistics, centre="down")

    def transform(picture):
        return torch.tensor(np.asarray(processor(picture, return_tensors="np")["pixel_values"][0]))

    return transform, ours


def by_pillow(filter):
    def transform(picture):
        picture = CenterCrop(96)(Resize(128, InterpolationMode(filter))(picture))
        return F.normalize(F.to_tensor(picture), *IMAGENET)

    return transform, how(128, 96, IMAGENET, filter)


def by_torchvision_detection(picture):
    transform = GeneralizedRCNNTransform(320, 320, *HALF, size_divisible=1, fixed_size=(320, 320))
    return transform([F.to_tensor(picture)])[0].tensors[0]


def normalised(planes, statistics):
    """Normalises planes in 0..1 with the mean and the standard deviation of each."""
    mean, std = (torch.tensor(of_each).view(-1, 1, 1) for of_each in statistics)
    return (planes - mean) / std


def grey_by_pillow(filter):
    def transform(picture):
        picture = CenterCrop(96)(Resize(128, InterpolationMode(filter))(picture.convert("L")))
        return normalised(F.to_tensor(picture), GREY)

    return transform, how(128, 96, GREY, filter, colours="grey")


def bgr_by_pillow(filter):
    """Pillow's scaling with OpenCV's channel order."""

    def transform(picture):
        picture = CenterCrop(96)(Resize(128, InterpolationMode(filter))(picture))
        return normalised(F.to_tensor(picture).flip(0), BGR)

    return transform, how(128, 96, BGR, filter, colours="bgr")


def by_torch_corners(size):
    def transform(picture):
        planes = F.to_tensor(picture)[None]
        planes = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=True)
        return normalised(planes[0], HALF)

    return transform, how(size, None, HALF, "linear", grid="corners")


def tensorflow_1(pixels, size, filter, align_corners):
    """`tf.compat.v1.image.resize_bilinear` or `resize_nearest_neighbor` of [rows, columns, channels]."""

    def places(inputs, outputs):
        if align_corners and outputs > 1:
            scale = np.float32(inputs - 1) / np.float32(outputs - 1)
        else:
            scale = np.float32(inputs) / np.float32(outputs)
        return np.arange(outputs, dtype=np.float32) * scale, inputs - 1

    (rows, last_row), (columns, last_column) = map(places, pixels.shape, size)
    if filter == "nearest":
        # C's roundf rounds half away from zero, unlike numpy.
        whole = (lambda v: np.floor(v.astype(np.float64) + 0.5)) if align_corners else np.floor
        rows, columns = whole(rows).astype(int), whole(columns).astype(int)
        return pixels[np.minimum(rows, last_row)[:, None], np.minimum(columns, last_column)].astype(np.float32)

    def taps(places, last):
        low = np.floor(places)
        high = np.minimum(low + 1, last).astype(int)
        return np.minimum(low, last).astype(int), high, places - low

    pixels = pixels.astype(np.float32)
    left, right, across = taps(columns, last_column)
    top, bottom, down = taps(rows, last_row)
    across, down = across[:, None], down[:, None, None]
    between = pixels[:, left] + (pixels[:, right] - pixels[:, left]) * across
    return between[top] + (between[bottom] - between[top]) * down


def by_tensorflow_1(size, filter, align_corners, colours="rgb"):
    statistics = {"rgb": HALF, "bgr": BGR, "grey": GREY}[colours]

    def transform(picture):
        pixels = np.asarray(picture.convert("L") if colours == "grey" else picture)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        pixels = pixels[..., ::-1] if colours == "bgr" else pixels
        scaled = tensorflow_1(pixels, size, filter, align_corners)
        return normalised(torch.tensor(scaled.transpose(2, 0, 1)) / 255, statistics)

    grid = "corners" if align_corners else "top_left"
    return transform, how(size, None, statistics, filter, grid=grid, colours=colours)


def check_tensorflow():
    import tensorflow as tf

    kernels = tf.compat.v1.image
    random = np.random.default_rng(0)
    worst, count = 0.0, 0
    for _ in range(300):
        rows, columns, *size = (int(v) for v in random.integers(1, 90, 4))
        pixels = random.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        for filter, theirs in ("linear", kernels.resize_bilinear), ("nearest", kernels.resize_nearest_neighbor):
            for align_corners in (False, True):
                expected = theirs(pixels[None], size, align_corners=align_corners)[0].numpy()
                ours = tensorflow_1(pixels, size, filter, align_corners)
                worst = max(worst, float(np.abs(ours - expected).max()))
                count += 1
    print(f"TensorFlow {tf.__version__}: {count} pictures, largest difference {worst:.2g} levels")
    assert worst < 1e-3


def transforms():
    bilinear = InterpolationMode.BILINEAR
    yield "torchvision_256", (ImageClassification(crop_size=224, resize_size=256), how(256, 224, IMAGENET))
    yield "torchvision_232", (ImageClassification(crop_size=224, resize_size=232), how(232, 224, IMAGENET))
    # A crop that is larger than the picture by an odd number of pixels.
    yield "torchvision_padded", (ImageClassification(crop_size=96, resize_size=61), how(61, 96, IMAGENET))
    segmentation = SemanticSegmentation(resize_size=130, interpolation=bilinear)
    yield "torchvision_segmentation", (segmentation, how(130, None, IMAGENET))
    yield "torchvision_ssdlite", (by_torchvision_detection, how([320, 320], None, HALF, "linear"))
    yield "timm_bicubic_875", by_timm("mobilenetv3_large_100.ra_in1k")
    yield "timm_bicubic_950", by_timm("mobilenetv4_conv_small.e2400_r224_in1k", crop_pct=0.95)
    yield "timm_bicubic_r256", by_timm("mobilenetv4_conv_small.e3600_r256_in1k")
    yield "timm_tf_bilinear", by_timm("tf_mobilenetv3_small_100.in1k")
    squash = {"crop_mode": "squash", "crop_pct": 1.0}
    yield "timm_squash", by_timm("mobilenetv1_100.ra4_e3600_r224_in1k", **squash)
    yield "transformers_v1", by_transformers(v1.MobileNetV1ImageProcessor)
    yield "transformers_v1_pil", by_transformers(v1_pil.MobileNetV1ImageProcessorPil)
    yield "transformers_v2", by_transformers(v2.MobileNetV2ImageProcessor)
    yield "transformers_v2_pil", by_transformers(v2_pil.MobileNetV2ImageProcessorPil)
    odd = {"size": {"shortest_edge": 103}, "crop_size": {"height": 96, "width": 96}}
    yield "transformers_odd", by_transformers(v1.MobileNetV1ImageProcessor, **odd)
    yield "transformers_odd_pil", by_transformers(v1_pil.MobileNetV1ImageProcessorPil, **odd)
    padded = {"size": {"shortest_edge": 61}, "crop_size": {"height": 96, "width": 96}}
    yield "transformers_padded", by_transformers(v1.MobileNetV1ImageProcessor, **padded)
    yield "pillow_nearest", by_pillow("nearest")
    yield "pillow_lanczos", by_pillow("lanczos")
    for filter in ("bilinear", "bicubic"):
        yield f"grey_{filter}", grey_by_pillow(filter)
    yield "grey_nearest", grey_by_pillow("nearest")
    yield "bgr_bilinear", bgr_by_pillow("bilinear")
    for size in ([97, 130], [401, 300]):
        name = "x".join(map(str, size))
        yield f"torch_corners_{name}", by_torch_corners(size)
        yield f"tensorflow_corners_{name}", by_tensorflow_1(size, "linear", True)
        yield f"tensorflow_corners_nearest_{name}", by_tensorflow_1(size, "nearest", True)
        yield f"tensorflow_top_left_{name}", by_tensorflow_1(size, "linear", False)
        yield f"tensorflow_top_left_nearest_{name}", by_tensorflow_1(size, "nearest", False)
    yield "tensorflow_grey", by_tensorflow_1([96, 96], "linear", False, "grey")
    yield "tensorflow_bgr", by_tensorflow_1([96, 1], "linear", True, "bgr")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures/preprocess"))
    parser.add_argument("--check-tensorflow", action="store_true")
    arguments = parser.parse_args()
    if arguments.check_tensorflow:
        return check_tensorflow()
    pictures = arguments.out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.iterdir():
        old.unlink()
    every, once = make_pictures(pictures)

    cases, expected = [], {}
    for name, (transform, ours) in transforms():
        for file in every + (once if name == "torchvision_256" else []):
            output = transform(load(pictures / file)).double().numpy()
            _, rows, columns = output.shape
            points = arguments.points
            lattice = [
                np.unique(np.linspace(0, n - 1, points or n).round().astype(int)) for n in (rows, columns)
            ]
            case = f"{name}/{file}"
            values = output[:, lattice[0][:, None], lattice[1]]
            expected[case] = np.ascontiguousarray(values, dtype=np.float32)
            cases.append({
                "case": case,
                "picture": file,
                "preprocessing": ours,
                "size": [rows, columns],
                "rows": lattice[0].tolist(),
                "columns": lattice[1].tolist(),
                "means": output.mean((1, 2)).tolist(),
            })
    save_file(expected, arguments.out / "expected.safetensors")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (arguments.out / "cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
