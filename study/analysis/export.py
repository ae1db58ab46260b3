"""A search's main table for other programs and for papers: CSV, and LaTeX."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.measures.columns import distance_name

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: rf"\{character}" for character in "&%$#_{}"
}
GREEK = {"β": r"$\beta$", "γ": r"$\gamma$", "λ": r"$\lambda$", "μ": r"$\mu$", "é": r"\'e"}


def main_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row a data set, loss and budget: what the best of so many settings comes to.

    Columns: sweep, dataset, loss, title, distance (its name), settings, diverged (of them), best
    (of all), budget (settings tried), median (of the least distance of so many), low and high
    (its exact 95 % interval; an infinite end is open: so few settings do not tell it).
    """
    runs = scores.search(table)
    return pd.DataFrame(
        {
            "sweep": rows["sweep"].iloc[0],
            "dataset": dataset,
            "loss": loss,
            "title": scores.title(loss),
            "distance": distance_name(rows["features"].iloc[0]),
            "settings": len(rows),
            "diverged": int(np.isinf(rows["fid"]).sum()),
            "best": rows["fid"].min(),
            "budget": budget,
            "median": median,
            "low": low,
            "high": high,
        }
        for dataset in scores.dataset_order(runs)
        for loss, rows in scores.by_loss(runs[runs["dataset"] == dataset])
        for budget, median, low, high in medians(rows["fid"].to_numpy())
    )


def medians(fid: np.ndarray) -> Iterator[tuple[int, float, float, float]]:
    """Budget, median of the least distance of so many settings, and its interval's ends."""
    budgets = [budget for budget in st.BUDGETS if budget <= len(fid)]
    found = st.min_quantile_interval(fid, budgets, 0.5)
    yield from zip(budgets, *(end.tolist() for end in found), strict=True)


# ---- LaTeX ---------------------------------------------------------------------------------------


def latex(table: pd.DataFrame) -> str:
    """`main_table` as a table environment; needs the package booktabs.

    The least median of each budget is bold; an open end is a dash.
    """
    budgets = sorted(table["budget"].unique())
    several = table["dataset"].nunique() > 1
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption(table)}}}",
        rf"\label{{tab:{table['sweep'].iloc[0]}}}",
        rf"\begin{{tabular}}{{lr{'r' * len(budgets)}r}}",
        r"\toprule",
        rf"& & \multicolumn{{{len(budgets)}}}{{c}}{{settings tried}} & \\",
        " & ".join(["loss", "settings", *map(str, budgets), r"best \\"]),
    ]
    for dataset, rows in table.groupby("dataset", sort=False):
        lines.append(r"\midrule")
        if several:
            name = escaped(scores.dataset_title(str(dataset)))
            lines.append(rf"\multicolumn{{{len(budgets) + 3}}}{{l}}{{\emph{{{name}}}}} \\")
        lines += body(rows, budgets)
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def body(rows: pd.DataFrame, budgets: list[int]) -> Iterator[str]:
    """The lines of one data set's losses."""
    least = rows.groupby("budget")["median"].min()
    best = rows["best"].min()
    for _, own in rows.groupby("loss", sort=False):
        first = own.iloc[0]
        by_budget = {row["budget"]: row for _, row in own.iterrows()}
        settings = str(first["settings"])
        if first["diverged"]:
            settings += f" ({first['diverged']})"
        cells = [
            cell(by_budget[budget], by_budget[budget]["median"] == least[budget])
            if budget in by_budget
            else ""
            for budget in budgets
        ]
        last = bold(number(first["best"]), first["best"] == best)
        yield " & ".join([escaped(first["title"]), settings, *cells, last]) + r" \\"


def cell(row: pd.Series, is_least: bool) -> str:
    """A median with its interval."""
    low, high = number(row["low"]), number(row["high"])
    return f"{bold(number(row['median']), is_least)} [{low}, {high}]"


def number(value: float) -> str:
    """A distance with three digits; a dash where it is open, or infinite."""
    if not np.isfinite(value):
        return "--"
    rounded = float(f"{value:.3g}")
    digits = max(0, 2 - int(np.floor(np.log10(abs(rounded))))) if rounded else 0
    return f"{rounded:.{digits}f}"


def bold(text: str, is_least: bool) -> str:
    """The text, in bold where it is the least of its column."""
    return rf"\textbf{{{text}}}" if is_least else text


def caption(table: pd.DataFrame) -> str:
    """What the numbers are, and where they come from."""
    row = table.iloc[0]
    where = "" if table["dataset"].nunique() > 1 else f" on {scores.dataset_title(row['dataset'])}"
    said = (
        f"{row['distance']}{where}, sweep {row['sweep']}: median of the least distance of so many "
        "settings drawn at random, with its exact 95 % interval (a dash: open), and the least of "
        "all. In brackets: settings that diverged. The least of a column is bold, whether or not "
        "it is told apart from others."
    )
    return escaped(said)


def escaped(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join({**SPECIAL, **GREEK}.get(character, character) for character in text)
