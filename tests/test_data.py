"""The loaders on small files in the sets' real formats: IDX, CIFAR's batches, CelebA's JPEGs."""

import gzip
import hashlib
import os
import pickle
import struct
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

from study import datasets as data
from study.datasets import celeba, fashion_mnist, mnist, triangles
from study.errors import StudyError

IDX = {"fashion_mnist": fashion_mnist.FILES, "mnist": mnist.FILES}
FETCHERS = {name: files.fetchers for name, files in IDX.items()}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and neither Debian's files nor any way to fetch."""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("STUDY_CELEBA", raising=False)
    assert fashion_mnist.FILES.places[-1] == fashion_mnist.DEBIAN
    places = (*fashion_mnist.FILES.places[:-1], tmp_path / "debian")
    monkeypatch.setattr(fashion_mnist.FILES, "places", places)
    for files in IDX.values():
        monkeypatch.setattr(files, "fetchers", ())
    return tmp_path / "data"


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def idx(images: np.ndarray) -> bytes:
    """The bytes of an IDX file: 0, 0, 8 (uint8), dimensions; their sizes; the pixels."""
    return struct.pack(f">4B{images.ndim}I", 0, 0, 8, images.ndim, *images.shape) + images.tobytes()


def expect(monkeypatch: pytest.MonkeyPatch, name: str, **sizes: int) -> None:
    monkeypatch.setitem(data.SETS, name, replace(data.SETS[name], sizes=sizes))


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


# ---- what is known without loading -------------------------------------------------------------


def test_names_shapes_and_sizes_are_the_papers() -> None:
    assert data.names() == ["celeba", "cifar10", "fashion_mnist", "mnist", "noise", "triangles"]
    known = {name: (data.image_shape(name), *data.sizes(name)) for name in data.names()}
    assert known == {
        "celeba": ((3, 64, 64), 162_770, 10_000),
        "cifar10": ((3, 32, 32), 50_000, 10_000),
        "fashion_mnist": ((1, 28, 28), 60_000, 10_000),
        "mnist": ((1, 28, 28), 60_000, 10_000),
        "noise": ((1, 28, 28), 512, 512),
        "triangles": ((1, 28, 28), 60_000, 10_000),
    }


def test_noise_is_the_same_everywhere_and_its_parts_differ() -> None:
    train, held_out = (data.load("noise", split) for split in ("train", "held_out"))
    assert md5(train.numpy().tobytes()) == "5a0ebdcc242016bb69c5736b07546e13"
    assert not torch.equal(train, held_out)


def test_unknown_names_and_splits_list_what_is_allowed() -> None:
    allowed = "celeba, cifar10, fashion_mnist, mnist, noise, triangles"
    for ask in (data.image_shape, data.sizes, data.summary, lambda name: data.load(name, "train")):
        with pytest.raises(StudyError, match=f"^unknown data set 'x'; allowed: {allowed}$"):
            ask("x")
    with pytest.raises(StudyError, match="unknown split 'test' of mnist; allowed: train, held_out"):
        data.load("mnist", "test")


def test_the_data_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_DATA", "/somewhere")
    assert data.data_folder() == Path("/somewhere")
    monkeypatch.delenv("STUDY_DATA")
    assert data.data_folder() == Path("data")


# ---- IDX ---------------------------------------------------------------------------------------


@pytest.fixture
def small_idx(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Tiny Fashion-MNIST and MNIST, whose sizes and hashes the module now expects."""
    images = {"train": random_images(7, 28, 28), "held_out": random_images(3, 28, 28)}
    hashes = {split: hashlib.sha256(idx(part)).hexdigest() for split, part in images.items()}
    for name in ("fashion_mnist", "mnist"):
        expect(monkeypatch, name, train=7, held_out=3)
        monkeypatch.setattr(IDX[name], "sha256", hashes)
    return images


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "place"),
    [("fashion_mnist", p) for p in ("fashion_mnist", "FashionMNIST/raw")]
    + [("mnist", p) for p in ("mnist", "MNIST/raw")],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_is_read_from_each_place(
    folder: Path, small_idx: dict[str, np.ndarray], name: str, place: str, suffix: str
) -> None:
    write(folder / place / f"train-images-idx3-ubyte{suffix}", idx(small_idx["train"]))
    write(folder / place / f"t10k-images-idx3-ubyte{suffix}", idx(small_idx["held_out"]))
    for split, images in small_idx.items():
        loaded = data.load(name, split)
        assert loaded.dtype == torch.uint8
        assert loaded.shape == (len(images), 1, 28, 28)
        np.testing.assert_array_equal(loaded.numpy()[:, 0], images)


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_labels_of_idx(
    folder: Path, small_idx: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    classes = np.array([3, 1, 4, 1, 5, 9, 2], np.uint8)
    monkeypatch.setitem(IDX[name].sha256, "train labels", hashlib.sha256(idx(classes)).hexdigest())
    path = write(folder / name / "train-labels-idx1-ubyte.gz", idx(classes))
    labels = data.labels(name, "train")
    assert labels.dtype == torch.uint8
    assert labels.tolist() == [3, 1, 4, 1, 5, 9, 2]
    write(path, idx(classes[::-1]))
    with pytest.raises(StudyError, match=f"^{path} .*sha256"):
        data.labels(name, "train")


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_the_real_fashion_mnist_has_as_many_of_each_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist.FILES, "places", (fashion_mnist.DEBIAN,))
    labels = data.labels("fashion_mnist", "held_out")
    assert labels.bincount().tolist() == [1000] * 10
    assert labels[:3].tolist() == [9, 2, 1]


def test_unknown_labels_are_told() -> None:
    with pytest.raises(StudyError, match="'triangles' has no classes; allowed: cifar10, fashion_"):
        data.labels("triangles", "train")
    with pytest.raises(StudyError, match="unknown split 'test' of mnist; allowed: train, held_out"):
        data.labels("mnist", "test")


def test_the_data_folder_goes_before_debian_and_debian_before_fetching(
    folder: Path, tmp_path: Path, small_idx: dict[str, np.ndarray]
) -> None:
    debian = write(tmp_path / "debian/train-images-idx3-ubyte.gz", idx(small_idx["train"]))
    assert data.SETS["fashion_mnist"].read("train", folder)[1] == debian
    assert not folder.exists()  # nothing was copied
    own = write(folder / "fashion_mnist/train-images-idx3-ubyte", idx(small_idx["train"]))
    assert data.SETS["fashion_mnist"].read("train", folder)[1] == own


def test_torchvision_is_asked_before_debians_mirror() -> None:
    assert FETCHERS["fashion_mnist"] == (fashion_mnist.torchvision, fashion_mnist.debian)
    assert FETCHERS["mnist"] == (mnist.torchvision,)


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_the_real_fashion_mnist_has_its_published_mean(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist.FILES, "places", (fashion_mnist.DEBIAN,))
    assert data.load("fashion_mnist", "held_out").shape == (10_000, 1, 28, 28)
    train = data.load("fashion_mnist", "train")
    assert train.shape == (60_000, 1, 28, 28)
    assert train.sum().item() / train.numel() / 255 == pytest.approx(0.2860, abs=5e-5)


def test_corrupt_idx_names_file_and_both_hashes(
    folder: Path, small_idx: dict[str, np.ndarray]
) -> None:
    content = idx(small_idx["train"][::-1])
    path = write(folder / "mnist/train-images-idx3-ubyte", content)
    found, wanted = hashlib.sha256(content).hexdigest(), mnist.FILES.sha256["train"]
    with pytest.raises(StudyError) as error:
        data.load("mnist", "train")
    assert str(error.value).startswith(
        f"{path} (unpacked): sha256 is {found}, wanted {wanted}; del"
    )


@pytest.mark.parametrize("torn", [b"", b"no gzip", gzip.compress(bytes(99), mtime=0)[:-9]])
def test_a_torn_gz_is_named(folder: Path, torn: bytes) -> None:
    path = folder / "mnist/train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(torn)
    with pytest.raises(StudyError, match=f"^{path}"):
        data.load("mnist", "train")


def test_a_missing_set_says_what_to_put_where(folder: Path) -> None:
    with pytest.raises(StudyError) as error:
        data.load("fashion_mnist", "train")
    assert str(folder / "fashion_mnist") in str(error.value)
    assert "put train-images-idx3-ubyte, t10k-images-idx3-ubyte, " in str(error.value)
    assert "\n" not in str(error.value)


# ---- fetching ----------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a web server on this machine that serves `tmp_path`."""
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def fails(scratch: Path) -> None:
    raise RuntimeError("no\nnetwork")


def test_the_next_source_serves_where_one_fails_or_is_corrupt(
    folder: Path, small_idx: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def corrupt(scratch: Path) -> None:
        asked.append("corrupt")
        write(scratch / "train-images-idx3-ubyte.gz", b"other")

    def whole(scratch: Path) -> None:
        asked.append("whole")
        write(scratch / "usr/train-images-idx3-ubyte.gz", idx(small_idx["train"]))
        write(scratch / "usr/t10k-images-idx3-ubyte.gz", idx(small_idx["held_out"]))

    monkeypatch.setattr(fashion_mnist.FILES, "fetchers", (fails, corrupt, whole))
    for split, images in small_idx.items():
        np.testing.assert_array_equal(data.load("fashion_mnist", split)[:, 0].numpy(), images)
    assert asked == ["corrupt", "whole"]  # the second split was there already
    names = ["t10k-images-idx3-ubyte", "train-images-idx3-ubyte"]
    assert sorted(path.name for path in (folder / "fashion_mnist").iterdir()) == names
    assert [path.name for path in folder.iterdir()] == ["fashion_mnist"]  # no scratch is left


def test_failures_of_all_sources_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist.FILES, "fetchers", (fails, lambda scratch: None))
    with pytest.raises(StudyError) as error:
        data.load("mnist", "held_out")
    assert "(fails: no network; " in str(error.value)
    assert "\n" not in str(error.value)


def test_processes_at_once_do_not_trip_over_each_other(
    folder: Path, small_idx: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(scratch: Path) -> None:
        write(scratch / "train-images-idx3-ubyte", idx(small_idx["train"]))
        write(scratch / "t10k-images-idx3-ubyte", idx(small_idx["held_out"]))

    monkeypatch.setattr(mnist.FILES, "fetchers", (fetch,))
    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(lambda _: data.load("mnist", "train"), range(32)))
    assert all(np.array_equal(part[:, 0], small_idx["train"]) for part in loaded)
    assert [path.name for path in folder.iterdir()] == ["mnist"]


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist"])
def test_torchvisions_download_is_used(
    tmp_path: Path,
    server: str,
    small_idx: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    kind = {"fashion_mnist": FashionMNIST, "mnist": MNIST}[name]
    labels = {split: np.zeros(len(part), np.uint8) for split, part in small_idx.items()}
    contents = {
        "train-images-idx3-ubyte.gz": idx(small_idx["train"]),
        "train-labels-idx1-ubyte.gz": idx(labels["train"]),
        "t10k-images-idx3-ubyte.gz": idx(small_idx["held_out"]),
        "t10k-labels-idx1-ubyte.gz": idx(labels["held_out"]),
    }
    paths = [write(tmp_path / "mirror" / file, content) for file, content in contents.items()]
    monkeypatch.setattr(kind, "mirrors", [f"{server}/mirror/"])
    monkeypatch.setattr(kind, "resources", [(p.name, md5(p.read_bytes())) for p in paths])
    monkeypatch.setattr(IDX[name], "fetchers", FETCHERS[name][:1])
    np.testing.assert_array_equal(data.load(name, "train")[:, 0].numpy(), small_idx["train"])


def test_debians_package_is_unpacked_without_root(
    tmp_path: Path, small_idx: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stand-ins for apt-get and dpkg that only do what the real ones were seen to do."""
    package = tmp_path / "package"
    write(package / "train-images-idx3-ubyte.gz", idx(small_idx["train"]))
    write(package / "t10k-images-idx3-ubyte.gz", idx(small_idx["held_out"]))
    download = '*" download dataset-fashion-mnist") touch fashion.deb'
    apt = f'case "$*" in *" update") ;; {download} ;; *) exit 9 ;; esac'
    dpkg = f'test "$1 $2" = "-x fashion.deb" && mkdir "$3" && cp {package}/* "$3"'
    for name, line in {"apt-get": apt, "dpkg": dpkg}.items():
        path = write(tmp_path / "bin" / name, f"#!/bin/sh\n{line}\n".encode())
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(fashion_mnist.FILES, "fetchers", (fashion_mnist.debian,))
    loaded = data.load("fashion_mnist", "held_out")
    np.testing.assert_array_equal(loaded[:, 0].numpy(), small_idx["held_out"])


def test_what_apt_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt = write(tmp_path / "bin/apt-get", b"#!/bin/sh\necho E: no such package >&2; exit 100\n")
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(fashion_mnist.FILES, "fetchers", (fashion_mnist.debian,))
    with pytest.raises(StudyError, match="debian: apt-get: E: no such package"):
        data.load("fashion_mnist", "train")


@pytest.mark.parametrize("name", ["mnist", "triangles"])
def test_an_unwritable_data_folder_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(mnist.FILES, "fetchers", (fails,))
    folder.write_text("a file stands where the folder should be")
    with pytest.raises(StudyError, match=rf"cannot write into the data folder {folder} .*STUDY_"):
        data.load(name, "train")


# ---- CIFAR-10 ----------------------------------------------------------------------------------


@pytest.fixture
def cifar_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """A tiny cifar-10-python.tar.gz as the real one is laid out, and its 12 images (12, 3072)."""
    images = random_images(12, 3072)
    base = tmp_path / "made/cifar-10-batches-py"
    base.mkdir(parents=True)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for i, name in enumerate(names):
        batch = {"data": images[2 * i : 2 * i + 2], "labels": [0, 1]}
        (base / name).write_bytes(pickle.dumps(batch, protocol=2))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    hashes = [[name, md5((base / name).read_bytes())] for name in names]
    archive = tmp_path / "made/cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(base, base.name)
    meta = CIFAR10.meta | {"md5": md5((base / "batches.meta").read_bytes())}
    monkeypatch.setattr(CIFAR10, "train_list", hashes[:5])
    monkeypatch.setattr(CIFAR10, "test_list", hashes[5:])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive.read_bytes()))
    monkeypatch.setattr(CIFAR10, "url", "file:///nowhere/cifar-10-python.tar.gz")
    expect(monkeypatch, "cifar10", train=10, held_out=2)
    return archive, images


def test_cifar10_is_unpacked_from_the_archive_in_the_folder(
    folder: Path, cifar_archive: tuple[Path, np.ndarray]
) -> None:
    archive, images = cifar_archive
    write(folder / "x", b"")
    archive.rename(folder / archive.name)
    train, held_out = data.load("cifar10", "train"), data.load("cifar10", "held_out")
    assert data.labels("cifar10", "train").tolist() == [0, 1] * 5
    assert train.dtype == torch.uint8
    assert train.is_contiguous()
    np.testing.assert_array_equal(train.numpy(), images[:10].reshape(10, 3, 32, 32))
    np.testing.assert_array_equal(held_out.numpy(), images[10:].reshape(2, 3, 32, 32))
    assert sorted(p.name for p in folder.iterdir()) == [
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        "x",
    ]


def test_cifar10_is_downloaded_by_torchvision(
    server: str, cifar_archive: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, images = cifar_archive
    monkeypatch.setattr(CIFAR10, "url", f"{server}/made/{archive.name}")
    loaded = data.load("cifar10", "held_out")
    np.testing.assert_array_equal(loaded.numpy(), images[10:].reshape(2, 3, 32, 32))


def test_cifar10_missing_or_corrupt_is_told(
    folder: Path, cifar_archive: tuple[Path, np.ndarray]
) -> None:
    with pytest.raises(StudyError, match=f"put cifar-10-python.tar.gz .* into {folder}$"):
        data.load("cifar10", "train")
    folder.mkdir(exist_ok=True)
    cifar_archive[0].rename(folder / "cifar-10-python.tar.gz")
    data.load("cifar10", "train")
    batch = folder / "cifar-10-batches-py/data_batch_3"
    batch.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    wanted = CIFAR10.train_list[2][1]
    with pytest.raises(StudyError) as error:
        data.load("cifar10", "held_out")
    found = md5(batch.read_bytes())
    assert str(error.value).startswith(f"{batch}: md5 is {found}, wanted {wanted}; delete it")
    batch.unlink()
    assert data.load("cifar10", "train").shape == (10, 3, 32, 32)  # put back from the archive


# ---- CelebA ------------------------------------------------------------------------------------


@pytest.fixture
def celeba_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six JPEGs of greys 20, 40, ... 120 and their partition (0 train, 1 validation, 2 test)."""
    source = tmp_path / "faces"
    (source / "img_align_celeba").mkdir(parents=True)
    flags = {1: 0, 2: 1, 3: 0, 4: 2, 5: 1, 6: 1}
    rows = [f"{i:06}.jpg {flag}" for i, flag in flags.items()]
    (source / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    for i in flags:
        picture = np.full((218, 178, 3), 20 * i, np.uint8)
        Image.fromarray(picture).save(source / f"img_align_celeba/{i:06}.jpg", quality=95)
    digest = md5((source / "list_eval_partition.txt").read_bytes())
    monkeypatch.setattr(celeba, "PARTITION_MD5", digest)
    monkeypatch.setattr(celeba, "SIZES", {"train": 2, "held_out": 2})
    expect(monkeypatch, "celeba", train=2, held_out=2)
    monkeypatch.setenv("STUDY_CELEBA", str(source))
    return source


def test_celeba_takes_train_and_the_first_of_the_validation_part(celeba_folder: Path) -> None:
    train, held_out = data.load("celeba", "train"), data.load("celeba", "held_out")
    assert train.dtype == torch.uint8
    assert train.shape == (2, 3, 64, 64)
    assert train.amin((1, 2, 3)).tolist() == train.amax((1, 2, 3)).tolist() == [20, 60]
    assert held_out[:, 0, 0, 0].tolist() == [40, 100]  # 6 is beyond the held-out count


def test_celeba_may_lie_in_the_data_folder_without_a_subfolder(
    folder: Path, celeba_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STUDY_CELEBA")
    folder.mkdir()
    celeba_folder.rename(folder / "celeba")
    for jpeg in (folder / "celeba/img_align_celeba").iterdir():
        jpeg.rename(folder / "celeba" / jpeg.name)
    (folder / "celeba/img_align_celeba").rmdir()
    assert data.load("celeba", "train")[:, 0, 0, 0].tolist() == [20, 60]


def test_celeba_is_read_from_its_cache_afterwards(folder: Path, celeba_folder: Path) -> None:
    first = data.load("celeba", "train")
    for jpeg in (celeba_folder / "img_align_celeba").iterdir():
        jpeg.unlink()
    assert torch.equal(data.load("celeba", "train"), first)
    with pytest.raises(StudyError, match=r"000002.jpg: cannot be read as an image"):
        data.load("celeba", "held_out")


def test_celeba_crop_is_bilinear_at_two_and_a_half_pixels() -> None:
    photo = random_images(218, 178, 3)
    at = 2.5 * np.arange(64)
    grid = np.meshgrid(29 + at, 9 + at, indexing="ij")
    channels = [map_coordinates(photo[..., c].astype(float), grid, order=1) for c in range(3)]
    np.testing.assert_array_equal(celeba.crop(photo), np.rint(channels))
    column, row = np.arange(178), np.arange(218)
    ramp = np.broadcast_to(column[None, :, None], (218, 178, 3)).astype(np.uint8)
    assert celeba.crop(ramp)[0, 5, :5].tolist() == [9, 12, 14, 16, 19]  # 9 + 2.5 j, to even
    ramp = np.broadcast_to(row[:, None, None], (218, 178, 3)).astype(np.uint8)
    assert celeba.crop(ramp)[2, :5, 5].tolist() == [29, 32, 34, 36, 39]


def test_bad_celeba_files_are_named(
    folder: Path, celeba_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jpeg = celeba_folder / "img_align_celeba/000001.jpg"
    Image.new("RGB", (178, 200)).save(jpeg)
    with pytest.raises(StudyError, match=rf"^{jpeg}: \(200, 178, 3\), wanted \(218, 178, 3\)"):
        data.load("celeba", "train")
    jpeg.write_bytes((celeba_folder / "img_align_celeba/000002.jpg").read_bytes()[:900])
    with pytest.raises(StudyError, match=f"^{jpeg}: cannot be read as an image"):
        data.load("celeba", "train")
    partition = celeba_folder / "list_eval_partition.txt"
    partition.write_text("000001.jpg 0\n")
    with pytest.raises(StudyError, match=rf"^{partition}: md5 is \w+, wanted \w+; "):
        data.load("celeba", "train")
    monkeypatch.delenv("STUDY_CELEBA")
    with pytest.raises(StudyError, match=f"no {folder}/celeba/list_eval_.*put .*STUDY_CELEBA"):
        data.load("celeba", "train")


def test_fewer_images_than_the_set_has_are_told(
    celeba_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect(monkeypatch, "celeba", train=5, held_out=2)
    with pytest.raises(StudyError, match=r"shape \(2, 3, 64, 64\), wanted \(5, 3, 64, 64\)"):
        data.load("celeba", "train")


# ---- triangles ---------------------------------------------------------------------------------


@pytest.fixture
def few_triangles(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"train": 9, "held_out": 5, "hold_out": 4}
    monkeypatch.setattr(triangles, "SIZES", few)
    expect(monkeypatch, "triangles", **few)


@pytest.mark.usefixtures("few_triangles")
def test_triangles_are_drawn_once_and_then_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = ("train", "held_out", "hold_out")
    parts = {split: data.load("triangles", split).clone() for split in splits}
    for split, part in parts.items():
        drawn = triangles.render(triangles.split_vertices(split))
        np.testing.assert_array_equal(part.numpy(), drawn)
    monkeypatch.setattr(triangles, "render", fails)
    assert torch.equal(data.load("triangles", "hold_out"), parts["hold_out"])
    monkeypatch.setattr(triangles, "VERSION", triangles.VERSION + 1)
    with pytest.raises(RuntimeError):
        data.load("triangles", "hold_out")  # another version is drawn anew


@pytest.mark.usefixtures("few_triangles")
def test_images_are_in_memory_once_while_anyone_holds_them(folder: Path) -> None:
    first = data.load("triangles", "train")
    assert data.load("triangles", "train").data_ptr() == first.data_ptr()
    del first
    for path in folder.glob("triangles-*-train.npy"):
        path.write_bytes(b"")
    with pytest.raises(StudyError):
        data.load("triangles", "train")  # read anew


@pytest.mark.usefixtures("few_triangles")
def test_a_corrupt_cache_is_named_with_both_hashes(folder: Path) -> None:
    data.load("triangles", "train")
    path = folder / "triangles-v1-train.npy"
    wanted = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (folder / "triangles-v1-train.npy.sha256").read_text() == f"{wanted}  {path.name}\n"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(StudyError) as error:
        data.load("triangles", "train")
    assert str(error.value).startswith(f"{path}: sha256 is {found}, wanted {wanted}; delete it")
    path.unlink()
    assert data.load("triangles", "train").shape == (9, 1, 28, 28)


@pytest.mark.usefixtures("few_triangles")
def test_summary_counts_every_part(folder: Path) -> None:
    summary = data.summary("triangles")
    assert summary["data"] == "triangles"
    assert summary["image"].startswith("1 x 28 x 28")
    mean = data.load("triangles", "held_out").float().mean()
    path = folder / "triangles-v1-held_out.npy"
    assert summary["held_out"] == f"5 images, mean {mean:.2f} of 255, from {path}"
    assert "sha256" in summary["verified"]
    assert "authors" in summary["source"]
