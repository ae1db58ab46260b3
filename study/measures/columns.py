"""The columns that an evaluation adds to a run's row. Imports nothing, so that tables read fast."""

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
SECOND = (
    Column(
        "fid_second",
        "float64",
        "at the run's best evaluation: Fréchet distance of the same images in `second_features`",
        math.inf,
    ),
    Column(
        "kid",
        "float64",
        "there: the unbiased kernel distance in `features`, cubic polynomial kernel, all images at "
        "once; about 0 or more",
        math.inf,
    ),
    Column("knn_precision", "float64", "there: in [0, 1], k-NN precision (k = 3) in `features`", 0),
    Column("knn_recall", "float64", "there: in [0, 1], k-NN recall (k = 3) in `features`", 0),
)
MANIFOLD = (
    Column("f1", "float64", "triangles, at the best evaluation: in [0, 1], F1 of the next two", 0),
    Column(
        "manifold_precision",
        "float64",
        "share of generated images within 0.75 of the manifold (study/measures/"
        "triangle_manifold.py), in [0, 1]",
        0,
    ),
    Column(
        "manifold_recall",
        "float64",
        "share of held-out images within 0.75 of what the generator can make, in [0, 1]",
        0,
    ),
    Column(
        "precision_distance",
        "float64",
        "median distance that the precision counts, squared pixels in [0, 1]²",
        math.inf,
    ),
    Column("recall_distance", "float64", "median distance that the recall counts", math.inf),
)
MEASURED = (*COSTS, *DISTANCES, *SECOND, *MANIFOLD)


def diverged(*groups: tuple[Column, ...]) -> dict[str, float]:
    """The measured values of a generator that is not finite: no distance is small enough."""
    columns = (column for group in groups for column in group)
    return {column.name: column.diverged for column in columns if column.diverged is not None}
