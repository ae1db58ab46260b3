"""Anybody's folder of images as a data set, and the reader that it shares with `fid`."""

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin
from test_sweep import TINY
from typer.testing import CliRunner

from study import cli as commands
from study import datasets as data
from study.analysis import scores
from study.datasets import folder as own
from study.datasets import images
from study.errors import StudyError
from study.measures import of_a_generator as measure
from study.runs import checks, progress
from study.runs.plan import as_others
from study.runs.plan import plan as plan_of
from study.settings import config


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(own, "LEAST", {"train": 4, "held_out": 2})
    return tmp_path / "data"


def picture(seed: int = 0, width: int = 40, height: int = 24, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels.squeeze())


def make(folder: Path, n: int = 20, **more: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(n):
        picture(seed, **more).save(folder / f"{seed:03d}.png")
    return folder


def add(name: str, source: Path, size: int = 16, **more: Any) -> Any:
    return own.add(name, source, data.data_folder(), size=size, **more)


# --- A folder becomes a data set


def test_a_folder_is_a_data_set_afterwards(tmp_path: Path) -> None:
    added = add("pets", make(tmp_path / "a"))
    assert added.sizes == {"held_out": 2, "train": 18}
    assert "pets" in data.names()
    assert data.sizes("pets") == (18, 2)
    assert data.image_shape("pets") == (3, 16, 16)
    parts = {split: data.load("pets", split) for split in ("train", "held_out")}
    assert {part.dtype for part in parts.values()} == {torch.uint8}
    stored = {image.numpy().tobytes() for part in parts.values() for image in part}
    made = (images.fitted(path, 16).pixels for path in sorted((tmp_path / "a").iterdir()))
    assert stored == {pixels.transpose(2, 0, 1).tobytes() for pixels in made}
    with pytest.raises(StudyError, match="'pets' has no classes"):
        data.labels("pets", "train")
    assert "sha256" in data.summary("pets")["verified"]


def test_other_images_by_the_same_name_have_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that rows tell what they were trained on."""
    add("pets", make(tmp_path / "a"))
    digest = data.digest("pets")
    sha256 = hashlib.sha256()
    for split, n in (("train", 18), ("held_out", 2)):
        sha256.update(f"({n}, 3, 16, 16)".encode() + data.load("pets", split).numpy().tobytes())
    assert digest == sha256.hexdigest()[:16]
    assert data.summary("pets")["digest"] == digest
    picture(99).save(tmp_path / "a" / "000.png")
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "elsewhere"))
    add("pets", tmp_path / "a")
    assert data.digest("pets") != digest


def test_the_split_is_drawn_by_a_seed_from_all_of_the_folder(tmp_path: Path) -> None:
    source = make(tmp_path / "a", 40)
    for name in ("one", "two"):
        add(name, source, held_out=10)
    assert torch.equal(data.load("one", "held_out"), data.load("two", "held_out"))
    paths = sorted(source.iterdir())
    order = {images.fitted(p, 16).pixels.tobytes(): i for i, p in enumerate(paths)}
    held_out = [order[x.permute(1, 2, 0).numpy().tobytes()] for x in data.load("one", "held_out")]
    assert len(held_out) == 10
    assert held_out != sorted(held_out)
    assert max(held_out) - min(held_out) > 20
    assert data.sizes("one") == (30, 10)


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for place, name in enumerate(("cat", "dog")):
        for seed in range(8):
            folder = tmp_path / "a" / name / "deeper"
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (20, 20), 100 * place + seed).save(folder / f"{seed}.png")
    added = add("pets", tmp_path / "a")
    assert added.classes == ("cat", "dog")
    assert "2 classes, the subfolders' names: cat, dog" in own.report("pets", added)
    for split in ("train", "held_out"):
        is_dog = data.load("pets", split).amax(dim=(1, 2, 3)) >= 100
        assert data.labels("pets", split).tolist() == is_dog.long().tolist()


def test_images_beside_the_subfolders_leave_no_classes(tmp_path: Path) -> None:
    make(tmp_path / "a", 3)
    for name in ("cat", "dog"):
        make(tmp_path / "a" / name, 5)
    added = add("pets", tmp_path / "a", held_out=2)
    assert sum(added.sizes.values()) == 13
    assert added.classes == ()
    assert data.find("pets").labels is None
    said = "no classes: 3 images lie beside the subfolders, the first: 000.png"
    assert said in own.report("pets", added)


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (range(256), "256 classes, the subfolders' names"),
        (range(257), "no classes: 257 subfolders; at most 256 can be classes"),
        (range(12), f"12 classes, the subfolders' names: {', '.join(sorted(map(str, range(12))))}"),
        (["a/cat", "a/dog"], "no classes: all images lie in one subfolder, a; if classes lie in "),
        (["train/cat", "test/cat"], "2 classes, the subfolders' names: test, train"),
        (["."], None),
    ],
)
def test_why_there_are_no_classes_is_said_and_few_are_named(
    tmp_path: Path, folders: Any, said: str | None
) -> None:
    for name in folders:
        make(tmp_path / "a" / str(name), max(1, 40 // len(folders)), width=8, height=8)
    lines = [*own.report("pets", add("pets", tmp_path / "a", 8))]
    found = [line for line in lines if " classes" in line]
    if said is None:
        assert found == []
    else:
        (line,) = found
        assert line.startswith(said)
        assert line.endswith(said) or said.endswith(" ")


def test_names_that_are_not_utf_8_are_written_as_their_bytes(
    tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """In Latin-1, as old archives leave them."""
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    for name in (b"th\xe9", b"tea"):
        make(source / os.fsdecode(name), 6)
    (source / "tea" / os.fsdecode(b"\xe9.png")).write_text("no image")
    (source / "tea" / os.fsdecode(b"a.\xe9")).write_text("")
    options = ("--size", "8", "--skip-bad", "--held-out", "3")
    code, printed = call(monkeypatch, capsys, "add", "pets", str(source), *options)
    assert code == 0
    kept = json.loads((data_folder / "own/pets/data_set.json").read_text())
    assert kept["classes"] == ["tea", r"th\xe9"]
    assert kept["source"] == rf"{tmp_path.resolve()}/caf\xe9"
    assert r"2 classes, the subfolders' names: tea, th\xe9" in printed.out
    assert r"caf\xe9/tea/\xe9.png: cannot be read" in printed.out
    assert r"1 .\xe9 files left out" in printed.out
    labels = torch.cat([data.labels("pets", part) for part in ("train", "held_out")])
    assert sorted(labels.tolist()) == [0] * 6 + [1] * 6


@pytest.mark.parametrize("as_what", ["L", "RGB"])
def test_grey_images_make_a_grey_data_set_whatever_their_mode(tmp_path: Path, as_what: str) -> None:
    (tmp_path / "a").mkdir()
    for seed in range(9):
        picture(seed, channels=1).convert(as_what).save(tmp_path / f"a/{seed}.png")
    assert add("grey", tmp_path / "a", held_out=2).grey
    assert data.image_shape("grey") == (1, 16, 16)
    assert data.load("grey", "train").shape == (7, 1, 16, 16)
    picture(99).save(tmp_path / "a/z.png")
    assert not add("colour", tmp_path / "a", held_out=2).grey
    assert data.load("colour", "train").shape[1:] == (3, 16, 16)


def test_repeated_images_are_counted(tmp_path: Path) -> None:
    source = make(tmp_path / "a", 10)
    for path in list(source.iterdir()):
        (source / f"again-{path.name}").write_bytes(path.read_bytes())
    added = add("pets", source, held_out=10)
    assert added.repeats == 10
    held_out = {x.numpy().tobytes() for x in data.load("pets", "held_out")}
    in_both = sum(x.numpy().tobytes() in held_out for x in data.load("pets", "train"))
    assert added.in_both == in_both > 0
    assert any(line.startswith("10 images equal another one") for line in own.report("x", added))


def test_every_sweep_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.replace("trials", "batch_size = 8\ntrials"))
    monkeypatch.setattr(config, "SWEEPS_FOLDER", tmp_path)
    tiny = config.load_sweep("tiny")
    add("pets", make(tmp_path / "a", 30), held_out=12)
    found = plan_of(tiny, ["ns"], ["pets"])
    name, first = next(iter(tiny.datasets.items()))
    assert {(c.dataset, c.d_steps, c.evaluate_every, c.num_images) for c in found} == {
        ("pets", first.d_steps, first.evaluate_every, 12)
    }
    said = f"pets: trained as long as {name} in sweep tiny, {first.d_steps} D steps, and measured "
    assert as_others(tiny, "pets").startswith(f"{said}with 12 images a side")
    monkeypatch.setattr(measure, "extractor_of", lambda name, device: None)
    checks.require_inputs(found)
    few = tiny.model_copy(update={"num_images": 11})
    assert {c.num_images for c in plan_of(few, ["ns"], ["pets"])} == {11}
    assert as_others(few, "pets") == said.removesuffix(", and measured ")
    assert {c.num_images for c in plan_of(tiny, ["ns"])} == {tiny.num_images}
    message = r"compares 13 images a side; pets has 18 to train on and 12 held out: hold out more"
    with pytest.raises(StudyError, match=message):
        checks.require_inputs([c.model_copy(update={"num_images": 13}) for c in found])
    assert scores.dataset_title("pets") == "pets"


def test_runs_on_other_images_of_that_name_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written; what the table has from before digests were kept may be."""
    (tmp_path / "tiny.toml").write_text(TINY.replace("trials", "batch_size = 8\ntrials"))
    monkeypatch.setattr(config, "SWEEPS_FOLDER", tmp_path)
    add("pets", make(tmp_path / "a", 30), held_out=12)
    found = plan_of(config.load_sweep("tiny"), ["ns"], ["pets"])
    row = {"loss": "ns", "dataset": "pets", "number": 0, "config": found[0].hash}
    for digest in (data.digest("pets"), None):
        progress.refuse_other_images(found, pd.DataFrame([row | {"data_digest": digest}]), tmp_path)
    was = pd.DataFrame([row | {"data_digest": "0123"}, row | {"data_digest": None}])
    with pytest.raises(StudyError, match=r"on other images than pets holds now \(digest 0123, now"):
        progress.refuse_other_images(found, was, tmp_path)
    others = was.assign(dataset="mnist")  # verified by the hashes of its files
    progress.refuse_other_images(
        plan_of(config.load_sweep("tiny"), ["ns"], ["mnist"]), others, tmp_path
    )
    monkeypatch.setattr(progress, "read_table", lambda *_: was.assign(status="ok", step=1))
    with pytest.raises(StudyError, match="on other images than pets holds now"):
        progress.prepare(found, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_fitting_names_only(tmp_path: Path) -> None:
    source = make(tmp_path / "a")
    add("pets", source)
    for name, message in (
        ("pets", "the name 'pets' is taken by"),
        ("mnist", "the name 'mnist' is taken"),
        ("../x", "names have 1 to 64"),
        ("a:b", "names have 1 to 64"),
        ("", "names have 1 to 64"),
    ):
        with pytest.raises(StudyError, match=message):
            add(name, source, taken=["mnist"])
    for strange in ("../a", "a/b", "..", ""):
        with pytest.raises(StudyError, match="unknown data set"):
            data.find(strange)


@pytest.mark.parametrize("size", [0, 4, 30, 132, -8])
def test_fitting_sizes_only(tmp_path: Path, size: int) -> None:
    with pytest.raises(StudyError, match=f"size = {size}: allowed are multiples of 4 from 8 to"):
        add("pets", make(tmp_path / "a", 9), size=size)


@pytest.mark.parametrize("size", own.SIZES_PX)
def test_networks_draw_every_size(size: int) -> None:
    from study.training.networks import Discriminator, Generator

    generator = Generator((1, size, size), 1 / 64)
    drawn = generator(torch.zeros(2, 64))
    assert drawn.shape == (2, 1, size, size)
    assert Discriminator((1, size, size), True, 1 / 64)(drawn).shape == (2,)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5, float("nan"), float("inf")])
def test_fitting_shares_only(tmp_path: Path, share: float) -> None:
    with pytest.raises(StudyError, match=r"held-out = .*: allowed are a share between 0 and 1"):
        add("pets", make(tmp_path / "a", 9), held_out=share)


def test_too_few_images(tmp_path: Path) -> None:
    message = "5 images, 2 of them held out; at least 4 to train on and 2 held-out"
    with pytest.raises(StudyError, match=message):
        add("pets", make(tmp_path / "a", 5), held_out=2)
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "none"):
        with pytest.raises(StudyError, match=r"no images there|no such folder"):
            add("pets", tmp_path / nothing)


def test_nothing_is_left_where_an_image_cannot_be_read(tmp_path: Path, data_folder: Path) -> None:
    source = make(tmp_path / "a", 12)
    (source / "005.png").write_bytes((source / "005.png").read_bytes()[:200])
    with pytest.raises(StudyError, match=r"005.png: cannot be read as an image .*--skip-bad"):
        add("pets", source, held_out=4)
    assert "pets" not in data.names()
    assert not list(data_folder.iterdir())
    added = add("pets", source, skip_bad=True, held_out=4)
    assert added.sizes == {"held_out": 4, "train": 7}
    assert [line for line in own.report("pets", added) if "1 image left out" in line]
    assert json.loads((data_folder / "own/pets/data_set.json").read_text())["left_out"] == 1


def test_too_many_bad_images(tmp_path: Path) -> None:
    source = make(tmp_path / "a", 8)
    for path in sorted(source.iterdir())[:5]:
        path.write_text("no image")
    with pytest.raises(StudyError, match="3 images"):
        add("pets", source, skip_bad=True, held_out=2)


@pytest.mark.parametrize(
    "change", [{"sizes": {}}, {"sizes": {"train": 70}}, {"more": 1}, {"left_out": -1}]
)
def test_one_damaged_data_set_harms_no_other(
    tmp_path: Path, data_folder: Path, change: dict[str, Any]
) -> None:
    add("pets", make(tmp_path / "a"))
    add("good", make(tmp_path / "b"))
    path = data_folder / "own/pets/data_set.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StudyError, match=r"pets/data_set.json: cannot be read \(.*\); remove"):
        data.sizes("pets")
    listed = CliRunner().invoke(commands.app, ["data"])
    assert listed.exit_code == 0
    assert re.search(r"^good: good, ", listed.stdout, re.MULTILINE)
    assert "pets" not in listed.stdout
    assert listed.stderr.count("\n") == 1


@pytest.mark.parametrize("damage", ["pixel", "torn", "gone", "sidecar", "empty sidecar"])
def test_damage_is_told_in_one_line(tmp_path: Path, data_folder: Path, damage: str) -> None:
    add("pets", make(tmp_path / "a"))
    array, sidecar = data_folder / "own/pets/train.npy", data_folder / "own/pets/data_set.json"
    if damage == "pixel":
        array.write_bytes(array.read_bytes()[:-1] + b"\7")
    elif damage == "torn":
        array.write_bytes(array.read_bytes()[:-99])
    elif damage == "gone":
        array.unlink()
    else:
        sidecar.write_text('{"shape": 3}' if damage == "sidecar" else "")
    with pytest.raises(StudyError, match="add the images again") as error:
        data.load("pets", "train")
    assert "\n" not in str(error.value)


def test_other_files_are_counted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    source = make(tmp_path / "a")
    (source / "labels.csv").write_text("")
    (source / "README").write_text("")
    (source / ".hidden.png").write_text("")
    (source / "loop").symlink_to(source)
    added = add("pets", source)
    assert added.others == {".csv files": 1, "other files": 1, "links to folders": 1}
    assert sum(added.sizes.values()) == 20


def test_the_progress_goes_to_the_end(tmp_path: Path) -> None:
    steps = []
    add("pets", make(tmp_path / "a"), progress=lambda done, of: steps.append((done, of)))
    assert steps == [(done, 20) for done in range(1, 21)]


# --- The reader


def png(header: bytes, content: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_the_central_square_is_scaled() -> None:
    wide = Image.new("RGB", (60, 20), "red")
    wide.paste("blue", (20, 0, 40, 20))
    assert (images._fitted(wide, 8).pixels == (0, 0, 255)).all()
    tall = wide.rotate(90, expand=True)
    assert (images._fitted(tall, 8).pixels == (0, 0, 255)).all()


def test_scaling_has_no_aliases(tmp_path: Path) -> None:
    """Stripes finer than the new pixels become their mean, a ramp stays one."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    assert np.ptp(images._fitted(Image.fromarray(stripes), 8).pixels[:, 1:-1]) <= 8
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    expected = ramp.reshape(64, 8, 8).mean(axis=2)[:8]
    found = images._fitted(Image.fromarray(ramp), 8).pixels[..., 0]
    np.testing.assert_allclose(found[:, 1:-1], expected[:, 1:-1], atol=1)


def test_an_image_of_that_size_stays_as_it_is(tmp_path: Path) -> None:
    picture(width=16, height=16).save(tmp_path / "a.png")
    assert np.array_equal(
        images.fitted(tmp_path / "a.png", 16).pixels, np.asarray(picture(0, 16, 16))
    )


@pytest.mark.parametrize(
    "suffix", ["png", "bmp", "gif", "ppm", "tiff", "webp", "tga", "jp2", "qoi"]
)
def test_formats(tmp_path: Path, suffix: str) -> None:
    grey = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    grey = grey.quantize(256) if suffix == "gif" else grey
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    grey.save(tmp_path / f"a.{suffix}", **options)
    (path,) = images.find(tmp_path).files
    for found in (images.read(path), images.fitted(path, 16)):
        assert np.array_equal(found.pixels[..., 0].ravel(), np.arange(256))


def test_jpegs_are_near_and_large_ones_the_same_at_a_fraction(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    large = Image.fromarray(ramp).resize((2048, 2048))
    large.save(tmp_path / "a.jpg", quality=95)
    found = images.fitted(tmp_path / "a.jpg", 32).pixels[..., 0].astype(int)
    expected = ramp.reshape(256, 32, 8).mean(axis=2)[:32]
    np.testing.assert_allclose(found[:, 1:-1], expected[:, 1:-1], atol=3)


def test_a_large_jpeg_is_decoded_at_four_times_the_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    picture(width=256, height=256).save(path, quality=95)
    with Image.open(path) as image:
        image.draft(None, (64, 64))
        image.load()
        assert image.size == (64, 64)
        expected = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(images.fitted(path, 16).pixels, expected)


@pytest.mark.parametrize(
    ("value", "is_read"), [(0, True), (65535, True), (65536, False), (-1, False)]
)
def test_more_than_16_bits_are_refused(tmp_path: Path, value: int, is_read: bool) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(
        np.full((8, 8), 257, np.int32) + np.eye(8, dtype=np.int32) * (value - 257)
    ).save(path)
    if is_read:
        grey = images.fitted(path, 8).pixels
        assert grey[0, 0, 0] == value // 257
        assert grey[0, 1, 0] == 1
    else:
        with pytest.raises(StudyError, match="more than 16 bits a channel"):
            images.fitted(path, 8)


@pytest.mark.parametrize("value", [0, 1, 9])
def test_an_orientation_that_turns_nothing_says_nothing(tmp_path: Path, value: int) -> None:
    exif = Image.Exif()
    exif[images.ORIENTATION] = value
    picture(width=16, height=16).save(tmp_path / "a.png", exif=exif)
    for found in (images.read(tmp_path / "a.png"), images.fitted(tmp_path / "a.png", 16)):
        assert found.notes == ()
        assert np.array_equal(found.pixels, np.asarray(picture(0, 16, 16)))


def test_exif_orientation_is_heeded(tmp_path: Path) -> None:
    upright = picture(width=12, height=8)
    exif = Image.Exif()
    exif[images.ORIENTATION] = 6  # to be turned right by 90 degrees
    upright.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
    found = images.read(tmp_path / "a.png")
    assert np.array_equal(found.pixels, np.asarray(upright))
    assert found.notes == (images.TURNED,)


def transparent() -> Iterator[tuple[str, Image.Image, dict[str, Any]]]:
    """Name -> an image whose left half is transparent, its right half black."""
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 255))
    rgba.paste((9, 99, 199, 0), (0, 0, 8, 16))
    yield "rgba.png", rgba, {}
    yield "la.png", rgba.convert("LA"), {}
    yield "palette.png", rgba.quantize(4), {}
    grey = Image.new("L", (16, 16), 0)
    grey.paste(77, (0, 0, 8, 16))
    yield "grey-key.png", grey, {"transparency": 77}
    yield "colour-key.png", grey.convert("RGB"), {"transparency": (77, 77, 77)}
    palette = grey.convert("P")
    yield "palette-key.gif", palette, {"transparency": palette.getpixel((0, 0))}


@pytest.mark.parametrize(("name", "image", "options"), [*transparent()])
def test_transparency_is_laid_on_white_or_refused(
    tmp_path: Path, name: str, image: Image.Image, options: dict[str, Any]
) -> None:
    image.save(tmp_path / name, **options)
    found = images.fitted(tmp_path / name, 16)
    assert found.notes == (images.TRANSPARENT,)
    assert (found.pixels[:, :8] == 255).all()
    assert (found.pixels[:, 8:] == 0).all()
    with pytest.raises(StudyError, match=rf"{name}: .*(mode|transparent).*no alpha"):
        images.read(tmp_path / name)


def test_an_opaque_alpha_channel_says_nothing(tmp_path: Path) -> None:
    picture(width=16, height=16).convert("RGBA").save(tmp_path / "a.png")
    found = images.fitted(tmp_path / "a.png", 16)
    assert found.notes == ()
    assert np.array_equal(found.pixels, np.asarray(picture(0, 16, 16)))


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = (257 * np.arange(256)).astype(np.uint16).reshape(16, 16)
    for name in ("a.png", "a.tif", "a.pgm"):
        Image.fromarray(values).save(tmp_path / name)
        found = images.fitted(tmp_path / name, 16)
        assert found.notes == (images.DEEP,)
        assert np.array_equal(found.pixels.ravel(), np.arange(256))
        with pytest.raises(StudyError, match=r"mode I.*wanted 8-bit"):
            images.read(tmp_path / name)


def test_twelve_bits_become_eight(tmp_path: Path) -> None:
    """As microscopes write them: Pillow hands 0 to 4095 over as if they were 16 bits."""
    pixels = np.array([[0, 4095], [2048, 4095]])
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pixels.tolist())
    tags = [(256, 3, 2), (257, 3, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 3, 122),
            (277, 3, 1), (278, 3, 2), (279, 3, 6)]  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    head += b"".join(struct.pack("<HHIHH", tag, kind, 1, value, 0) for tag, kind, value in tags)
    (tmp_path / "a.tif").write_bytes((head + b"\0" * 4).ljust(122, b"\0") + packed)
    found = images.fitted(tmp_path / "a.tif", 2)
    assert found.notes == (images.DEEP,)
    assert found.pixels.ravel().tolist() == [0, 255, 128, 255]


DEEP_COLOURS = (np.arange(8 * 8 * 3) * 341).astype(np.uint16).reshape(8, 8, 3)


def deep_png(colour_type: int, pixels: NDArray[np.uint16]) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(struct.pack(">IIBBBBB", 8, 8, 16, colour_type, 0, 0, 0), zlib.compress(rows))


def deep_tiff(order: str, planes: bool) -> bytes:
    """RGB, 16 bits a channel, raw; channels beside one another, or a plane each."""
    pixels = DEEP_COLOURS.transpose(2, 0, 1) if planes else DEEP_COLOURS
    n = 3 if planes else 1
    start = 8 + 2 + 12 * 10 + 4
    after = {258: start, 273: start + 6, 279: start + 6 + 4 * n}
    first, each = start + 6 + 8 * n, 2 * 64 * 3 // n
    offsets, sizes = [first + each * i for i in range(n)], [each] * n
    if n == 1:
        after |= {273: offsets[0], 279: each}
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, n, 0), (277, 3, 1, 3), (278, 3, 1, 8), (279, 4, n, 0),
            (284, 3, 1, 2 if planes else 1)]  # fmt: skip
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        packed = struct.pack(f"{order}HH", value, 0) if short else b""
        packed = packed or struct.pack(f"{order}I", after[tag])
        head += struct.pack(f"{order}HHI", tag, kind, count) + packed
    more = struct.pack(f"{order}I3H", 0, 16, 16, 16)
    more += struct.pack(f"{order}{2 * n}I", *offsets, *sizes)
    return head + more + pixels.astype(f"{order}u2").tobytes()


def deep_sgi() -> bytes:
    """Rows from the bottom, a plane a channel."""
    head = struct.pack(">HBBHHHH", 474, 0, 2, 3, 8, 8, 3).ljust(512, b"\0")
    return head + DEEP_COLOURS[::-1].transpose(2, 0, 1).astype(">u2").tobytes()


DEEP_PPM = DEEP_COLOURS.astype(">u2").tobytes()
DEEP = {
    "rgb.png": (deep_png(2, DEEP_COLOURS), images.CUT),
    "rgba.png": (deep_png(6, np.dstack([DEEP_COLOURS, np.full((8, 8), 65535)])), images.CUT),
    "grey-alpha.png": (
        deep_png(4, np.dstack([DEEP_COLOURS[..., 0], np.full((8, 8), 65535)])),
        images.CUT,
    ),
    "little.tif": (deep_tiff("<", planes=False), images.CUT),
    "big.tif": (deep_tiff(">", planes=False), images.CUT),
    "a.sgi": (deep_sgi(), images.CUT),
    "a.ppm": (b"P6 8 8 65535 " + DEEP_PPM, images.DEEP),
    "plain.ppm": (
        f"P3 8 8 65535 {' '.join(map(str, DEEP_COLOURS.ravel()))} ".encode(),
        images.DEEP,
    ),
}


@pytest.mark.parametrize("name", DEEP)
def test_sixteen_bits_in_colour_are_said_to_be_cut_or_rounded_and_refused_by_read(
    tmp_path: Path, name: str
) -> None:
    content, note = DEEP[name]
    (tmp_path / name).write_bytes(content)
    found = images.fitted(tmp_path / name, 8)
    assert found.notes == (note,)
    whole = DEEP_COLOURS[..., :1] if name.startswith("grey") else DEEP_COLOURS
    expected = whole >> 8 if note == images.CUT else np.rint(whole / 257)
    assert np.array_equal(found.pixels, np.broadcast_to(expected, (8, 8, 3)))
    assert (whole >> 8 != np.rint(whole / 257)).any()
    with pytest.raises(
        StudyError, match=rf"{name}: .*(16 bits|mode \w+).*; wanted 8-bit grey or R"
    ):
        images.read(tmp_path / name)


def test_planes_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    """Pillow takes every byte for a pixel."""
    (tmp_path / "a.tif").write_bytes(deep_tiff("<", planes=True))
    for reader in (images.read, lambda path: images.fitted(path, 8)):
        with pytest.raises(StudyError, match=r"a.tif: .*16 bits in a plane for each channel"):
            reader(tmp_path / "a.tif")


def test_five_bits_a_channel_are_not_sixteen(tmp_path: Path) -> None:
    header = struct.pack("<2sIIIIiiHHIIIIII", b"BM", 54 + 128, 0, 54, 40, 8, 8, 1, 16, 0, 128,
                         0, 0, 0, 0)  # fmt: skip
    (tmp_path / "a.bmp").write_bytes(header + b"\xff\x7f" * 64)
    assert images.read(tmp_path / "a.bmp").notes == images.fitted(tmp_path / "a.bmp", 8).notes == ()
    assert (images.read(tmp_path / "a.bmp").pixels == 255).all()


@pytest.mark.parametrize(
    "content",
    [
        b"P1\n2 2\n0 1 1 0\n",
        b"P4\n2 2\n\x40\x80",
        b"P2 2 2 15 15 0 0 15 ",
        b"P5 2 2 15 \x0f\0\0\x0f",
        b"P3 2 2 255 255 255 255 0 0 0 0 0 0 255 255 255 ",
    ],
)
def test_plain_and_binary_pixmaps_of_8_bits_or_fewer(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pnm").write_bytes(content)
    for found in (images.read(tmp_path / "a.pnm"), images.fitted(tmp_path / "a.pnm", 2)):
        assert found.notes == ()
        assert found.pixels[..., 0].tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.webp", "a.png"])
def test_the_first_of_several_frames_or_none(tmp_path: Path, name: str) -> None:
    frames = [picture(seed, 16, 16).quantize(64) for seed in range(3)]
    frames = frames if name == "a.gif" else [frame.convert("RGB") for frame in frames]
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    found = images.fitted(tmp_path / name, 16)
    assert images.FRAMES in found.notes
    assert np.array_equal(found.pixels, np.asarray(frames[0].convert("RGB")))
    with pytest.raises(StudyError, match="3 frames or pages; wanted one"):
        images.read(tmp_path / name)


def test_small_images_are_scaled_up_and_counted(tmp_path: Path) -> None:
    Image.new("RGB", (5, 9), "red").save(tmp_path / "a.png")
    found = images.fitted(tmp_path / "a.png", 8)
    assert found.notes == (images.SMALL,)
    assert (found.pixels == (255, 0, 0)).all()


def png_with_two_megabytes_of_text(path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "a" * 2_000_000, zip=True)
    picture().save(path, pnginfo=text)


def png_that_claims(width: int, height: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(png(struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b""))

    return write


def torn(path: Path) -> None:
    picture().save(path)
    path.write_bytes(path.read_bytes()[:-400])


def other_files_content(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")


def cmyk_floats(path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.float32)).save(path, "TIFF")


def negative_tag(path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    picture().save(path, "TIFF", tiffinfo=tags)
    path.write_bytes(path.read_bytes().replace(b"\x00\x01\x04\x00", b"\x00\x01\xff\x00", 1))


BAD = {
    "text": (png_with_two_megabytes_of_text, "too large"),
    "bomb": (png_that_claims(20_000, 20_000), ""),
    "half a bomb": (png_that_claims(10_000, 10_000), "10000 x 10000 pixels; at most 67 million"),
    "nothing": (png_that_claims(0, 10), ""),
    "torn": (torn, ""),
    "empty": (lambda path: path.write_bytes(b""), "cannot identify"),
    "postscript": (other_files_content, "cannot identify"),
    "floats": (cmyk_floats, "F|floats"),
    "tags": (negative_tag, ""),
    "folder": (lambda path: path.mkdir(), "no file"),
}


@pytest.mark.parametrize("reader", [images.read, lambda path: images.fitted(path, 16)])
@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_in_one_line(
    tmp_path: Path, kind: str, reader: Callable[[Path], object]
) -> None:
    write, message = BAD[kind]
    write(tmp_path / "a.png")
    with pytest.raises(StudyError, match=f"a.png: .*{message}") as error:
        reader(tmp_path / "a.png")
    assert "\n" not in str(error.value)


def test_pillows_warning_is_not_shown(tmp_path: Path) -> None:
    png_that_claims(10_000, 10_000)(tmp_path / "a.png")
    ask = f"from study.datasets import images; images.read(images.Path({str(tmp_path)!r}, 'a.png'))"
    printed = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, check=False
    ).stderr
    assert "10000 x 10000 pixels" in printed
    assert "Warning" not in printed


# --- The command


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[Any, Any]:
    monkeypatch.setattr(sys, "argv", ["study", "data", *arguments])
    with pytest.raises(SystemExit) as exit_:
        commands.main()
    return exit_.value.code, capsys.readouterr()


def test_the_command_adds_lists_and_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(make(tmp_path / "a"))
    code, printed = call(monkeypatch, capsys, "add", "pets", source, "--size", "8")
    assert (code, printed.err) == (0, "")
    assert printed.out.splitlines() == [
        "pets: 18 images to train on and 2 held out, colour",
        "now: make sweep LOSS=ns DATASET=pets",
    ]
    code, printed = call(monkeypatch, capsys)
    assert "mnist: MNIST, 28 x 28, grey, 60,000 train, 10,000 held_out" in printed.out
    assert printed.out.endswith("pets: pets, 8 x 8, colour, 18 train, 2 held_out\n")
    code, printed = call(monkeypatch, capsys, "pets")
    assert "train: 18 images, mean 12" in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pet",), "unknown data set 'pet'; did you mean 'pets'?"),
        (("add", "show", "."), "the name 'show' is taken"),
        (("add", "mnist", "."), "the name 'mnist' is taken"),
        (("add", "pets", "."), "the name 'pets' is taken by"),
        (("add", "more", "nowhere"), "nowhere: no such folder; give a folder of images"),
        (("add", "more", "a.zip"), "a.zip: a file, no folder; unpack it if it is an archive, and"),
        (("add", "more", "b.JPG"), "b.JPG: an image, no folder; give the folder that it lies in"),
    ],
)
def test_the_command_ends_with_2_on_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    add("pets", make(tmp_path / "a"))
    for name in ("a.zip", "b.JPG"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    code, printed = call(monkeypatch, capsys, *words)
    assert code == 2
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1
