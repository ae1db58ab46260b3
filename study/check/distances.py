"""Extractors and data sets: is a distance here what it is elsewhere?"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from study import datasets as data
from study import features
from study.analysis.measured import PAPER
from study.check import replay
from study.check.rows import Check, Machine, NotTried, Off, require_within
from study.features import Extractor, inception
from study.measures.frechet import Moments, frechet_distance

IMAGES = 400
"""On each side, of the replay's: low-frequency fields, the same everywhere."""
RELATIVE = 1e-3
"""Processors and GPUs round features otherwise, by some 1e-5 of a distance."""
AS_TORCH_FIDELITY = 1e-5
"""Fewer images than features: its way through a singular product rounds otherwise."""
PAPER_TOLERANCE = 0.5
"""Which images the paper took is not known."""

# The distance between the first and the next 400 images, as every machine should find it.
KNOWN = {"lite0": 0.756738, "lite2": 148.634, "random": 0.00592856}


def sides() -> tuple[Tensor, Tensor]:
    """Two sets of grey images, uint8 (400, 1, 28, 28)."""
    fields = torch.from_numpy(replay.images()[: 2 * IMAGES])[:, None]
    return fields[:IMAGES], fields[IMAGES:]


def gaussian(images: Tensor, extractor: Extractor) -> Moments:
    """Mean and covariance of the images' features."""
    moments = Moments(extractor.dim)
    moments.update(extractor(images))
    return moments


def between(one: Moments, other: Moments) -> float:
    """The study's distance."""
    return frechet_distance(one.mean, one.covariance, other.mean, other.covariance)


def loaded(name: str, machine: Machine) -> Extractor:
    """An extractor on the device; NotTried where its weights are a download that is not here."""
    if name == "inception" and features.default() != "inception":
        raise NotTried("no Inception weights here; features inception need them")
    return features.load(name, machine.device)


def known(name: str, machine: Machine) -> str:
    """Weights and recipe are the study's: the distance of known images is the known one."""
    extractor = loaded(name, machine)
    found = between(*(gaussian(side, extractor) for side in sides()))
    apart = abs(found / KNOWN[name] - 1)
    try:
        said = require_within(f"{found:.6g} for {KNOWN[name]:.6g}: apart by", apart, RELATIVE)
    except Off as off:
        raise Off(f"{off}: these are other features than the study's {name}") from None
    return said


def beside_torch_fidelity(name: str, machine: Machine) -> str:
    """The distance is torch-fidelity's, of its own features where it has the extractor."""
    from torch_fidelity.metric_fid import (  # noqa: PLC0415 (its import takes seconds)
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    extractor = loaded(name, machine)
    theirs = own_inception(machine) if name == "inception" else extractor
    statistics = [fid_features_to_statistics(theirs(side).cpu()) for side in sides()]
    wanted = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    found = between(*(gaussian(side, extractor) for side in sides()))
    return require_within(
        f"{found:.6g} for its {wanted:.6g}: apart by", abs(found / wanted - 1), AS_TORCH_FIDELITY
    )


def own_inception(machine: Machine) -> Callable[[Tensor], Tensor]:
    """torch-fidelity's Inception with the same weights: grey images -> features (N, 2048)."""
    from torch_fidelity.feature_extractor_inceptionv3 import (  # noqa: PLC0415
        FeatureExtractorInceptionV3,
    )

    network = FeatureExtractorInceptionV3(
        "check", ["2048"], feature_extractor_weights_path=str(inception.weights_path())
    ).to(machine.device)

    def extract(images: Tensor) -> Tensor:
        colour = images.expand(-1, 3, -1, -1).to(machine.device)
        return torch.cat([network(part)[0] for part in torch.split(colour, 50)])

    return extract


def real_against_real(machine: Machine) -> str:
    """Inception, 10,000 real Fashion-MNIST images against 10,000 others, beside the paper's."""
    if not machine.device.startswith("cuda"):
        raise NotTried("20,000 images through Inception are a matter for a GPU")
    extractor = loaded("inception", machine)
    train, held_out = (data.load("fashion_mnist", split) for split in ("train", "held_out"))
    sides = []
    for images in (train[: len(held_out)], held_out):
        moments = Moments(extractor.dim)
        for part in torch.split(images, 1000):
            moments.update(extractor(part))
        sides.append(moments)
    found, paper = between(*sides), PAPER["fashion_mnist"]
    said = f"{found:.3f} beside the paper's {paper:.2f} (as recalled in analysis/measured.py)"
    if not abs(found - paper) <= PAPER_TOLERANCE:
        raise Off(f"{said}, apart by more than {PAPER_TOLERANCE}")
    return said


CHECKS = [
    *(Check("distances", f"{name} is the study's", partial(known, name)) for name in KNOWN),
    *(
        Check("distances", f"{name} beside torch-fidelity", partial(beside_torch_fidelity, name))
        for name in ("lite0", "inception")
    ),
    Check("distances", "real against real, Inception", real_against_real),
]
