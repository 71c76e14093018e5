"""Bad input: one clear exception, of a fitting type, that names what is wrong."""

import logging
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SCENE
from PIL import Image

import goldcrest


def raises(kind, words, call, *args, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert type(caught.value).__name__ != "PanicException"
    for word in [words] if isinstance(words, str) else words:
        assert word in message, message
    assert "\n" not in message


def test_error_types():
    assert issubclass(goldcrest.Error, RuntimeError) and issubclass(goldcrest.DeviceLost, goldcrest.Error)


def test_models(tmp_path):
    text = tmp_path / "notes.safetensors"
    text.write_text("not a checkpoint")
    empty = tmp_path / "empty.pth"
    empty.touch()
    raises(FileNotFoundError, "missing.pth", goldcrest.load, "missing.pth")
    raises(FileNotFoundError, "no/such/folder", goldcrest.load, "no/such/folder")
    raises(FileNotFoundError, "owner/name", goldcrest.load, Path("owner/name"))
    raises(goldcrest.Error, "notes.safetensors", goldcrest.load, text)
    raises(goldcrest.Error, "empty.pth", goldcrest.load, empty)
    raises(goldcrest.Error, str(tmp_path), goldcrest.load, tmp_path)
    raises(goldcrest.Error, "scene.png", goldcrest.load, SCENE)
    raises(ValueError, ["demo:draw", "demo:classify"], goldcrest.load, "demo:draw")
    raises(ValueError, "demo", goldcrest.load, "demo:classify", arch="torchvision/mobilenet_v2")
    for model in [None, 5, b"bytes", ["list"], np.zeros(3)]:
        raises(TypeError, [], goldcrest.load, model)


def test_the_hub_is_asked_for_other_names(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = "timm/mobilenetv3_large_100.ra_in1k"
    raises(goldcrest.Error, [name, "HF_HUB_OFFLINE"], goldcrest.load, name)


def test_devices():
    raises(goldcrest.Error, ["no adapter", "nope"], goldcrest.load, "demo:classify", device="nope")
    raises(goldcrest.Error, "999", goldcrest.load, "demo:classify", device=999)
    for device in [-1, None, 1.5, True, ["cpu"]]:
        raises((TypeError, OverflowError), [], goldcrest.load, "demo:classify", device=device)


def test_options(tmp_path):
    def load(kind, words, **options):
        raises(kind, words, goldcrest.load, REPOSITORY / "assets/demo/classify", "cpu", **options)

    load(ValueError, "precision", precision="f64")
    load(goldcrest.Error, "f16", precision="f16")
    load(ValueError, "batch", batch=0)
    load(ValueError, "batch", batch=2000)
    load(ValueError, "threads", threads=0)
    load(ValueError, "threads", threads=10**6)
    load(OverflowError, [], threads=-1)
    load(TypeError, [], threads="two")
    load(ValueError, "size", size=(0, 5))
    load(TypeError, [], size=224)
    load(ValueError, ["sise", "stem_stride"], overrides={"sise": 224})
    load(ValueError, "scores", overrides={"scores": "loud"})
    load(TypeError, [], overrides={"size": None})
    load(TypeError, [], overrides=[1])
    load(goldcrest.Error, "mobilenet_v9", arch="torchvision/mobilenet_v9")
    load(ValueError, "2 labels", labels=["a", "b"])
    load(FileNotFoundError, "names.txt", labels=tmp_path / "names.txt")
    load(TypeError, [], labels=5)
    load(TypeError, [], colour="red")
    (tmp_path / "none.txt").touch()
    load(goldcrest.Error, "none.txt", labels=tmp_path / "none.txt")


def test_files(classifier, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("This is a text file.")
    cut = tmp_path / "cut.png"
    cut.write_bytes(SCENE.read_bytes()[:1000])
    empty = tmp_path / "empty.jpg"
    empty.touch()
    raises(FileNotFoundError, "missing.jpg", classifier.classify, "missing.jpg")
    raises(FileNotFoundError, "missing.jpg", classifier.classify, Path("missing.jpg"))
    raises(FileNotFoundError, "missing.jpg", classifier.classify, [SCENE, "missing.jpg"])
    raises(OSError, str(tmp_path), classifier.classify, tmp_path)
    for path in [text, cut, empty]:
        raises(goldcrest.Error, path.name, classifier.classify, path)
        raises(goldcrest.Error, path.name, classifier.classify, [SCENE, path, SCENE])
    raises(goldcrest.Error, [], classifier.classify, b"")
    raises(goldcrest.Error, [], classifier.classify, text.read_bytes())
    raises((ValueError, OSError), [], classifier.classify, "a\0b")
    small = goldcrest.load("demo:classify", "cpu", max_pixels=1000)
    raises(goldcrest.Error, ["scene.png", "1000"], small.classify, SCENE)


def test_arrays(classifier, scene):
    classify = classifier.classify
    raises(TypeError, "float32", classify, scene.astype(np.float32))
    raises(TypeError, "int64", classify, scene.astype(np.int64))
    raises(TypeError, "bool", classify, scene > 5)
    raises(TypeError, "complex", classify, scene.astype(complex))
    raises(TypeError, "U", classify, np.array(["text"]))
    raises(ValueError, "shape", classify, scene[0, 0])
    raises(ValueError, "shape", classify, scene[:, :, :2])
    raises(ValueError, "shape", classify, np.moveaxis(scene, 2, 0))
    raises(ValueError, "shape", classify, np.uint8(5).reshape(()))
    raises(ValueError, "shape", classify, scene[None, None])
    for shape in [(0, 5, 3), (5, 0, 3), (0, 0), (5, 5, 0), (2, 0, 5, 3)]:
        raises(ValueError, [], classify, np.zeros(shape, np.uint8))
    for item in [None, 5, 2.5, object(), {}.items, len]:
        raises(TypeError, "Pillow", classify, item)
    raises(TypeError, "picture 1: expected a NumPy array", classify, [scene, None])
    raises(TypeError, "picture 2", classify, (scene, scene, scene.astype(float)))
    raises(ValueError, "picture 0", classify, [scene[:, :, :2]])
    raises(TypeError, "picture 0", classify, [[scene]])
    raises(TypeError, [], classify)


def test_arguments(classifier, detector, scene):
    raises(ValueError, "top", classifier.classify, scene, top=0)
    raises(OverflowError, [], classifier.classify, scene, top=-1)
    raises(TypeError, [], classifier.classify, scene, top="five")
    assert len(classifier.classify(scene, top=10**9)) == 10
    for score in [-0.1, 1.1, float("nan")]:
        raises(ValueError, "min_score", detector.detect, scene, min_score=score)
    raises(ValueError, "on_error", classifier.classify_all, [], on_error="ignore")
    raises(TypeError, [], classifier.classify_all, 5)
    raises(ValueError, "seconds", classifier.profile, seconds=float("nan"))
    raises(ValueError, "batch", classifier.profile, batch=0)


def test_tasks(classifier, segmenter, detector, scene):
    for session, name in [(segmenter, "classify"), (classifier, "segment"), (segmenter, "detect"), (detector, "embed")]:
        raises(ValueError, f"{name} needs a network", getattr(session, name), scene)
        raises(ValueError, f"{name} needs a network", getattr(session, f"{name}_all"), [scene])


def test_tensors(classifier, caplog):
    run = classifier.run
    good = np.zeros((1, 3, 64, 64), np.float32)
    assert run(good).shape == (1, 10)
    raises(TypeError, "float64", run, good.astype(np.float64))
    raises(TypeError, "float16", run, good.astype(np.float16))
    raises(TypeError, "uint8", run, good.astype(np.uint8))
    raises(TypeError, "list", run, good.tolist())
    raises(TypeError, "NoneType", run, None)
    raises(ValueError, "shape", run, good[0])
    raises(ValueError, "3 channels", run, np.moveaxis(good, 1, 3))
    for shape in [(0, 3, 64, 64), (1, 3, 0, 64), (1, 0, 5, 5)]:
        raises(ValueError, [], run, np.zeros(shape, np.float32))
    assert np.allclose(run(np.asfortranarray(good)), run(good))
    raises(ValueError, [], classifier.features, good[0])
    for value in [np.nan, np.inf]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "goldcrest"):
            try:
                assert not np.isfinite(run(np.full_like(good, value))).all()
                assert "not finite" in caplog.text
            except goldcrest.Error as error:
                assert "overflow" in str(error)


def test_a_stream_goes_on_after_errors(classifier, scene):
    pictures = [scene, "missing.png", None, scene.astype(float), b"text", scene]
    found = list(classifier.classify_all(pictures, on_error="return"))
    kinds = [list, FileNotFoundError, TypeError, TypeError, goldcrest.Error, list]
    assert [type(result) for result in found] == kinds
    results = classifier.classify_all(pictures)
    assert len(next(results)) == 5
    raises(FileNotFoundError, "missing.png", next, results)
    # The pictures after it are still there.
    raises(TypeError, "picture 2", next, results)
    raises(TypeError, "picture 3", next, results)
    raises(goldcrest.Error, "picture 4", next, results)
    assert len(next(results)) == 5
    raises(StopIteration, [], next, results)
    raises(StopIteration, [], next, results)


@pytest.mark.parametrize("on_error", ["raise", "return"])
def test_an_exception_of_the_iterable_is_passed_on(classifier, scene, on_error):
    def pictures():
        yield scene
        raise KeyError("mine")

    raises(KeyError, "mine", list, classifier.classify_all(pictures(), on_error=on_error))
    raises(KeyError, "mine", classifier.classify, pictures())
    assert classifier.classify(scene)


def test_a_pillow_image_that_cannot_be_read(classifier, tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(SCENE.read_bytes()[:3000])
    raises(OSError, [], classifier.classify, Image.open(path))


def test_the_log_reaches_pythons_logging(caplog):
    folder = REPOSITORY / "assets/demo/classify"
    with caplog.at_level(logging.INFO, "goldcrest"):
        session = goldcrest.load(folder, "cpu", overrides={"size": 32, "resize": "32x32", "crop": "none"})
    messages = {record.message for record in caplog.records if record.name.startswith("goldcrest")}
    assert set(session.notes) | set(session.warnings) <= messages


def test_sessions_cannot_be_made_or_pickled(classifier):
    import pickle

    raises(TypeError, [], goldcrest.Session)
    raises(TypeError, [], pickle.dumps, classifier)
