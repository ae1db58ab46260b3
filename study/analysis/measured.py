"""What tables of how the measures behave (`behaviour`) say. No torch: figures start with these."""

import numpy as np
import pandas as pd

from study.analysis import statistics as st
from study.errors import StudyError
from study.measures.extrapolation import fit_in_inverse_n

NUM_IMAGES = 5000  # of each side, where not their number is the question
BESIDE = 1000  # of them for KID (without bias at any number) and the k-NN measures
# FID of real against real at 10,000 images in the paper's section on FID: recalled, not read.
PAPER = {"fashion_mnist": 2.60, "mnist": 1.25, "cifar10": 5.19, "celeba": 2.27}


def bias(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of real against real by number of images, a row each.

    `paper` is what the paper found (recalled) where it can be compared: FID on 10,000 images.
    """
    real = table[table["experiment"] == "real"]
    groups = real.groupby(["dataset", "features", "num_images"], sort=True)["distance"]
    found = groups.agg(mean="mean", sd="std", draws="size").reset_index()
    comparable = (found["features"] == "inception") & (found["num_images"] == 10_000)
    return found.assign(paper=found["dataset"].map(PAPER).where(comparable))


def infinitely_many(table: pd.DataFrame, resamples: int = 1000, seed: int = 0) -> st.Estimate:
    """Real against real at infinitely many images, with its 95 % bootstrap interval over draws.

    The fit is `fit_in_inverse_n` on the sizes that exceed the number of features: below, the
    covariances are singular and the law in 1/n bends.
    """
    real = table[(table["experiment"] == "real") & (table["num_images"] > table["dim"])]
    wide = real.pivot(index="draw", columns="num_images", values="distance")
    if wide.shape[1] < 2:
        raise StudyError(
            f"{wide.shape[1]} sizes exceed the number of features; the fit in 1/n needs 2 or more"
        )
    picks = np.random.default_rng(seed).integers(0, len(wide), (resamples, len(wide)))
    means = wide.to_numpy()[picks].mean(axis=1)
    limits = [fit_in_inverse_n(wide.columns, row)[0] for row in means]
    low, high = np.quantile(limits, [0.025, 0.975])
    return st.Estimate(np.array(fit_in_inverse_n(wide.columns, wide.mean())[0]), low, high)


def agreement(table: pd.DataFrame, first: str, second: str) -> st.Estimate:
    """Spearman's rank correlation of two extractors over runs, with its 95 % interval.

    Of one data set: between data sets the distances differ by far more than between generators.
    """
    of_one_data_set(set(table["dataset"]))
    return st.spearman(table[first], table[second])


def of_one_data_set(datasets: set[str]) -> None:
    """StudyError where generators are of several."""
    if len(datasets) > 1:
        held = ", ".join(sorted(datasets))
        raise StudyError(f"runs on {held}; the agreement is that on one data set")
