"""Trials an hour on the whole machine, training and evaluation together, beside two peers.

A trial is a run of the sweep `mini`: NS GAN, Fashion-MNIST, width 1/4, its D steps (G's turn every
step), and at each of its evaluations the Fréchet distance of its generated images to held-out ones
in EfficientNet-Lite0's features. The study's run also takes the distances to training images and to
the second held-out part, writes curves, samples and checkpoints; a peer's trial is its trainer with
its own logging, then torch-fidelity's `calculate_metrics` with that network as its package has it
and the real side cached. Everybody gets one process of one thread for every core. Wall-clock time
from the first process's start to the last one's end: run it on a machine that does nothing else.

Run it by `make bench`, or `python benchmarks/trials.py [trials a worker]`.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import common
import peers
import torch
from evaluation import lite0_as_packaged
from step import networks
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset
from torch_fidelity import FeatureExtractorBase, calculate_metrics, register_feature_extractor
from torch_mimicry.training.trainer import Trainer as MimicryTrainer
from torchgan.trainer import Trainer

from study import datasets as data
from study.settings.config import BATCH_SIZE, load_sweep

MINI = load_sweep("mini")
SCHEDULE = MINI.datasets["fashion_mnist"]
SHAPE = data.image_shape("fashion_mnist")
TRAINERS = ("torchgan", "torch-mimicry")

Generate = Callable[[int], Tensor]
"""Number of images -> images (N, C, H, W) in [0, 1]."""


# --- A peer's trial -------------------------------------------------------------------------------


class Lite0(FeatureExtractorBase):  # type: ignore[misc]
    """EfficientNet-Lite0 as torch-fidelity wants its extractors."""

    def __init__(self, name: str, features_list: list[str], **kwargs: object) -> None:
        super().__init__(name, features_list)
        self.call = lite0_as_packaged()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:  # noqa: D102
        return ("1280",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:  # noqa: D102
        return "1280"

    @staticmethod
    def can_be_compiled() -> bool:  # noqa: D102
        return False

    def forward(self, images: Tensor) -> tuple[Tensor]:  # noqa: D102
        return (self.call(images),)


class Pixels(Dataset[Tensor]):
    """Images (N, C, H, W), uint8, as torch-fidelity wants them: each with three channels."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index].expand(3, -1, -1)


def distance(generate: Generate) -> float:
    """The distance of generated images to held-out ones, by torch-fidelity."""
    real = data.load("fashion_mnist", "held_out")[: MINI.num_images]
    fake = torch.cat([generate(250) for _ in range(MINI.num_images // 250)])
    metrics = calculate_metrics(
        input1=Pixels(real),
        input2=Pixels(fake.mul(255).byte()),
        input1_cache_name="fashion_mnist-held_out",
        cache_root=str(Path("cache")),
        fid=True,
        feature_extractor="lite0",
        cuda=False,
        save_cpu_ram=True,  # no loading processes: the images lie in memory
        verbose=False,
    )
    return float(metrics["frechet_inception_distance"])


def batches() -> DataLoader[tuple[Tensor, ...]]:
    """The training images in memory, shuffled, as many as lie between two evaluations."""
    images = data.load("fashion_mnist", "train").float() / 255
    dataset = TensorDataset(images, torch.zeros(len(images)))
    sampler = RandomSampler(dataset, num_samples=BATCH_SIZE * SCHEDULE.evaluate_every)
    return DataLoader(dataset, BATCH_SIZE, sampler=sampler)


def torchgan_trial() -> None:
    """torchgan's trainer, evaluated as often as the study's run."""
    _, G, D = networks("ns", SHAPE, MINI.width)
    models = {
        "generator": (peers.TorchganGenerator, peers.in_torch_layers(G)),
        "discriminator": (peers.TorchganDiscriminator, peers.in_torch_layers(D)),
    }
    described = {
        name: {
            "name": partial(make, network),
            "optimizer": {"name": Adam, "args": {"lr": 1e-3, "betas": (0.5, 0.999)}},
        }
        for name, (make, network) in models.items()
    }
    cpu, losses = torch.device("cpu"), peers.TORCHGAN["ns"]()
    trainer = Trainer(described, losses, device=cpu, epochs=1, sample_size=64)
    loader = batches()
    for _ in range(SCHEDULE.d_steps // SCHEDULE.evaluate_every):
        trainer(loader)
        with torch.no_grad():
            distance(lambda n: trainer.generator.eval()(torch.randn(n, 64)))


def mimicry_trial() -> None:
    """torch-mimicry's trainer, evaluated as often as the study's run."""
    make_g, make_d = peers.mimicry_pair(gp=False)
    _, G, D = networks("ns", SHAPE, MINI.width)
    g, d = make_g(peers.in_torch_layers(G)), make_d(peers.in_torch_layers(D))
    optimisers = [Adam(network.parameters(), 1e-3, (0.5, 0.999)) for network in (d, g)]
    loader = batches()
    for part in range(SCHEDULE.d_steps // SCHEDULE.evaluate_every):
        steps, cpu = SCHEDULE.evaluate_every, torch.device("cpu")
        log = tempfile.mkdtemp(dir=".", prefix=f"log-{part}-")
        settings = {"log_dir": log, "device": cpu, "print_steps": steps}
        MimicryTrainer(d.train(), g.train(), *optimisers, loader, steps, **settings).train()
        with torch.no_grad():
            distance(g.eval().generate_images)


def peer_worker(name: str, count: int) -> None:
    """What one process of a peer does, in a folder of its own."""
    common.one_thread()
    register_feature_extractor("lite0", Lite0)
    trial = {"torchgan": torchgan_trial, "torch-mimicry": mimicry_trial}[name]
    for _ in range(count):
        trial()


# --- The whole machine ----------------------------------------------------------------------------


def seconds_of(commands: list[list[str]], results: Path) -> float:
    """Wall-clock seconds until commands that run side by side have all ended."""
    environment = os.environ | {"STUDY_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    environment["STUDY_DATA"] = str(data.data_folder().absolute())
    started = time.monotonic()
    processes = [
        subprocess.Popen(command, env=environment, cwd=results, stdout=subprocess.DEVNULL)
        for command in commands
    ]
    if any(process.wait() for process in processes):
        raise SystemExit("a trial failed")
    return time.monotonic() - started


def study_commands(workers: int, each: int) -> list[list[str]]:
    """The study's own driver and its workers."""
    script = Path(__file__).absolute().with_name("study_trials.py")
    return [[sys.executable, str(script), str(workers), str(workers * each)]]


def peer_commands(name: str, workers: int, each: int) -> list[list[str]]:
    """One process a worker, each with its share of the trials."""
    command = [sys.executable, str(Path(__file__).absolute()), "--peer", name, str(each)]
    return [command] * workers


def main() -> None:
    if sys.argv[1:2] == ["--peer"]:
        peer_worker(sys.argv[2], int(sys.argv[3]))
        return
    each = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    cores = len(os.sched_getaffinity(0))
    contestants = {
        "study": (cores, study_commands(cores, each)),
        "study, one worker": (1, study_commands(1, each)),
        **{name: (cores, peer_commands(name, cores, each)) for name in TRAINERS},
    }
    rows: common.Rows = []
    for name, (workers, commands) in contestants.items():
        with tempfile.TemporaryDirectory() as folder:
            seconds = seconds_of(commands, Path(folder))
        rate = 3600 * workers * each / seconds
        rows.append({"who": name, "workers": workers, "trials": workers * each, "wall s": seconds})
        rows[-1] |= {"trials/hour": rate}
    study = rows[0]["trials/hour"]
    for row in rows:
        row["study is faster by"] = study / row["trials/hour"]
    common.store("trials", rows)


if __name__ == "__main__":
    main()
