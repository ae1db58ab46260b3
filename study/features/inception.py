"""Inception of 2015-12-05, the network of FID (Heusel et al. 2017): 2,048 features.

The weights are a download of torch-fidelity's, which nothing here makes unasked.
"""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor

from study.errors import StudyError
from study.features._inception import fold, inception_network, scaled
from study.features.base import Extractor

WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
WEIGHTS_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS_FILE}"


WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def weights_path() -> Path:
    """Where the weights are looked for: $STUDY_INCEPTION, else torch hub's cache."""
    given = os.environ.get("STUDY_INCEPTION")
    return Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE


def extractor(device: torch.device) -> Extractor:
    """The extractor with the weights at `weights_path()`; missing or broken ones: StudyError.

    Its name is "inception" with the known weights alone, else it has their hash in it.
    """
    path = weights_path()
    with torch.device("meta"):  # no weights are drawn only to be overwritten
        network = inception_network()
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        kept = {k: v for k, v in weights.items() if not k.startswith("fc.")}
        network.load_state_dict(kept, assign=True)
        network.float()
    except FileNotFoundError:
        raise StudyError(
            f"no Inception weights at {path}; download {WEIGHTS_URL} to there or to a "
            "file that STUDY_INCEPTION names, or choose other features, such as lite0"
        ) from None
    except Exception as error:  # torch.load raises whatever the broken bytes lead it to
        raise StudyError(
            f"{path} holds no Inception weights ({type(error).__name__}); "
            f"download {WEIGHTS_URL} again"
        ) from None
    recipe = "Inception 2015-12-05, TF1 bilinear 299, (x - 128) / 128, pool_3"
    name = "inception" if sha256 == WEIGHTS_SHA256 else f"inception-{sha256[:8]}"
    # On a CPU more images at a time need more memory and are no faster.
    batch = 50 if device.type == "cuda" else 16
    found = Extractor(name, 2048, recipe, batch, 50 * 299**2, prepare, network, device)
    fold(network)  # its digest is taken: it stays that of the weights as they are known
    return found


def prepare(x: Tensor) -> Tensor:
    """To 299x299 as TensorFlow 1 scales bilinearly, then to [-1, 1)."""
    return scaled(x, 299).sub_(128).div_(128)
