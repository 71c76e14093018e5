"""Networks compared with the outputs of torchvision and timm, which were computed in f64."""

import numpy as np
import pytest
from recipe import Fixture, error, sample

import goldcrest

TOLERANCE = 3e-5

CLASSIFIERS = [
    "torchvision-mobilenet_v2",
    "torchvision-mobilenet_v3_small",
    "timm-mobilenetv1_100",
    "timm-mobilenetv4_conv_small",
]


@pytest.fixture(scope="module", params=CLASSIFIERS)
def classifier(request, tmp_path_factory):
    fixture = Fixture(request.param)
    path = fixture.checkpoint(tmp_path_factory.mktemp(request.param))
    return fixture, goldcrest.load(path, device="cpu", arch=fixture.recipe["arch"])


def test_classifiers_match_their_libraries(classifier):
    fixture, session = classifier
    assert session.network.startswith(fixture.recipe["arch"])
    assert len(session.classes) == 1000 and session.task == "classify"
    for case in range(len(fixture.recipe["cases"])):
        logits, expected = session.run(fixture.input(case)), fixture.expected("out", case)
        assert logits.shape == expected.shape and logits.dtype == np.float32
        assert error(logits, expected) <= TOLERANCE, case
        assert set(np.argsort(logits[0])[-5:]) == set(np.argsort(expected[0])[-5:])


def test_batches_match_single_inputs(classifier):
    fixture, session = classifier
    single = fixture.input(0)
    # More than one run: each takes up to 64.
    batch = np.concatenate([single, -single, single * 0.5] * 23)
    together = session.run(batch)
    assert together.shape == (69, 1000)
    for at in range(3):
        assert error(together[at], session.run(batch[at : at + 1])) <= 1e-6
        assert np.array_equal(together[at], together[at + 66])


def test_features_match_timm(tmp_path):
    fixture = Fixture("timm-mobilenetv4_conv_small")
    session = goldcrest.load(fixture.checkpoint(tmp_path), device="cpu")
    case = 2
    maps = session.features(fixture.input(case))
    assert list(maps) == [feature["module"] for feature in fixture.recipe["features"]]
    for feature in fixture.recipe["features"]:
        rows, columns = (-(-side // feature["stride"]) for side in fixture.input(case).shape[2:])
        assert maps[feature["module"]].shape[2:] == (rows, columns)


def test_segmenter_matches_torchvision(tmp_path):
    fixture = Fixture("torchvision-lraspp_mobilenet_v3_large")
    session = goldcrest.load(fixture.checkpoint(tmp_path), device="cpu")
    for case in range(3):
        scores = session.run(fixture.input(case))
        assert error(sample(scores), fixture.expected("out", case)) <= TOLERANCE
        assert (scores[0].argmax(0) == fixture.expected("labels", case)).mean() >= 0.999


def test_detector_matches_torchvision(tmp_path):
    fixture = Fixture("torchvision-ssdlite320_mobilenet_v3_large")
    session = goldcrest.load(fixture.checkpoint(tmp_path), device="cpu")
    for case in range(2):
        found = session.detect(fixture.picture(case), min_score=0)
        boxes, scores, classes = (fixture.expected(name, case) for name in ("boxes", "scores", "classes"))
        assert len(found) == len(scores) > 0
        # Equal scores may come in any order.
        ours = sorted(((d.score, *d.box, d.index) for d in found), reverse=True)
        theirs = sorted(((s, *b, c) for s, b, c in zip(scores, boxes, classes)), reverse=True)
        assert np.allclose([row[0] for row in ours], [row[0] for row in theirs], atol=1e-4)
        matched = sum(np.allclose(a, b, atol=0.05) for a, b in zip(ours, theirs))
        assert matched >= 0.95 * len(ours)
