"""Networks compared with torchvision's modules, with seeded weights. Skipped without torch."""

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image
from recipe import error, sample

import goldcrest

torch = pytest.importorskip("torch", reason="torch is not installed")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

PICTURES = sorted((REPOSITORY / "tests/fixtures/pictures").glob("*.png"))


def seeded(make, *args, **kwargs):
    """A network with seeded weights, and batch-norm statistics of pictures."""
    torch.manual_seed(7)
    network = make(*args, weights=None, **({"weights_backbone": None} | kwargs if kwargs else {})).train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
        torch.nn.init.uniform_(norm.bias, -0.2, 0.2)
    with torch.no_grad():
        network(torch.cat([resized(path) for path in PICTURES]))
    return network.eval()


def resized(path, size=224):
    image = Image.open(path).convert("RGB").resize((size, size))
    tensor = torchvision.transforms.functional.to_tensor(image)
    return torchvision.transforms.functional.normalize(tensor, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])[None]


@pytest.fixture(scope="module", params=["mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"])
def classifier(request, tmp_path_factory):
    network = seeded(getattr(torchvision.models, request.param))
    path = tmp_path_factory.mktemp("seeded") / f"{request.param}.pth"
    torch.save(network.state_dict(), path)
    return network, goldcrest.load(path, device="cpu", arch=f"torchvision/{request.param}")


def test_logits(classifier):
    network, session = classifier
    tensor = torch.cat([resized(path) for path in PICTURES])
    with torch.no_grad():
        expected = network.double()(tensor.double()).numpy()
    for form in [tensor, tensor.numpy(), tensor.to(memory_format=torch.channels_last)]:
        found = session.run(form)
        assert error(found, expected) <= 3e-5
        for ours, theirs in zip(found, expected):
            assert set(np.argsort(ours)[-5:]) == set(np.argsort(theirs)[-5:])


def test_pictures_are_preprocessed_as_in_torchvision(classifier):
    network, session = classifier
    transform = torchvision.transforms._presets.ImageClassification(crop_size=224)
    for path in PICTURES:
        with torch.no_grad():
            logits = network.double()(transform(Image.open(path).convert("RGB"))[None].double())
        expected = torch.softmax(logits, 1)[0]
        for picture in [path, Image.open(path), np.asarray(Image.open(path).convert("RGB"))]:
            for found in session.classify(picture):
                assert found.probability == pytest.approx(float(expected[found.index]), abs=1e-3)


def test_tensors_that_cannot_be_shared(classifier):
    _, session = classifier
    with pytest.raises(ValueError, match="grad"):
        session.run(torch.zeros(1, 3, 64, 64, requires_grad=True))
    with pytest.raises(TypeError, match="float64"):
        session.run(torch.zeros(1, 3, 64, 64, dtype=torch.float64))
    if torch.cuda.is_available():
        with pytest.raises(ValueError, match="cannot be shared"):
            session.run(torch.zeros(1, 3, 64, 64, device="cuda"))


def test_pictures_of_torch(classifier):
    _, session = classifier
    pixels = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8)
    assert session.classify(pixels) == session.classify(pixels.numpy())
    assert len(session.classify(torch.stack([pixels, pixels]))) == 2


def test_segmenter(tmp_path):
    network = seeded(torchvision.models.segmentation.lraspp_mobilenet_v3_large, num_classes=21, weights_backbone=None)
    path = tmp_path / "lraspp.pth"
    torch.save(network.state_dict(), path)
    session = goldcrest.load(path, device="cpu")
    tensor = resized(PICTURES[0], 257)
    with torch.no_grad():
        expected = network.double()(tensor.double())["out"].numpy()
    found = session.run(tensor)
    assert error(sample(found), sample(expected)) <= 3e-5
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.999
