"""The package compared with the program, and its documentation with its stubs."""

import ast
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, SCENE

import goldcrest
from goldcrest import _goldcrest

PICTURES = [SCENE, *sorted((REPOSITORY / "assets/photographs").glob("*.jpg"))]


@pytest.fixture(scope="module")
def program():
    program = os.environ.get("GOLDCREST_PROGRAM")
    if not program:
        pytest.skip("GOLDCREST_PROGRAM does not name the program")

    def run(command, network):
        arguments = [command, *PICTURES, "--weights", f"assets/demo/{network}", "--backend", "cpu", "--json"]
        done = subprocess.run([program, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, check=True)
        document = json.loads(done.stdout)
        assert len(document["pictures"]) == len(PICTURES)
        return document

    return run


def test_classes(program, classifier):
    document = program("classify", "classify")
    assert document["network"] == classifier.network and document["device"]["threads"] == classifier.threads
    for theirs, ours in zip(document["pictures"], classifier.classify(PICTURES)):
        assert [(c.index, c.label) for c in ours] == [(c["index"], c["label"]) for c in theirs["classes"]]
        values = [(c.probability, c.value) for c in ours]
        assert np.allclose(values, [(c["probability"], c["value"]) for c in theirs["classes"]], rtol=1e-4, atol=1e-6)


def test_pixels(program, segmenter):
    for theirs, ours in zip(program("segment", "segment")["pictures"], segmenter.segment(PICTURES)):
        found = [(c.index, c.label, c.pixels) for c in ours.classes]
        assert found == [(c["index"], c["label"], c["pixels"]) for c in theirs["classes"]]


def test_boxes(program, detector):
    for theirs, ours in zip(program("detect", "detect")["pictures"], detector.detect(PICTURES)):
        assert [(d.index, d.label) for d in ours] == [(d["index"], d["label"]) for d in theirs["detections"]]
        edges = ("left", "top", "right", "bottom")
        for mine, other in zip(ours, theirs["detections"]):
            assert np.allclose(mine.box, [other["bounds"][edge] for edge in edges], atol=0.01)


def test_vectors(program, classifier):
    theirs = [picture["embedding"] for picture in program("embed", "classify")["pictures"]]
    assert np.allclose(classifier.embed(PICTURES), theirs, rtol=1e-4, atol=1e-5)


def test_stubs_have_the_documentation():
    stubs = ast.parse(Path(_goldcrest.__file__).with_name("_goldcrest.pyi").read_text())

    def check(node, found):
        documented = 0
        for part in node.body:
            if isinstance(part, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(part):
                runtime = getattr(found, part.name)
                assert ast.get_docstring(part) == ast.get_docstring(ast.parse(f'"""{runtime.__doc__}"""')), part.name
                documented += 1
                if isinstance(part, ast.ClassDef):
                    documented += check(part, runtime)
        return documented

    assert check(stubs, _goldcrest) >= 25
    public = [name for name in dir(goldcrest.Session) if not name.startswith("_")]
    assert all(getattr(goldcrest.Session, name).__doc__ for name in public)
