"""Which losses beat the reference with a budget of k settings: the question that the study asks.

The rule is that of the paired study's protocol: `statistics.judge`, once, when all settings that
the sweep states are there for all losses that it states. Before, nobody is named, and `interim`
says what holds at any look. Losses beyond those are judged by the same rule for themselves: they
take nothing from what was stated.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.verdict.words import (
    Finding,
    between,
    in_a_row,
    listed,
    panels,
    probability,
)
from study.counts import counted
from study.errors import StudyError
from study.runs.folder import is_paired
from study.settings.config import SweepConfig

REFERENCE = "ns"
ALPHA = 0.05
SEEN = 0.8
"""Power is told for a loss whose scores are so many times as large at every setting."""


WIN_K = "In the table: win_k is the chance at budget k."


Standing = Literal["primary", "secondary", "exploration"]


class Panel(NamedTuple):
    """The losses of one data set of a search that are judged together."""

    dataset: str
    reference: str
    stated: int
    """Settings a loss that the sweep states."""
    fids: dict[str, "pd.Series[float]"]
    """Scores by number of each of the losses; of the stated settings only those that are there."""
    paired: bool
    """Whether a number means the same setting and seed for all losses."""
    standing: Standing
    """Primary: the one question that a paired search was made for, on its first data set, against
    REFERENCE. Secondary: what else is asked of it. Exploration: any other search."""
    own_draws: bool
    """Whether every loss drew settings of its own."""
    further: bool
    """Whether these are the losses that the table has beyond those that the sweep states."""

    @property
    def hidden(self) -> bool:
        """Whether nobody is to see who is ahead: it is judged once, and not complete."""
        return self.paired and bool(self.missing)

    @property
    def where(self) -> str:
        """The data set, and whose losses, as sentences begin."""
        beyond = ", losses that the sweep does not state" if self.further else ""
        return scores.dataset_title(self.dataset) + beyond

    @property
    def missing(self) -> dict[str, int]:
        """How many settings a loss lacks, of those that lack any."""
        lacking = {loss: self.stated - len(fid) for loss, fid in self.fids.items()}
        return {loss: count for loss, count in lacking.items() if count}

    @property
    def fewest(self) -> int:
        """Settings of the loss that has the fewest."""
        return min(map(len, self.fids.values()))

    def beside_reference(self, loss: str) -> tuple[Any, Any]:
        """The scores of a loss and of the reference: where paired, of the settings of both."""
        own, base = self.fids[loss], self.fids[self.reference]
        if self.paired:
            both = own.index.intersection(base.index)
            own, base = own[both], base[both]
        return own.to_numpy(), base.to_numpy()

    def others(self) -> list[str]:
        """All losses but the reference."""
        return [loss for loss in self.fids if loss != self.reference]


def judged_budgets(n: int) -> list[int]:
    """The budgets that are judged with n settings."""
    return [k for k in st.BUDGETS if st.judged(k, n)]


def panels_of(runs: pd.DataFrame, sweep: SweepConfig, reference: str) -> Iterator[Panel]:
    """Each data set of a search's scores that has the reference and another loss.

    One panel of the losses that the sweep states (all there are where it states none), and one of
    those beyond.
    """
    paired = is_paired(sweep)
    for dataset, panel in panels(runs):
        there = scores.losses(panel)
        if reference not in there:
            continue
        wanted = sweep.losses or there
        stated = [loss for loss in there if loss in wanted]
        stated += [loss for loss in wanted if loss not in there]
        further = [loss for loss in there if loss not in (*wanted, reference)]
        for losses in (stated, further):
            others = [loss for loss in losses if loss != reference]
            if not others:
                continue
            count, is_further, fids = sweep.settings(dataset), losses is further, {}
            for loss in losses if reference in losses else [reference, *others]:
                own = panel[panel["loss"] == loss].set_index("number")["fid"].sort_index()
                fids[loss] = own[own.index < count]
            standing = standing_of(sweep, dataset, reference, is_further)
            own_draws = sweep.draws == "own"
            yield Panel(dataset, reference, count, fids, paired, standing, own_draws, is_further)


def standing_of(sweep: SweepConfig, dataset: str, reference: str, is_further: bool) -> Standing:
    """What an answer is worth: the primary one is of the first data set, against NS GAN."""
    if not is_paired(sweep):
        return "exploration"
    asked_first = dataset == next(iter(sweep.datasets)) and reference == REFERENCE
    return "primary" if asked_first and not is_further else "secondary"


def require_reference(runs: pd.DataFrame, reference: str) -> None:
    """StudyError where no row is the reference's."""
    there = scores.losses(runs)
    if reference not in there:
        raise StudyError(
            f"no rows of {reference!r}; the table has {', '.join(there)}: train it, or compare "
            "with one of these"
        )


def comparisons(panel: Panel) -> list[dict[str, Any]]:
    """Every other loss of a data set against the reference, the numbers by name.

    loss, dataset, reference, standing (`Panel.standing`), n (the fewer settings of the two),
    missing (settings of the stated ones that the loss lacks), budgets (those that n allows to
    judge; none of a paired search that is not complete), chance, ratio (value, low, high) at each;
    p at each, p_any (over the budgets), p_holm (over the losses, too), better_at and worse_at
    (budgets), verdict: where the data set is judged; else None, none, "not judged". power: the
    chance that a loss with such scores, SEEN times as large at every setting, would be named (by
    Holm's first step); of those not told apart.
    """
    tried = judged_budgets(panel.fewest)
    found = {}
    if tried and not panel.missing:
        others = {loss: panel.fids[loss] for loss in panel.others()}
        base = panel.fids[panel.reference]
        found = st.judge(base, others, tried, panel.paired, alpha=ALPHA)
    rows = []
    for loss in panel.others():
        x, y = panel.beside_reference(loss)
        n = min(len(x), len(y))
        budgets = [] if panel.hidden else judged_budgets(n)
        chance = st.win_chance(x, y, budgets, panel.paired) if budgets else np.zeros(0)
        ratio = st.ratio_interval(x, y, budgets, panel.paired) if budgets else ((), (), ())
        row: dict[str, Any] = {
            "loss": loss,
            "dataset": panel.dataset,
            "reference": panel.reference,
            "standing": panel.standing,
            "n": n,
            "missing": panel.missing.get(loss, 0),
            "budgets": budgets,
            "chance": chance.tolist(),
            "ratio": [
                {"value": float(value), "low": float(low), "high": float(high)}
                for value, low, high in zip(*ratio, strict=True)
            ],
        }
        row |= _judgement(found.get(loss))
        if row["verdict"] == "not told apart":
            draws = st.first_draws(panel.paired)
            step = ALPHA / len(panel.others())
            row["power"] = st.power(x, y, SEEN, tried, panel.paired, alpha=step, draws=draws)
        rows.append(row)
    return rows


def _judgement(found: st.Judgement | None) -> dict[str, Any]:
    if found is None:
        return {
            **dict.fromkeys(("p", "p_any", "p_holm")),
            **{"better_at": [], "worse_at": [], "verdict": "not judged", "power": None},
        }
    said = {(True, False): "better", (False, True): "worse", (False, False): "not told apart"}
    return {
        "p": found.comparison.p.tolist(),
        "p_any": found.comparison.p_any,
        "p_holm": found.p_holm,
        "better_at": list(found.better),
        "worse_at": list(found.worse),
        "verdict": said.get((bool(found.better), bool(found.worse)), "better and worse"),
        "power": None,
    }


def sentences(panel: Panel, rows: list[dict[str, Any]]) -> list[str]:
    """What README, report and terminal say of a data set: three sentences, or what is missing."""
    where, reference = panel.where, scores.title(panel.reference)
    if panel.missing:
        return [_what_is_missing(panel)]
    if not judged_budgets(panel.fewest):
        return [
            f"{where}: nobody is named: {counted(panel.fewest, 'setting')} a loss, too few for any "
            f"budget (a budget needs {st.SETTINGS_A_BUDGET} times as many)."
        ]
    better, worse = (
        listed(_claim(row, side) for row in rows if row[side]) for side in ("better_at", "worse_at")
    )
    open_ = [row for row in rows if row["verdict"] == "not told apart"]
    alike = listed(scores.title(row["loss"]) for row in open_)
    if open_:
        powers = between([100 * row["power"] for row in open_])
        alike += f" (one {SEEN} times at every setting would be named with chance {powers} %)"
    test = "sign flips of the pairs" if panel.paired else "permutations of the scores"
    return [
        f"{where}, better than {reference} with as many settings tried: {better}.",
        f"Worse: {worse}.",
        f"Not told apart: {alike}; n = {panel.fewest} settings a loss, budgets "
        f"{in_a_row(judged_budgets(panel.fewest))}, {test}, 5 % for all losses and budgets "
        f"together (Holm); {_worth(panel)}.",
    ]


def _worth(panel: Panel) -> str:
    match panel.standing:
        case "primary":
            return "the same settings and seeds for all, judged once"
        case "secondary":
            return "the same settings and seeds for all; secondary, these 5 % are spent anew"
        case "exploration":
            drew = "every loss drew its own settings, and " if panel.own_draws else ""
            return f"exploration: {drew}the table was open while it grew"


def _what_is_missing(panel: Panel) -> str:
    counts = sorted(set(panel.missing.values()))
    lacking = (
        f"all {len(panel.missing)} losses lack {counts[0]}"
        if len(counts) == 1 and len(panel.missing) == len(panel.fids)
        else listed(f"{scores.title(loss)} lacks {n}" for loss, n in panel.missing.items())
    )
    return (
        f"{panel.where}: nobody is named yet: of the {panel.stated} "
        f"settings a loss that the sweep states {lacking}; `verdict --interim` says what holds at "
        "any look."
    )


def _claim(row: dict[str, Any], side: str) -> str:
    """VAE (budgets 1 and 2: chance 78 to 83 %, expected best 0.62 to 0.64 times, p < 0.001)."""
    at = [row["budgets"].index(k) for k in row[side]]
    chances = between([100 * row["chance"][place] for place in at])
    return (
        f"{scores.title(row['loss'])} (budget{'s' * (len(at) > 1)} {in_a_row(row[side])}: chance "
        f"{chances} %, expected best {_ratios(row, at)}, {probability(row['p_holm'])})"
    )


def _ratios(row: dict[str, Any], at: list[int]) -> str:
    """0.62 to 0.64 times; at which budgets, and whose is infinite at the others, where so many runs
    diverged that a budget may draw none else."""
    values = {row["budgets"][place]: row["ratio"][place]["value"] for place in at}
    finite = {k: value for k, value in values.items() if 0 < value < np.inf}
    if len(finite) == len(values):
        return f"{between(finite.values(), '.2f')} times"
    said = []
    if finite:
        said.append(f"{between(finite.values(), '.2f')} times at {in_a_row(list(finite))}")
    infinite: dict[str, Callable[[float], bool]] = {
        f"{scores.title(row['reference'])}'s infinite": lambda ratio: ratio == 0,
        "infinite": lambda ratio: ratio == np.inf,
        "both infinite": math.isnan,
    }
    for whose, is_so in infinite.items():
        if there := [k for k, ratio in values.items() if is_so(ratio)]:
            said.append(f"{whose} at {in_a_row(there)}")
    return f"{', '.join(said)} by diverged runs"


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The comparisons as a table, a row a loss: win_k, the chance at each budget, p_holm, verdict
    and power."""
    flat = []
    for row in rows:
        line = {name: row[name] for name in ("dataset", "loss", "n")}
        line |= {
            f"win_{k}": chance for k, chance in zip(row["budgets"], row["chance"], strict=True)
        }
        flat.append(line | {name: row[name] for name in ("p_holm", "verdict", "power")})
    table = pd.DataFrame(flat).set_index(["dataset", "loss"])
    won = [name for k in st.BUDGETS if (name := f"win_{k}") in table]
    return table[["n", *won, "p_holm", "verdict", "power"]].infer_objects()


def by_how_much(rows: list[dict[str, Any]], reference: str) -> Finding | None:
    """The comparisons budget by budget, a row a loss and budget; None where none is judged yet."""
    flat = [
        {"dataset": row["dataset"], "loss": row["loss"], "budget": k}
        | {"ratio": ratio["value"], "low": ratio["low"], "high": ratio["high"]}
        | {"p": None if row["p"] is None else row["p"][place]}
        for row in rows
        for place, (k, ratio) in enumerate(zip(row["budgets"], row["ratio"], strict=True))
    ]
    if not flat:
        return None
    answer = (
        f"ratio: a loss's expected best of so many settings over that of {scores.title(reference)} "
        "(below 1 the loss is better), low to high its 95 % bootstrap interval over settings. p is "
        "that of one loss at one budget, not corrected for the others: the verdict above is."
    )
    table = pd.DataFrame(flat).set_index(["dataset", "loss"]).infer_objects()
    return Finding("By how much, at each budget?", answer, table)
