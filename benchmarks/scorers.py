"""One contestant of scoring.py, a process of its own: `scorers.py WHO FEATURES REAL FAKE`.

It imports what that contestant needs alone, and prints JSON: the distance, and more.
"""

import json
import os
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from study import features


def study(name: str, real: str, fake: str) -> None:
    """`python -m study fid`, and the seconds that KID and the nearest neighbours take of it."""
    from study import cli  # noqa: PLC0415
    from study.measures import neighbours  # noqa: PLC0415

    taken = 0.0

    def timed(function: Callable[..., Any], *given: Any) -> Any:
        nonlocal taken
        started = time.process_time()
        result = function(*given)
        taken += time.process_time() - started
        return result

    for part in ("real_neighbours", "kid_and_precision_recall"):
        setattr(neighbours, part, partial(timed, getattr(neighbours, part)))
    sys.argv = ["study", "fid", real, fake, "--features", name, "--json"]
    try:
        cli.main()
    finally:
        print(json.dumps({"of which KID and k-NN s": taken}))


def torch_fidelity(name: str, real: str, fake: str) -> None:
    """torch-fidelity's `calculate_metrics`, asked for the distance alone."""
    import torch_fidelity as peer  # noqa: PLC0415

    class Lent(peer.FeatureExtractorBase):  # type: ignore[misc]
        """An extractor of the study's as torch-fidelity wants its own."""

        def __init__(self, name: str, features_list: list[str], **_: object) -> None:
            super().__init__(name, features_list)
            self.call = features.load(name)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("all",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "all"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        def forward(self, images: Tensor) -> tuple[Tensor]:
            return (self.call(images),)

    options: dict[str, Any] = {"feature_extractor_weights_path": os.environ["STUDY_INCEPTION"]}
    if name != "inception":
        peer.register_feature_extractor(name, Lent)
        options = {"feature_extractor": name, "batch_size": features.load(name).batch}
    options |= {"fid": True, "cuda": False, "cache": False}
    found = peer.calculate_metrics(input1=real, input2=fake, **options)
    print(json.dumps({"distance": float(found["frechet_inception_distance"])}))


def clean_fid(name: str, real: str, fake: str) -> None:
    """clean-fid's `compute_fid`."""
    sys.path.append(str(Path(__file__).parent / ".peers"))
    sys.modules["requests"] = types.ModuleType("requests")  # for its downloads alone
    from cleanfid import fid  # noqa: PLC0415

    from study.features._inception import inception_network  # noqa: PLC0415

    if name == "inception":
        network = inception_network().eval()
        weights = torch.load(os.environ["STUDY_INCEPTION"], weights_only=True)
        network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
        options: dict[str, Any] = {
            "mode": "legacy_pytorch",
            "custom_feat_extractor": lambda x: network((x - 128) / 128),
        }
    else:
        extractor = features.load(name)
        options = {
            "custom_feat_extractor": lambda x: extractor(x.byte()),
            "custom_fn_resize": lambda pixels: pixels,
            "batch_size": extractor.batch,
        }
    distance = fid.compute_fid(real, fake, device=torch.device("cpu"), **options)
    print(json.dumps({"distance": float(distance)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    contestants = {"study": study, "torch-fidelity": torch_fidelity, "clean-fid": clean_fid}
    try:
        contestants[sys.argv[1]](*sys.argv[2:])
    finally:
        status = Path("/proc/self/status").read_text()  # rusage would have the parent's peak in it
        print(json.dumps({"MiB": int(status.split("VmHWM:")[1].split()[0]) / 1024}))
