"""The columns that every evaluation adds to a run's row. No torch: tables read fast."""

import math

from study.settings.columns import Column

COSTS = (
    Column("step", "int64", "D updates when the evaluation was made; the row's key"),
    Column("d_steps", "int64", "D updates so far (equal to `step`)"),
    Column("g_steps", "int64", "G updates so far"),
    Column("images", "int64", "real images shown to D so far, with repetition"),
    Column(
        "flops",
        "int64",
        "FLOPs of the D and G steps so far, penalty included, by torch's formulas (a multiply-add "
        "is 2)",
    ),
    Column("wall_s", "float64", "seconds since the run's start, evaluations in, pauses not"),
)
DISTANCES = (
    Column(
        "fid",
        "float64",
        "≥ 0: Fréchet distance between `num_images` generated and the first `num_images` held-out "
        "images; FID only where `features` is `inception`; infinite where the run diverged",
        math.inf,
    ),
    Column("fid_train", "float64", "the same images against as many training images", math.inf),
    Column(
        "fid_report",
        "float64",
        "the same against the next `num_images` held-out images, on which nothing is selected; "
        "null where the set has too few",
        math.inf,
    ),
)


def distance_name(features: str) -> str:
    """What a distance in these features may be called: only Inception's is FID."""
    return "FID" if features == "inception" else f"Fréchet distance ({features} features)"


def diverged(*groups: tuple[Column, ...]) -> dict[str, float]:
    """The measured values of a generator that is not finite: no distance is small enough."""
    columns = (column for group in groups for column in group)
    return {column.name: column.diverged for column in columns if column.diverged is not None}
