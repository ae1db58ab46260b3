import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from study import cli as commands
from study import datasets as data
from study import features
from study.errors import StudyError
from study.losses import load
from study.measures import neighbours
from study.measures import of_a_generator as measure
from study.measures import of_two_sets as score
from study.settings.config import RunConfig
from study.training.networks import draw_z, stream


@pytest.fixture(scope="module")
def extractor():
    return features.load("random")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pictures(n, seed, channels=3, size=16, low=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(low, 256, (n, size, size, channels), np.uint8)
    return images.squeeze(-1) if channels == 1 else images


def save_folder(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:04d}.png")
    return str(folder)


def tensor(images):
    images = images[..., None] if images.ndim == 3 else images
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


class StudyRandom(FeatureExtractorBase):
    """The study's `random` features in torch-fidelity."""

    def __init__(self, name, features_list, **_):
        super().__init__(name, features_list)
        self.extractor = features.load("random")

    def forward(self, images):
        return (self.extractor(images),)

    @staticmethod
    def get_provided_features_list():
        return ("64",)

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "64"

    @staticmethod
    def can_be_compiled():
        return False

    @staticmethod
    def get_dummy_input_for_compile():
        return None


# --- Sets of images


def test_a_folder_and_arrays_hold_the_same_images(tmp_path):
    images = pictures(5, 0)
    folder = save_folder(tmp_path / "a", images)
    np.save(tmp_path / "a.npy", images)
    np.savez_compressed(tmp_path / "a.npz", images=images)
    np.save(tmp_path / "float.npy", images / 255)
    for source in (folder, str(tmp_path / "a.npy"), str(tmp_path / "a.npz")):
        assert torch.equal(score.load_images(source), tensor(images))
    unit = score.load_images(str(tmp_path / "float.npy"))
    torch.testing.assert_close(unit, tensor(images).float() / 255)


def test_grey_images_have_one_channel(tmp_path):
    images = pictures(3, 0, channels=1)
    np.save(tmp_path / "a.npy", images)
    expected = torch.from_numpy(images)[:, None]
    assert torch.equal(score.load_images(str(tmp_path / "a.npy")), expected)
    assert torch.equal(score.load_images(save_folder(tmp_path / "a", images)), expected)


def test_a_data_sets_split(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    monkeypatch.setitem(data.SETS, "mnist", toy_set())
    assert torch.equal(score.load_images("mnist:held_out"), data.load("mnist", "held_out"))
    with pytest.raises(StudyError, match="name a part: mnist:held_out"):
        score.load_images("mnist")
    with pytest.raises(StudyError, match="unknown split 'test' of mnist"):
        score.load_images("mnist:test")


def toy_set():
    def read(split, folder):
        rng = np.random.default_rng(split == "train")
        return rng.integers(0, 256, (100, 1, 28, 28), np.uint8), folder

    return replace(data.SETS["mnist"], sizes={"train": 100, "held_out": 100}, read=read)


def test_the_first_images_of_both_sides(tmp_path):
    np.save(tmp_path / "a.npy", pictures(90, 0))
    np.save(tmp_path / "b.npy", pictures(60, 1))
    a, b = str(tmp_path / "a.npy"), str(tmp_path / "b.npy")
    real, fake = score.pair(a, b)
    assert torch.equal(real, tensor(pictures(90, 0))[:60])
    assert len(fake) == 60
    assert [len(x) for x in score.pair(a, b, 40)] == [40, 40]
    with pytest.raises(StudyError, match=r"b.npy has 60 images where 70 are asked for"):
        score.pair(a, b, 70)
    with pytest.raises(StudyError, match="30 images a side; at least 40 are needed"):
        score.pair(a, b, 30)


def bad_inputs(folder):
    yield "nothing", "no such folder or array; give"
    yield "nothing.npy", "no such file"
    (folder / "text.npy").write_text("no array")
    yield "text.npy", "not an array that NumPy can read"
    (folder / "empty").mkdir()
    yield "empty", "no images there"
    for name, array, message in (
        ("first", np.zeros((9, 1, 16, 16), np.uint8), r"shape \(9, 1, 16, 16\); wanted"),
        ("int", np.zeros((9, 16, 16), np.int64), "int64; wanted uint8"),
        ("nan", np.full((9, 16, 16), np.nan), "values from nan to nan; floats must be finite"),
        ("wide", np.full((9, 16, 16), 255.0), "values from 255 to 255"),
    ):
        np.save(folder / f"{name}.npy", array)
        yield f"{name}.npy", message
    np.savez(folder / "two.npz", a=np.zeros(1), b=np.zeros(1))
    yield "two.npz", "holds a, b; wanted one array"
    mixed = save_folder(folder / "mixed", pictures(1, 0))
    Image.fromarray(pictures(1, 0, size=8)[0]).save(f"{mixed}/b.png")
    yield "mixed", "a folder's images must be alike"
    alpha = save_folder(folder / "alpha", pictures(1, 0))
    Image.fromarray(pictures(1, 0)[0]).convert("RGBA").save(f"{alpha}/b.png")
    yield "alpha", "mode RGBA; wanted 8-bit grey or RGB"
    (folder / "broken").mkdir()
    (folder / "broken/a.png").write_text("no image")
    yield "broken", "cannot be read as an image"


def test_bad_input_is_told_in_one_line(tmp_path):
    for name, message in bad_inputs(tmp_path):
        with pytest.raises(StudyError, match=message) as error:
            score.load_images(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_images_of_another_size_are_refused(tmp_path):
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
    batch_norm=True,
    d_steps=1,
    evaluate_every=1,
    width=0.0625,
    bn_decay=0.9,
    features="random",
    num_images=80,
)


@pytest.fixture
def a_run(tmp_path, monkeypatch):
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
    z = draw_z(CONFIG.num_images, loss.prior, stream(0, "evaluation"))
    measure.evaluator.cache_clear()
    recorded = measure.evaluator("mnist", "random", CONFIG.num_images, "cpu")(generator, z)
    measure.evaluator.cache_clear()
    return str(folder), recorded["fid"]


def test_a_run_gets_its_recorded_distance(a_run, extractor):
    folder, recorded = a_run
    found = score.compare(*score.pair("mnist:held_out", folder), extractor)
    assert found.num_images == CONFIG.num_images
    assert found.distance == pytest.approx(recorded, rel=1e-9)


def test_a_run_without_its_generator_is_told(a_run, tmp_path):
    folder = tmp_path / "run"
    torch.save({"a": torch.zeros(1)}, folder / "best.pt")
    with pytest.raises(StudyError, match="does not fit its config"):
        score.load_images(str(folder))
    (folder / "best.pt").unlink()
    with pytest.raises(StudyError, match="so no generator"):
        score.load_images(str(folder))


# --- Distances


def test_the_same_numbers_as_torch_fidelity(tmp_path, extractor):
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
    ours = score.compare(*score.pair(*folders), extractor)
    assert ours.distance == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert ours.kid == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-5)
    assert ours.precision == pytest.approx(theirs["precision"])
    assert ours.recall == pytest.approx(theirs["recall"])


def gaussians(n, shift, seed, dim=8):
    """Samples of N(0, I) and N(shift, I), whose distance is dim shift²."""
    rng = torch.Generator().manual_seed(seed)
    real, fake = torch.randn(2, n, dim, generator=rng, dtype=torch.float64)
    return real, fake + shift


def test_the_fit_in_inverse_n_is_exact_on_a_line():
    intercept, slope = score.fit_in_inverse_n(
        [100, 200, 400], [3 + 50 / n for n in (100, 200, 400)]
    )
    assert intercept == pytest.approx(3)
    assert slope == pytest.approx(50)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_extrapolation_is_without_bias(shift):
    plain, extrapolated = [], []
    for seed in range(60):
        real, fake = gaussians(100, shift, seed)
        plain.append(score.frechet(real, fake))
        sizes, means = score.distances_of_parts(real, fake, whole=plain[-1])
        extrapolated.append(score.fit_in_inverse_n(sizes, means)[0])
    truth, error = 8 * shift**2, np.std(extrapolated) / np.sqrt(60)
    assert sizes == pytest.approx([100, 50, 100 / 3, 25])
    assert np.mean(plain) > truth + 5 * error
    assert np.mean(extrapolated) == pytest.approx(truth, abs=3 * error)


def test_the_jackknife_tells_the_spread_of_repeated_draws():
    found = [score.frechet(*gaussians(200, 0.5, seed)) for seed in range(60)]
    errors = [score.jackknife_error(*gaussians(200, 0.5, seed)) for seed in range(30)]
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.25)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = torch.randn(50, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = score.jackknife_error(x, x, lambda real, _: float(real.mean()), blocks=50)
    assert error == pytest.approx(float(x.std()) / np.sqrt(50))


def test_the_parts_cover_all_images_once():
    real, fake = gaussians(40, 1.0, 0, dim=1)
    sizes, means = score.distances_of_parts(real, fake, whole=7.0)
    halves = [score.frechet(real[:20], fake[:20]), score.frechet(real[20:], fake[20:])]
    assert (sizes[1], means[0]) == (20, 7.0)
    assert means[1] == pytest.approx(np.mean(halves))


def test_few_images_are_said_to_bend_the_line():
    many, few = (score.compare_features(*gaussians(n, 0.0, 0), "random") for n in (40, 32))
    assert (many.bent, few.bent) == (False, True)
    assert many.bias + many.extrapolated == pytest.approx(many.distance)
    assert "too high" in score.report(few)
    assert "too high" not in score.report(many)


def test_kid_is_over_subsets_where_there_are_many(monkeypatch):
    monkeypatch.setattr(score, "KID_SUBSET_SIZE", 30)
    monkeypatch.setattr(score, "KID_SUBSETS", 4)
    real, fake = gaussians(50, 0.5, 0)
    mean, _ = neighbours.kid_of_subsets(real, fake, np.random.RandomState(2020), 4, 30)
    assert score.compare_features(real, fake, "random").kid == mean


# --- The command


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["study", "fid", *arguments])
    with pytest.raises(SystemExit) as exit_:
        commands.main()
    return exit_.value.code, capsys.readouterr()


def test_the_command_prints_what_was_found(tmp_path, monkeypatch, capsys, extractor):
    a, b = (save_folder(tmp_path / name, pictures(50, seed)) for name, seed in (("a", 0), ("b", 1)))
    found = score.compare(*score.pair(a, b), extractor)
    code, printed = call(monkeypatch, capsys, a, b, "--features", "random", "--device", "cpu")
    assert code == 0
    assert f"Fréchet distance (random features): {found.distance:.4g} +-" in printed.out
    assert "on 50 images a side" in printed.out
    code, printed = call(
        monkeypatch, capsys, a, b, "--features", "random", "--device", "cpu", "--json"
    )
    assert json.loads(printed.out) == {"real": a, "fake": b} | found._asdict()


def test_the_command_ends_with_2_on_bad_input(monkeypatch, capsys):
    code, printed = call(monkeypatch, capsys, "nothing", "mnist:train", "--features", "random")
    assert code == 2
    assert printed.err.startswith("error: nothing: no such folder or array")


def test_only_inceptions_distance_is_called_fid():
    lines = score.Score("inception", 50, 1.0, 0.1, 0.1, 0.9, False, 0.0, 1.0, 1.0)
    assert score.report(lines).startswith("FID: 1 +- 0.1")
    assert "FID" not in score.report(lines._replace(features="lite0"))
