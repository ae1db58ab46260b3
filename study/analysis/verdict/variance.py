"""What the variance of log scores goes back to, where all losses share their settings."""

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.verdict.words import Finding, by_dataset, frame, panels
from study.settings.hyperparameters import SHARED_NAMES


def shares(runs: pd.DataFrame) -> pd.DataFrame:
    """Shares of the variance of log scores, by data set: column share, rows what it goes back to.

    Of the settings that all losses have. A diverged run counts as one as bad as the worst that did
    not. `lr` enters as its logarithm.
    """
    rows = {}
    for dataset, panel in panels(runs):
        wide = panel.pivot_table(index="loss", columns="number", values="fid").dropna(axis=1)
        shared = panel[panel["number"].isin(wide.columns)].drop_duplicates("number")
        shared = shared.set_index("number").loc[wide.columns]
        names = [n for n in SHARED_NAMES if n in shared and shared[n].nunique() > 1]
        if "normalisation" in names and "batch_norm" in names:
            names.remove("batch_norm")  # the same in the paper's words
        values = wide.to_numpy()
        if len(wide) < 2 or len(shared) < 40 or not np.isfinite(values).any():
            continue
        capped = np.log(np.minimum(values, values[np.isfinite(values)].max()))
        factors = {name: shared[name].to_numpy() for name in names}
        if "lr" in factors:
            factors["lr"] = np.log10(factors["lr"].astype(float))
        for part, share in st.shares_of_variance(capped, factors).items():
            rows[dataset, part] = [share]
    return frame(rows, ["share"], "of")


def finding(runs: pd.DataFrame) -> Finding | None:
    """What the variance goes back to, in words."""
    result, said = shares(runs), []
    if result.empty:
        return None
    for dataset, rows in by_dataset(result):
        parts = rows["share"].droplevel("dataset")
        ordered = parts.drop("rest").sort_values(ascending=False, kind="stable")
        told = [f"{name} {share:.0%}" for name, share in ordered.items() if share >= 0.005]
        said.append(
            f"{scores.dataset_title(dataset)}: {', '.join(told)}; the rest, which none of these "
            f"explains, {parts['rest']:.0%}."
        )
    text = f"Shares of the variance of log scores, noise taken off. {' '.join(said)}"
    return Finding("What does the distance go back to?", text, result)
