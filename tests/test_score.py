import json
import sys
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from there import there
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from typer.testing import CliRunner

from study import cli as commands
from study import datasets as data
from study import features
from study.datasets import images
from study.datasets.base import DataSet, Images
from study.errors import StudyError
from study.features import Extractor
from study.losses import load
from study.measures import at_best, image_sets, neighbours, triangle_manifold
from study.measures import frechet as fid
from study.measures import of_a_generator as measure
from study.measures import of_two_sets as score
from study.measures.extrapolation import fit_in_inverse_n
from study.measures.image_sets import open_set
from study.settings.config import RunConfig
from study.training.networks import draw_z, place, stream


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return features.load("random")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pictures(n: int, seed: int, channels: int = 3, size: int = 16, low: int = 0) -> Images:
    rng = np.random.default_rng(seed)
    images = rng.integers(low, 256, (n, size, size, channels), np.uint8)
    return images.squeeze(-1) if channels == 1 else images


def save_folder(folder: Path, images: Images) -> str:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:04d}.png")
    return str(folder)


def read(source: str, n: int | None = None, batch: int = 3) -> Tensor:
    batches = list(open_set(source).batches(n, batch))
    assert {len(b) for b in batches[:-1]} <= {batch}
    return torch.cat(batches)


def tensor(images: Images) -> Tensor:
    images = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


class StudyRandom(FeatureExtractorBase):  # type: ignore[misc]
    """The study's `random` features in torch-fidelity."""

    def __init__(self, name: str, features_list: list[str], **_: object) -> None:
        super().__init__(name, features_list)
        self.extractor = features.load("random")

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.extractor(images),)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("64",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "64"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> None:
        return None


# --- Sets of images


def test_a_folder_and_arrays_hold_the_same_images(tmp_path: Path) -> None:
    images = pictures(5, 0)
    folder = save_folder(tmp_path / "a", images)
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "a.npz", images=images)
    np.save(tmp_path / "float.npy", images / 255)
    for source in (folder, str(tmp_path / "a.npy"), str(tmp_path / "a.npz")):
        assert torch.equal(read(source), tensor(images))
    for name in ("A.NPY", "A.Npz"):
        (tmp_path / name).write_bytes((tmp_path / name.lower()).read_bytes())
        assert torch.equal(read(str(tmp_path / name)), tensor(images))
    unit = read(str(tmp_path / "float.npy"))
    torch.testing.assert_close(unit, tensor(images).float() / 255)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    images = pictures(3, 0, channels=1)
    np.save(tmp_path / "a.npy", images)
    expected = torch.from_numpy(images)[:, None]
    assert torch.equal(read(str(tmp_path / "a.npy")), expected)
    assert torch.equal(read(save_folder(tmp_path / "a", images)), expected)


def test_a_data_sets_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    monkeypatch.setitem(data.SETS, "mnist", toy_set())
    assert torch.equal(read("mnist:held_out"), data.load("mnist", "held_out"))
    with pytest.raises(StudyError, match="name a part: mnist:held_out"):
        read("mnist")
    with pytest.raises(StudyError, match="unknown split 'test' of mnist"):
        read("mnist:test")


def toy_set() -> DataSet:
    def read(split: str, folder: Path) -> tuple[Images, Path]:
        rng = np.random.default_rng(split == "train")
        return rng.integers(0, 256, (100, 1, 28, 28), np.uint8), folder

    return replace(data.SETS["mnist"], sizes={"train": 100, "held_out": 100}, read=read)


def test_all_images_of_both_sides_are_taken(tmp_path: Path, extractor: Extractor) -> None:
    """However many there are, and in whatever order: a set sorted by brightness, say."""
    real = np.sort(pictures(150, 0).reshape(150, -1), axis=0).reshape(150, 16, 16, 3)
    fake = pictures(60, 1)
    np.save(tmp_path / "a.npy", real)
    folder = save_folder(tmp_path / "b", fake)
    found = score.compare(score.pair(str(tmp_path / "a.npy"), folder), extractor)
    assert (found.real_images, found.fake_images) == (150, 60)
    expected = score.frechet(extractor(tensor(real)), extractor(tensor(fake)))
    assert found.distance == pytest.approx(expected, rel=1e-9)
    first = score.frechet(extractor(tensor(real[:60])), extractor(tensor(fake)))
    assert abs(first - expected) > 0.1 * expected


def test_fewer_images_are_drawn_from_files_and_are_the_first_of_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", images := pictures(500, 0))
    drawn = read(str(tmp_path / "a.npy"), 50)
    assert torch.equal(drawn, read(str(tmp_path / "a.npy"), 50))
    order = {image.numpy().tobytes(): i for i, image in enumerate(tensor(images))}
    places = [order[image.numpy().tobytes()] for image in drawn]
    assert places == sorted(set(places))
    assert len(places) == 50
    assert 150 < np.mean(places) < 350
    monkeypatch.setitem(data.SETS, "mnist", toy_set())
    assert torch.equal(read("mnist:held_out", 50), data.load("mnist", "held_out")[:50])


def test_too_few_images(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pictures(90, 0))
    np.save(tmp_path / "b.npy", pictures(60, 1))
    a, b = str(tmp_path / "a.npy"), str(tmp_path / "b.npy")
    with pytest.raises(StudyError, match=r"b.npy has 60 images where 70 are asked for"):
        score.pair(a, b, 70)
    with pytest.raises(StudyError, match="30 images; at least 40 a side are needed"):
        score.pair(a, b, 30)


def test_images_are_read_as_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_folder(tmp_path / "a", pictures(200, 0))
    seen = []
    whole = images.read

    def read(path: Path) -> images.Picture:
        seen.append(path)
        return whole(path)

    monkeypatch.setattr(images, "read", read)
    monkeypatch.setattr(image_sets, "GROUP_BYTES", 1)
    batches = open_set(folder).batches(None, 10)
    assert isinstance(batches, Generator)
    next(batches)
    assert len(seen) <= 1 + 10 + images.AHEAD + 1
    batches.close()


def test_photographs_wait_few_at_a_time_and_small_images_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 16 x 16 x 3 bytes: two groups of two fit into four images' bytes."""
    content = pictures(40, 0)
    folder = save_folder(tmp_path / "a", content)
    taken: list[int] = []
    whole = images.read

    def read_counted(path: Path) -> images.Picture:
        taken.append(int(path.stem))
        return whole(path)

    monkeypatch.setattr(images, "read", read_counted)
    monkeypatch.setattr(image_sets, "GROUP_BYTES", 2 * 16 * 16 * 3)
    monkeypatch.setattr(images, "AHEAD_BYTES", 4 * 16 * 16 * 3)
    batches = open_set(folder).batches(None, 3)
    assert torch.equal(next(batches), tensor(content[:3]))
    assert len(taken) <= 1 + 4 + 2 * 3  # the first, what is handed on, and what waits or is read
    assert torch.equal(torch.cat(list(batches)), tensor(content[3:]))
    assert sorted(taken) == [0, *range(40)]


def test_large_images_go_through_few_at_a_time(extractor: Extractor) -> None:
    assert extractor.batch_of(64, 64) == 250
    assert extractor.batch_of(512, 512) == 3
    assert extractor.batch_of(9000, 9000) == 1
    x = torch.rand(4, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([extractor(image[None]) for image in x])
    torch.testing.assert_close(extractor(x), alone)


def test_subfolders_count_and_other_files_are_said(tmp_path: Path, extractor: Extractor) -> None:
    save_folder(tmp_path / "a", pictures(50, 0))
    save_folder(tmp_path / "a" / "more", pictures(30, 1))
    (tmp_path / "a/list.txt").write_text("")
    np.save(tmp_path / "b.npy", pictures(50, 2))
    found = score.compare(score.pair(str(tmp_path / "a"), str(tmp_path / "b.npy")), extractor)
    assert found.real_images == 80
    assert found.notes == {str(tmp_path / "a"): {".txt files left out": 1}}
    assert [line for line in score.report(found) if "1 .txt files left out" in line]


def test_floats_a_rounding_beyond_1_are_taken_for_it_and_counted(
    tmp_path: Path, extractor: Extractor
) -> None:
    images = pictures(50, 0).astype(np.float32) / 255
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 1.0000001, -1e-7
    np.save(tmp_path / "a.npy", images)
    found = score.compare(score.pair(str(tmp_path / "a.npy"), str(tmp_path / "a.npy")), extractor)
    (notes,) = found.notes.values()
    assert list(notes.values()) == [2]
    assert read(str(tmp_path / "a.npy")).max() == 1


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("dtype", ["u1", ">f4", "f8", "f2"])
def test_arrays_are_read_a_chunk_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, by_columns: bool
) -> None:
    monkeypatch.setattr(image_sets, "CHUNK_BYTES", 5000)
    images = pictures(30, 0)
    array = images if dtype == "u1" else (images / 255).astype(dtype)
    array = np.asfortranarray(array) if by_columns else array
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        found = read(str(tmp_path / name))
        expected = torch.from_numpy(images if dtype == "u1" else array.astype(np.float32))
        assert torch.equal(found, expected.permute(0, 3, 1, 2))
        assert torch.equal(
            read(str(tmp_path / name), 12), found[open_set(str(tmp_path / name)).places(12)]
        )


def bad_inputs(folder: Path) -> Iterator[tuple[str, str]]:
    yield "nothing", "no such folder or array; give"
    yield "nothing.npy", "no such file"
    (folder / "a.zip").write_bytes(b"")
    yield "a.zip", "a file, but no array; give a folder of images, an .npy or .npz"
    (folder / "text.npy").write_text("no array")
    yield "text.npy", "not an array that NumPy can read"
    (folder / "empty").mkdir()
    yield "empty", "no images there"
    for name, array, message in (
        ("first", np.zeros((9, 1, 16, 16), np.uint8), r"shape \(9, 1, 16, 16\); wanted"),
        ("int", np.zeros((9, 16, 16), np.int64), "int64; wanted uint8"),
        ("nan", np.full((9, 16, 16), np.nan), "values from nan to nan; floats must be finite"),
        ("wide", np.full((9, 16, 16), 255.0), "values from 255 to 255"),
        ("near", np.full((9, 16, 16), 1.001), "values from 1.001 to 1.001"),
        ("object", np.full((9, 16, 16), None), "object; wanted uint8"),
    ):
        np.save(folder / f"{name}.npy", array)
        yield f"{name}.npy", message
    np.savez(folder / "two.npz", a=np.zeros(1), b=np.zeros(1))
    yield "two.npz", "holds a, b; wanted one array"
    whole = (folder / "first.npy").read_bytes()
    (folder / "torn.npy").write_bytes(whole[:-9])
    yield "torn.npy", "shape"
    np.save(folder / "short.npy", pictures(9, 0))
    (folder / "short.npy").write_bytes((folder / "short.npy").read_bytes()[:-9])
    yield "short.npy", "it ends before its 9 images do"
    np.savez_compressed(folder / "flipped.npz", pictures(99, 0))
    content = bytearray((folder / "flipped.npz").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "flipped.npz").write_bytes(content)
    yield "flipped.npz", "not an array that NumPy can read"
    np.savez(folder / "objects.npz", np.full((9, 16, 16), None))
    yield "objects.npz", "object; wanted uint8"
    mixed = save_folder(folder / "mixed", pictures(1, 0))
    Image.fromarray(pictures(1, 0, size=8)[0]).save(f"{mixed}/b.png")
    yield "mixed", "a folder's images must be alike"
    alpha = save_folder(folder / "alpha", pictures(1, 0))
    Image.fromarray(pictures(1, 0)[0]).convert("RGBA").save(f"{alpha}/b.png")
    yield "alpha", "mode RGBA; wanted 8-bit grey or RGB"
    (folder / "broken").mkdir()
    (folder / "broken/a.png").write_text("no image")
    yield "broken", "cannot be read as an image"


def test_bad_input_is_told_in_one_line(tmp_path: Path) -> None:
    for name, message in bad_inputs(tmp_path):
        with pytest.raises(StudyError, match=message) as error:
            read(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pictures(50, 0))
    np.save(tmp_path / "b.npy", pictures(50, 0, size=8))
    with pytest.raises(StudyError, match=r"a.npy has images of 16 x 16 pixels, .*b.npy of 8 x 8"):
        score.pair(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))


# --- Runs


CONFIG = RunConfig(
    sweep="quick",
    loss="ns",
    dataset="mnist",
    number=0,
    seed=0,
    lr=1e-4,
    beta1=0.5,
    disc_iters=1,
    normalisation="batch",
    batch_norm=True,
    d_steps=1,
    evaluate_every=1,
    width=0.0625,
    bn_decay=0.9,
    features="random",
    num_images=80,
)


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, float]:
    """A run's folder as training leaves it, and the distance that its evaluation records."""
    monkeypatch.setenv("STUDY_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(data.SETS, "mnist", toy_set())
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG.model_dump_json())
    loss = load("ns")()
    torch.manual_seed(0)
    generator = loss.generator((1, 28, 28), CONFIG.width, CONFIG.bn_decay)
    torch.save(generator.state_dict(), folder / "best.pt")
    place(generator, torch.device("cpu"), CONFIG.width)
    z = draw_z(CONFIG.num_images, loss.prior, stream(0, "evaluation"))
    measure.evaluator.cache_clear()
    recorded = measure.evaluator("mnist", "random", CONFIG.num_images, "cpu")(generator, z)
    measure.evaluator.cache_clear()
    return str(folder), there(recorded)["fid"]


def test_a_run_gets_its_recorded_distance(a_run: tuple[str, float], extractor: Extractor) -> None:
    folder, recorded = a_run
    found = score.compare(score.pair("mnist:held_out", folder), extractor)
    assert found.real_images == found.fake_images == CONFIG.num_images
    assert found.distance == pytest.approx(recorded, rel=1e-9)


def test_images_of_a_run_are_drawn_to_files(
    a_run: tuple[str, float], tmp_path: Path, extractor: Extractor
) -> None:
    """They are the generator's own, rounded, and score as the run does but for the rounding."""
    folder, recorded = a_run
    to, n = tmp_path / "drawn", CONFIG.num_images
    said = CliRunner().invoke(commands.app, ["sample", folder, str(n), "--to", str(to)])
    assert said.exit_code == 0
    assert said.output.endswith(f"drawn: {n} images of 28 x 28 pixels\n")
    own = image_sets.drawn(Path(folder), n).mul(255).round().byte()
    assert torch.equal(read(str(to)), own)
    found = score.compare(score.pair("mnist:held_out", str(to), n), extractor)
    assert found.distance == pytest.approx(recorded, rel=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: no run's folder"),
        (["run", "0"], "should be greater than or equal to 1"),
        (["run", "3", "--to", "full"], "full is there already and not empty"),
        (["run", "3", "--to", "full/mine.txt/in"], "cannot be made (Not a directory); give"),
    ],
)
def test_images_are_drawn_into_a_folder_of_their_own(
    a_run: tuple[str, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["study", "sample", *words])
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_without_its_generator_is_told(a_run: tuple[str, float], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    torch.save({"a": torch.zeros(1)}, folder / "best.pt")
    with pytest.raises(StudyError, match="does not fit its config"):
        read(str(folder))
    (folder / "best.pt").unlink()
    with pytest.raises(StudyError, match="so no generator"):
        read(str(folder))


# --- Distances


def test_the_same_numbers_as_torch_fidelity(tmp_path: Path, extractor: Extractor) -> None:
    a, b = pictures(120, 0), pictures(120, 1, low=60)
    folders = [save_folder(tmp_path / name, x) for name, x in (("a", a), ("b", b))]
    torch_fidelity.register_feature_extractor("study-random", StudyRandom)
    theirs = torch_fidelity.calculate_metrics(
        input1=folders[1],
        input2=folders[0],
        feature_extractor="study-random",
        fid=True,
        kid=True,
        prc=True,
        kid_subsets=1,
        kid_subset_size=120,
        cuda=False,
        cache=False,
        verbose=False,
        batch_size=250,
        save_cpu_ram=True,
    )
    ours = score.compare(score.pair(folders[0], folders[1]), extractor)
    assert ours.distance == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours.kid == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert ours.precision == pytest.approx(theirs["precision"])
    assert ours.recall == pytest.approx(theirs["recall"])


def gaussians(n: int, shift: float, seed: int, dim: int = 8) -> tuple[Tensor, Tensor]:
    """Samples of N(0, I) and N(shift, I), whose distance is dim shift²."""
    rng = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, n, dim, generator=rng, dtype=torch.float64)
    return real, fake + shift


def test_the_fit_in_inverse_n_is_exact_on_a_line() -> None:
    intercept, slope = fit_in_inverse_n([100, 200, 400], [3 + 50 / n for n in (100, 200, 400)])
    assert intercept == pytest.approx(3)
    assert slope == pytest.approx(50)


def sides(real: Tensor, fake: Tensor) -> tuple[score.Side, score.Side]:
    one, other = (score.side_of(torch.split(x, 37), len(x), x.shape[1]) for x in (real, fake))
    return one, other


def compared(real: Tensor, fake: Tensor) -> score.Score:
    return score.compare_sides(*sides(real, fake), "random", "0" * 64, {})


def test_features_are_kept_alike_however_many_come_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(score, "ROWS", 100)
    monkeypatch.setattr(score, "MOST_NEIGHBOURS", 150)
    x = torch.randn(430, 5, generator=torch.Generator().manual_seed(0))
    found = [score.side_of(torch.split(x, size), 430, 5) for size in (1, 37, 100, 250, 430)]
    for side in found:
        assert side.count == 430
        assert torch.equal(side.features, found[0].features)
        for one, other in zip(side.blocks, found[0].blocks, strict=True):
            assert fid.together([one]).same_as(fid.together([other]))
    ranks = score._ranks(430)
    assert torch.equal(found[0].features, x[torch.from_numpy(ranks < 150)])
    for block in range(12):
        moments = fid.together([found[0].blocks[block]])
        members = x[torch.from_numpy(ranks * 12 // 430 == block)].double().numpy()
        assert moments.mean == pytest.approx(members.mean(axis=0))
        assert moments.covariance == pytest.approx(np.cov(members.T))


def test_which_images_are_taken_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extractor: features.Extractor
) -> None:
    monkeypatch.setitem(data.SETS, "mnist", toy_set())
    np.save(tmp_path / "a.npy", pictures(90, 0, channels=1, size=28))
    real, fake = "mnist:held_out", str(tmp_path / "a.npy")
    found = score.compare(score.pair(real, fake, 50), extractor)
    lines = list(score.report(found))
    assert "note: mnist:held_out: 50 images taken, the first of 100, whose order is random" in lines
    assert f"note: {fake}: 50 images taken, drawn from 90 with seed 0" in lines
    assert score.compare(score.pair(real, fake), extractor).notes == {}


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_extrapolation_of_gaussians_is_without_bias(shift: float) -> None:
    found = [compared(*gaussians(100, shift, seed)) for seed in range(60)]
    extrapolated = [there(x.extrapolated) for x in found]
    truth, error = 8 * shift**2, np.std(extrapolated) / np.sqrt(60)
    assert np.mean([x.distance for x in found]) > truth + 5 * error
    assert np.mean(extrapolated) == pytest.approx(truth, abs=3 * error)


def test_the_margin_is_students_t_of_the_jackknifes_error_by_hand() -> None:
    real, fake = gaussians(120, 0.5, seed=0)
    found = compared(real, fake)
    one, other = (torch.from_numpy(score._ranks(120)) * 12 // 120 for _ in "ab")
    left = [score.frechet(real[one != block], fake[other != block]) for block in range(12)]
    error = np.sqrt(11 / 12 * sum((value - np.mean(left)) ** 2 for value in left))
    one_side, other_side = sides(real, fake)
    found_error = score.jackknife_error(one_side.blocks, other_side.blocks)
    assert found_error == pytest.approx(error)
    assert found.margin == pytest.approx(2.200985 * error)  # t of 11 degrees of freedom at 97.5 %


def test_the_jackknife_tells_the_spread_of_repeated_draws() -> None:
    found = [score.frechet(*gaussians(200, 0.5, seed)) for seed in range(60)]
    errors = [
        score.jackknife_error(*(side.blocks for side in sides(*gaussians(200, 0.5, seed))))
        for seed in range(30)
    ]
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.25)


@pytest.mark.parametrize(("n", "m"), [(200, 200), (120, 400)])
def test_the_interval_holds_what_other_images_give_on_average(n: int, m: int) -> None:
    def draw(seed: int) -> tuple[Tensor, Tensor]:
        real, fake = gaussians(max(n, m), 0.5, seed)
        return real[:n], fake[:m]

    truth = np.mean([score.frechet(*draw(seed)) for seed in range(1000, 1300)])
    found = [compared(*draw(seed)) for seed in range(60)]
    assert np.mean([abs(x.distance - truth) <= there(x.margin) for x in found]) >= 0.85


def test_of_sets_that_overlap_the_interval_holds_what_other_images_give() -> None:
    """Real and fake share every image, to which noise is added: paired blocks leave out pairs."""

    def draw(seed: int) -> tuple[Tensor, Tensor]:
        real, noise = gaussians(200, 0.0, seed)
        return real, real + 0.5 * noise

    truth = np.mean([score.frechet(*draw(seed)) for seed in range(1000, 1300)])
    found = [compared(*draw(seed)) for seed in range(60)]
    assert np.mean([abs(x.distance - truth) <= there(x.margin) for x in found]) >= 0.85


def test_blocks_are_alike_in_number_and_dealt_the_same_on_both_sides() -> None:
    real = torch.arange(100.0)[:, None]
    side, other = sides(real, real + 1000)
    assert {block.count for block in side.blocks} == {8, 9}
    assert fid.together(side.blocks).mean == pytest.approx(49.5)
    means, opposite = ([fid.together([b]).mean for b in x.blocks] for x in (side, other))
    assert np.array(opposite) - np.array(means) == pytest.approx(1000)
    assert np.std(means) < 15  # not in the order they came


def test_the_parts_cover_all_images_once() -> None:
    real, fake = gaussians(48, 1.0, 0, dim=1)
    one, other = sides(real, fake)
    sizes, means = score.distances_of_parts(one.blocks, other.blocks, whole=7.0)
    assert sizes == pytest.approx([48, 24, 16, 12])
    ranks = torch.from_numpy(score._ranks(48))
    halves = [score.frechet(real[half], fake[half]) for half in (ranks < 24, ranks >= 24)]
    assert (means[0], means[1]) == (7.0, pytest.approx(np.mean(halves)))


def test_few_images_have_no_interval() -> None:
    many, few = (compared(*gaussians(n, 0.0, 0)) for n in (40, 32))
    assert many.margin is not None
    assert (few.margin, few.extrapolated) == (None, None)
    assert "no interval" in "\n".join(score.report(few))
    assert "+-" not in "\n".join(score.report(few))
    assert "no interval" not in "\n".join(score.report(many))


@pytest.mark.parametrize("n", [30, 400])
def test_a_set_against_itself_is_0(n: int) -> None:
    real, _ = gaussians(n, 0.0, 0)
    found = compared(real, real)
    assert found.distance == 0
    assert found.margin in (None, 0)
    assert found.extrapolated in (None, pytest.approx(0, abs=1e-12))
    shuffled = compared(real, real[torch.randperm(n, generator=torch.Generator().manual_seed(0))])
    assert shuffled.distance == pytest.approx(0, abs=1e-9)


def test_repeated_and_common_images_are_counted_and_leave_no_interval(
    tmp_path: Path, extractor: Extractor
) -> None:
    images = pictures(130, 0)
    np.save(tmp_path / "a.npy", np.concatenate([images[:100]] * 3))
    np.save(tmp_path / "b.npy", np.concatenate([images[70:]] * 5))
    found = score.compare(score.pair(str(tmp_path / "a.npy"), str(tmp_path / "b.npy")), extractor)
    assert (found.real_repeats, found.fake_repeats, found.in_both) == (200, 240, 30)
    assert found.margin is None
    printed = "\n".join(score.report(found))
    assert "note: 200 of 300 real images equal another one of them" in printed
    assert "note: both sets have 30 images in common" in printed


def test_common_images_are_found_whatever_they_are_stored_as(
    tmp_path: Path, extractor: Extractor
) -> None:
    """A generator that copies, whose images are floats, or a grey set in colour."""
    colour, grey, others = pictures(50, 0), pictures(50, 1, channels=1), pictures(100, 2)
    grey_as_rgb = np.repeat(grey[..., None], 3, axis=3)
    both = np.concatenate([colour, grey_as_rgb])
    sets = {
        "both": both,
        "float": (both / 255).astype(np.float32),
        "half": (both / 255).astype(np.float16),
        "others": others,
        "grey": np.concatenate([grey, others[:50, ..., 0]]),
        "grey-float": np.concatenate([grey, others[:50, ..., 0]]) / 255,
    }
    for name, array in sets.items():
        np.save(tmp_path / f"{name}.npy", array)
    path = {name: str(tmp_path / f"{name}.npy") for name in sets}
    for real, fake, common in (
        ("both", "both", 100),
        ("both", "float", 100),
        ("half", "both", 100),
        ("both", "grey", 50),
        ("both", "grey-float", 50),
        ("grey", "grey-float", 100),
        ("both", "others", 0),
        ("grey", "others", 0),
    ):
        found = score.compare(score.pair(path[real], path[fake]), extractor)
        assert found.in_both == common, (real, fake)
        assert (found.real_repeats, found.fake_repeats) == (0, 0)


def test_of_many_images_some_are_drawn_for_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = gaussians(200, 0.5, 0)
    whole = compared(real, fake)
    monkeypatch.setattr(score, "MOST_NEIGHBOURS", 60)
    part = compared(real, fake)
    assert (whole.real_neighbours, whole.fake_neighbours) == (200, 200)
    assert (part.real_neighbours, part.fake_neighbours) == (60, 60)
    assert part.distance == whole.distance
    kept = torch.from_numpy(score._ranks(200) < 60)
    there = neighbours.real_neighbours(real[kept].float())
    expected = neighbours.kid_and_precision_recall(there, fake[kept].float())
    assert part.kid == pytest.approx(expected["kid"])
    assert (part.precision, part.recall) == (expected["knn_precision"], expected["knn_recall"])
    for seen, said in (((60, 60), "of 60 real and 60 fake images"), ((200, 200), None)):
        lines = list(score.report(replace(part, real_neighbours=seen[0], fake_neighbours=seen[1])))
        assert sum(line.startswith(("KID", "k-NN")) and f"{said})" in line for line in lines) == (
            2 if said else 0
        )
    more = compared(real[:50], fake)
    assert (more.real_neighbours, more.fake_neighbours) == (50, 60)
    assert "of 50 real and 60 fake images" in "\n".join(score.report(more))


# --- The command


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[Any, Any]:
    monkeypatch.setattr(sys, "argv", ["study", "fid", *arguments])
    with pytest.raises(SystemExit) as exit_:
        commands.main()
    return exit_.value.code, capsys.readouterr()


def test_the_command_prints_what_was_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    extractor: Extractor,
) -> None:
    a, b = (save_folder(tmp_path / name, pictures(50, seed)) for name, seed in (("a", 0), ("b", 1)))
    found = score.compare(score.pair(a, b), extractor)
    code, printed = call(monkeypatch, capsys, a, b, "--features", "random", "--device", "cpu")
    assert code == 0
    assert printed.out.splitlines() == list(score.report(found))
    assert f"Fréchet distance (random features): {found.distance:.4g} on 50 real" in printed.out
    assert f"digest {extractor.digest[:16]}" in printed.out
    code, printed = call(
        monkeypatch, capsys, a, b, "--features", "random", "--device", "cpu", "--json"
    )
    assert json.loads(printed.out) == {"real": a, "fake": b} | asdict(found)


def test_the_command_ends_with_2_on_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, printed = call(monkeypatch, capsys, "nothing", "mnist:train", "--features", "random")
    assert code == 2
    assert printed.err.startswith("error: nothing: no such folder or array")


def test_only_inceptions_distance_is_called_fid() -> None:
    found = compared(*gaussians(40, 0.5, 0))
    inception = replace(found, features="inception")
    assert next(score.report(inception)).startswith("FID: ")
    for other in ("lite0", "inception-0123abcd"):
        assert "FID" not in "\n".join(score.report(replace(found, features=other)))


def test_a_data_set_has_its_own_measure_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "f1" not in measure.diverged(CONFIG)
    nobody = at_best.Best(CONFIG, None, torch.zeros(1, 64))  # type: ignore[arg-type]
    assert "f1" not in at_best.measure(nobody)
    monkeypatch.setattr(triangle_manifold, "of_generator", lambda generator, *_: {"f1": generator})
    monkeypatch.setitem(data.SETS, "mnist", replace(toy_set(), measure="manifold"))
    assert measure.diverged(CONFIG)["f1"] == 0
    half = at_best.Best(CONFIG, 0.5, torch.zeros(1, 64))  # type: ignore[arg-type]
    assert at_best.measure(half)["f1"] == 0.5


def test_a_file_is_a_measure_and_every_measure_says_its_columns() -> None:
    files = {path.stem for path in Path(at_best.__file__).parent.glob("*.py")}
    assert (
        set(at_best.names())
        == files - {"__init__", "base"}
        == {
            *("kid_and_knn", "manifold", "second_distance"),
        }
    )
    assert {set_.measure for set_ in data.SETS.values()} - {None} <= {*at_best.names()}
    said = [column.name for column in at_best.COLUMNS]
    assert len(said) == len(set(said)) == 9
    assert [column.diverged for column in at_best.COLUMNS].count(None) == 0
