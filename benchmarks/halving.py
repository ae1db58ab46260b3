"""What successive halving saves and loses, told from a search that was trained to the end.

    python benchmarks/halving.py [SWEEP] [DATASET] [SETTINGS] [RUNG] [KEEP]

The first half of every run is what it would have been with a rung there, so that nothing is trained
again. Prints Markdown, a row a loss: searches (blocks of so many consecutive settings), D steps
taken of those without rungs, searches that lose their best setting, and how much larger the best
found is, in the mean and at worst.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from study.analysis import scores
from study.runs.table import read_table

RESULTS = Path(__file__).parent.parent / "results"


def replay(table: pd.DataFrame, settings: int, rung: float, keep: float) -> pd.DataFrame:
    """What a table of finished runs says of one rung; a row a loss.

    `rung`: share of the D steps; `keep`: share of the settings that goes on from there, rounded up.
    """
    length = table.groupby(scores.RUN)["step"].transform("max")
    early = table[(table["step"] <= rung * length) & (table["status"] == "ok")]
    at_rung = early.groupby(scores.RUN)["fid"].min().rename("at_rung")
    runs = scores.search(table).join(at_rung, on=scores.RUN).fillna({"at_rung": np.inf})
    rows = {}
    for loss, own in scores.by_loss(runs.sort_values("number")):
        whole = len(own) // settings * settings
        fid, so_far = (
            own[column].to_numpy(dtype=float)[:whole].reshape(-1, settings)
            for column in ("fid", "at_rung")
        )
        goes_on = math.ceil(keep * settings)
        kept = so_far.argsort(axis=1, kind="stable")[:, :goes_on]
        found = np.take_along_axis(fid, kept, axis=1).min(axis=1)
        ratio = found / fid.min(axis=1)
        rows[scores.title(loss)] = {
            "searches": len(fid),
            "D steps": rung + (1 - rung) * goes_on / settings,
            "lose their best": int((ratio > 1).sum()),
            "best found, mean": float(ratio.mean()),
            "at worst": float(ratio.max()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    """Print what the words of the command line ask for."""
    given = dict(enumerate(sys.argv[1:]))
    table = read_table(RESULTS, given.get(0, "mini"))
    table = table[table["dataset"] == given.get(1, "fashion_mnist")]
    settings, rung, keep = int(given.get(2, 20)), float(given.get(3, 0.5)), float(given.get(4, 0.1))
    found = replay(table, settings, rung, keep)
    print(
        f"{settings} settings, all to {rung:.0%} of the D steps, the best {keep:.0%} to the end\n"
    )
    print("| loss |", " | ".join(found.columns), "|")
    print("| --- |" + " --- |" * len(found.columns))
    for loss, row in found.iterrows():
        print(
            f"| {loss} | {row.iloc[0]:.0f} | {row.iloc[1]:.0%} | {row.iloc[2]:.0f} | "
            f"{row.iloc[3]:.3g} times | {row.iloc[4]:.3g} times |"
        )


if __name__ == "__main__":
    main()
