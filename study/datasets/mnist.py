"""MNIST: 28 x 28 grey pictures of handwritten digits."""

from pathlib import Path

from study.datasets import _files as files
from study.datasets._idx import SIZES, VERIFIED, IdxFiles
from study.datasets.base import DataSet


def torchvision(scratch: Path) -> None:
    """torchvision's download into `scratch`."""
    with files.silence_limit():
        files.torchvision().MNIST(scratch, download=True)


FILES = IdxFiles(
    "mnist",
    ("mnist", "MNIST/raw"),
    {
        "train": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "held_out": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "train labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "held_out labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    (torchvision,),
)
DATA_SET = DataSet(
    title="MNIST",
    place=10,
    shape=(1, 28, 28),
    sizes=SIZES,
    read=FILES.read,
    verified=VERIFIED,
    source="LeCun et al. 1998, http://yann.lecun.com/exdb/mnist",
    labels=FILES.labels,
)
