"""Pictures in every form, and results."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SCENE
from PIL import Image

import goldcrest


def same(found, expected):
    assert [c.index for c in found] == [c.index for c in expected]
    assert np.allclose([c.value for c in found], [c.value for c in expected], atol=1e-5)


def test_a_folder_of_the_repository():
    session = goldcrest.load(REPOSITORY / "assets/demo/classify", device="cpu")
    best = session.classify(SCENE, top=3)
    assert len(best) == 3 and best[0].label == "star" and best[0].index == 5
    assert best[0].probability == pytest.approx(0.951, abs=1e-3)


def test_attributes(classifier, segmenter, detector):
    assert classifier.backend == "cpu" and "cpu" in classifier.device and classifier.threads >= 1
    assert classifier.network == "torchvision/mobilenet_v3_small"
    assert classifier.classes[5] == "star" and classifier.input_size == (128, 128)
    assert [s.task for s in (classifier, segmenter, detector)] == ["classify", "segment", "detect"]
    assert "mobilenet_v3_small" in repr(classifier)


def test_forms_of_a_picture(classifier, scene):
    expected = classifier.classify(SCENE)
    forms = {
        "str": str(SCENE),
        "bytes": SCENE.read_bytes(),
        "bytearray": bytearray(SCENE.read_bytes()),
        "array": scene,
        "Fortran order": np.asfortranarray(scene),
        "part of a larger array": np.pad(scene, ((3, 4), (5, 6), (0, 0)))[3:-4, 5:-6],
        "reversed twice": np.ascontiguousarray(scene[::-1, :, ::-1])[::-1, :, ::-1],
        "RGBA": np.dstack([scene, np.full(scene.shape[:2], 7, np.uint8)]),
        "Pillow": Image.fromarray(scene),
        "Pillow, RGBA": Image.fromarray(scene).convert("RGBA"),
        "read-only": np.frombuffer(scene.tobytes(), np.uint8).reshape(scene.shape),
        "an object with __array__": Shown(scene),
        "an object with __dlpack__": Shared(scene),
    }
    for name, form in forms.items():
        found = classifier.classify(form)
        assert found == expected, name
        # In a batch each thread has its own session; sums may be in another order.
        same(classifier.classify([form, form])[1], expected)


class Shown:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class Shared:
    def __init__(self, array):
        self.array = np.array(array)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_grey_pictures(classifier, scene):
    grey = scene[:, :, 1]
    expected = classifier.classify(np.dstack([grey, grey, grey]))
    sixteen = Image.frombytes("I;16", grey.shape[::-1], (grey.astype("<u2") * 257).tobytes())
    big = Image.frombytes("I;16B", grey.shape[::-1], (grey.astype(">u2") * 257).tobytes())
    for form in [grey, grey[:, :, None], Image.fromarray(grey), Image.fromarray(grey).convert("LA"), sixteen, big]:
        assert classifier.classify(form) == expected


def test_pillow_modes(classifier, scene):
    # A palette of the scene's colours loses some of them; the picture stays the same picture.
    palette = Image.fromarray(scene).convert("P", palette=Image.Palette.ADAPTIVE)
    for image in [palette, Image.fromarray(scene).convert("CMYK"), Image.fromarray(scene).convert("YCbCr")]:
        expected = classifier.classify(np.asarray(image.convert("RGB")))
        assert classifier.classify(image) == expected
    for mode in ["I", "F"]:
        with pytest.raises(ValueError, match=f"mode {mode}"):
            classifier.classify(Image.fromarray(scene).convert(mode))


def test_files_of_every_format(classifier, scene):
    for format in ["PNG", "BMP", "TIFF", "WEBP", "PPM"]:
        file = io.BytesIO()
        Image.fromarray(scene).save(file, format, **({"lossless": True} if format == "WEBP" else {}))
        assert classifier.classify(file.getvalue()) == classifier.classify(scene)
    jpeg = io.BytesIO()
    Image.fromarray(scene).save(jpeg, "JPEG")
    # JPEGs decode to the same pixels as in Pillow.
    assert classifier.classify(jpeg.getvalue()) == classifier.classify(Image.open(jpeg))


def test_lists_and_batches(classifier, scene):
    pictures = np.stack([scene, scene[::-1], scene[:, ::-1]])
    expected = [classifier.classify(picture) for picture in pictures]
    several = {
        "batch": pictures,
        "list": list(pictures),
        "tuple": tuple(pictures),
        "generator": (picture for picture in pictures),
        "array of objects": objects(list(pictures)),
        "batch with alpha": np.concatenate([pictures, pictures[..., :1]], axis=3),
        "mixed": [pictures[0], Image.fromarray(pictures[1]), pictures[2].copy()],
    }
    for name, form in several.items():
        found = classifier.classify(form)
        assert len(found) == 3, name
        for ours, theirs in zip(found, expected):
            same(ours, theirs)


def objects(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_pictures_of_different_sizes(classifier, segmenter, scene):
    sizes = [(40, 60), (130, 128), (7, 300), (40, 60), (1, 1)]
    pictures = [scene[:rows, :columns] for rows, columns in sizes]
    assert len(classifier.classify(pictures)) == 5
    for found, size in zip(segmenter.segment(pictures), [p.shape[:2] for p in pictures]):
        assert found.labels.shape == size


def test_no_pictures(classifier, segmenter, detector):
    assert classifier.classify([]) == segmenter.segment([]) == detector.detect(()) == []
    assert classifier.classify(np.empty((0, 8, 8, 3), np.uint8)) == []
    embeddings = classifier.embed([])
    assert embeddings.shape == (0, classifier.embed(SCENE).size) and embeddings.dtype == np.float32


def test_many_pictures_keep_their_order(classifier, scene):
    pictures = [np.roll(scene, 7 * at, axis=1) for at in range(40)]
    expected = [classifier.classify(picture, top=1)[0] for picture in pictures]
    found = list(classifier.classify_all(iter(pictures), top=1))
    assert [f[0].index for f in found] == [e.index for e in expected]
    assert np.allclose([f[0].value for f in found], [e.value for e in expected], atol=1e-5)


def test_the_iterable_is_read_a_few_pictures_ahead(classifier, scene):
    read = 0

    def pictures():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield scene

    results = classifier.classify_all(pictures())
    for at, _ in zip(range(1, 6), results):
        assert read <= at + 2 * classifier.threads + 5
    del results
    before = read
    classifier.classify(scene)
    assert read == before


def test_a_stream_and_calls_at_the_same_time(classifier, scene):
    expected = classifier.classify(scene)
    for found in classifier.classify_all([scene] * 6):
        same(found, expected)
        assert classifier.classify(scene) == expected


def test_segmentation(segmenter, scene):
    found = segmenter.segment(scene)
    assert found.labels.shape == scene.shape[:2] and found.labels.dtype == np.uint8
    assert found.classes[0].label == "background" and found.classes[0].share == pytest.approx(0.83, abs=0.001)
    assert {area.index for area in found.classes} == set(np.unique(found.labels))
    for area in found.classes:
        assert area.pixels == (found.labels == area.index).sum()
        assert area.label == segmenter.classes[area.index]
    assert "background: 83.0%" in repr(found)
    plain, legend = found.overlay(scene, legend=False), found.overlay(scene)
    assert plain.shape == scene.shape and legend.shape[0] > scene.shape[0]
    background = found.labels == 0
    assert (plain[~background] != scene[~background]).any() and (plain[background] == scene[background]).mean() > 0.9
    with pytest.raises(ValueError):
        found.overlay(scene[1:])


def test_detection(detector, scene):
    found = detector.detect(scene)
    assert len(found) == 5 and found[0].label == "star" and found[0].score > 0.99
    assert np.allclose(found[0].box, (196, 39, 353, 194), atol=0.6)
    assert len(detector.detect(scene, min_score=0)) > 5 and detector.detect(scene, min_score=1) == []
    drawn = goldcrest.draw_boxes(scene, found)
    assert drawn.shape == scene.shape and (drawn != scene).any()
    # Boxes are in pixels of the picture, whatever its size.
    small = detector.detect(np.asarray(Image.fromarray(scene).resize((200, 160))))
    ratio = np.array([200 / scene.shape[1], 160 / scene.shape[0]] * 2)
    assert np.allclose(small[0].box, found[0].box * ratio, atol=4)


def test_detector_on_a_tensor(detector):
    tensor = np.random.default_rng(0).normal(size=(2, 3, *detector.input_size)).astype(np.float32)
    found = detector.run(tensor)
    count = len(found["scores"])
    assert found["boxes"].shape == (count, 4) and found["labels"].shape == (count,)
    assert set(found["pictures"]) <= {0, 1}


def test_embeddings(classifier, scene):
    one = classifier.embed(scene)
    assert one.dtype == np.float32 and one.ndim == 1
    several = classifier.embed([scene, scene[::-1]], normalize=True)
    assert several.shape == (2, one.size)
    assert np.linalg.norm(several, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.allclose(several[0], one / np.linalg.norm(one), atol=1e-6)
    assert np.allclose(list(classifier.embed_all([scene]))[0], one, atol=1e-5)


def test_labels(tmp_path, scene):
    names = [f"shape {at}" for at in range(10)]
    path = tmp_path / "names.txt"
    path.write_text("\n".join(names))
    for labels in [names, path, str(path)]:
        session = goldcrest.load("demo:classify", "cpu", labels=labels)
        assert session.classify(scene)[0].label == "shape 5" and session.classes == names


def test_results_can_be_pickled(classifier, segmenter, detector, scene):
    for result in [classifier.classify(scene), detector.detect(scene)]:
        assert pickle.loads(pickle.dumps(result)) == result
    found = segmenter.segment(scene)
    copy = pickle.loads(pickle.dumps(found))
    assert np.array_equal(copy.labels, found.labels) and copy.classes == found.classes


def test_profile(classifier):
    profile = classifier.profile(seconds=0)
    assert profile.ms > 0 and profile.gpu_ms is None and len(profile.steps) > 10
    assert sum(step.ms for step in profile.steps) == pytest.approx(profile.ms, rel=3)
    assert sum(step.macs for step in profile.steps) > 1e6
    assert profile.steps[0].layers and profile.steps[0].shape[0] == 1


def test_options(scene):
    one = goldcrest.load("demo:classify", "cpu", threads=1, precision="f32", batch=4)
    assert one.threads == 1
    assert len(one.classify([scene] * 9)) == 9
    sized = goldcrest.load("demo:segment", "cpu", size=(96, 128))
    assert sized.input_size == (96, 128) and sized.segment(scene).labels.shape == scene.shape[:2]


def test_overrides():
    folder = REPOSITORY / "assets/demo/classify"
    size = goldcrest.load(folder, "cpu", overrides={"size": "64x96", "resize": "64x96", "crop": "none"})
    assert size.input_size == (64, 96)
    mean = goldcrest.load(folder, "cpu", overrides={"mean": [0.4, 0.5, 0.6]})
    assert mean.classify(SCENE)[0].value != goldcrest.load(folder, "cpu").classify(SCENE)[0].value
    assert goldcrest.load(folder, "cpu", overrides={"scores": "none"}).classify(SCENE)[0].probability is None


def test_adapters():
    for at, adapter in enumerate(goldcrest.adapters()):
        assert adapter.index == at and isinstance(adapter.name, str) and isinstance(adapter.software, bool)


@pytest.mark.parametrize("index", range(4))
def test_adapters_match_the_cpu(index, classifier, segmenter, detector, scene):
    if index >= len(goldcrest.adapters()):
        pytest.skip(f"no adapter {index}")
    gpu = goldcrest.load("demo:classify", device=index, batch=2)
    assert gpu.backend == "gpu"
    expected = classifier.classify(scene)
    assert np.allclose([c.value for c in gpu.classify(scene)], [c.value for c in expected], atol=1e-3)
    for found in gpu.classify([scene] * 5):
        assert np.allclose([c.value for c in found], [c.value for c in expected], atol=1e-3)
    agree = goldcrest.load("demo:segment", device=index).segment(scene).labels == segmenter.segment(scene).labels
    assert agree.mean() > 0.999
    found, boxes = goldcrest.load("demo:detect", device=index).detect(scene), detector.detect(scene)
    assert [d.label for d in found] == [d.label for d in boxes]
    assert np.allclose([d.box for d in found], [d.box for d in boxes], atol=0.1)
