"""Fashion-MNIST: 28 x 28 grey pictures of clothes in ten classes."""

import subprocess
from pathlib import Path

from study.datasets import _files as files
from study.datasets._idx import SIZES, VERIFIED, IdxFiles
from study.datasets.base import DataSet

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where dataset-fashion-mnist installs
APT_S = 600.0


def torchvision(scratch: Path) -> None:
    """torchvision's download into `scratch`."""
    with files.silence_limit():
        files.torchvision().FashionMNIST(scratch, download=True)


def debian(scratch: Path) -> None:
    """Debian's package, unpacked below `scratch`: no root, and no package lists but its own."""
    options = [f"Dir::State={scratch}/state", f"Dir::Cache={scratch}/cache"]
    options += ["APT::Sandbox::User=root"]  # or apt, run by root, drops its right to write here
    apt = ["apt-get", "-q", *(word for option in options for word in ("-o", option))]
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    _call([*apt, "update"], scratch)
    _call([*apt, "download", "dataset-fashion-mnist"], scratch)
    for package in scratch.glob("*.deb"):
        _call(["dpkg", "-x", package.name, "unpacked"], scratch)


def _call(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=APT_S)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{command[0]}: {error.stderr.decode(errors='replace')}") from error


FILES = IdxFiles(
    "fashion_mnist",
    ("fashion_mnist", "FashionMNIST/raw", DEBIAN),
    {
        "train": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "held_out": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "train labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "held_out labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    (torchvision, debian),
)
DATA_SET = DataSet(
    title="Fashion-MNIST",
    place=20,
    shape=(1, 28, 28),
    sizes=SIZES,
    read=FILES.read,
    verified=VERIFIED,
    source="Xiao et al. 2017, arXiv 1708.07747; MIT license",
    labels=FILES.labels,
)
