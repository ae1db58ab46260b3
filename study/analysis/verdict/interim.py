"""What holds at any look, before all settings are there: `statistics.interim` in words."""

from typing import Any

import numpy as np
import pandas as pd

from study.analysis import scores
from study.analysis import statistics as st
from study.analysis.verdict.against import ALPHA, Panel
from study.analysis.verdict.words import Finding, listed, probability


def looks(panel: Panel) -> list[dict[str, Any]]:
    """What holds at any look: blocks won and p of every other loss, the numbers by name.

    loss, dataset, reference, standing, n (settings from number 0 on that both have without a gap),
    budgets, blocks, wins and p at each; p_any, p_holm; verdict: better, worse or "not told apart":
    by the blocks up to the look that told most.
    """
    unbroken = {
        loss: fid[fid.index == np.arange(len(fid))].to_numpy() for loss, fid in panel.fids.items()
    }
    base = unbroken.pop(panel.reference)
    rows = []
    for loss, look in st.looks(base, unbroken, st.BUDGETS).items():
        best = int(np.argmin(look.p))
        named = look.p_holm <= ALPHA
        rows.append(
            {
                "loss": loss,
                "dataset": panel.dataset,
                "reference": panel.reference,
                "standing": panel.standing,
                "n": min(len(unbroken[loss]), len(base)),
                "budgets": look.budgets.tolist(),
                "blocks": look.blocks.tolist(),
                "wins": look.wins.tolist(),
                "p": look.p.tolist(),
                "p_any": look.p_any,
                "p_holm": look.p_holm,
                "verdict": ("better" if look.ahead[best] else "worse")
                if named
                else "not told apart",
            }
        )
    return rows


def finding(panels: list[Panel]) -> Finding:
    """The interim look in words and numbers."""
    rows, said = [], []
    for panel in panels:
        own = looks(panel)
        rows += own
        parts = [
            listed(
                f"{scores.title(row['loss'])} ({probability(row['p_holm'])})"
                for row in own
                if row["verdict"] == side
            )
            for side in ("better", "worse")
        ]
        said.append(
            f"{panel.where}, the first {min(row['n'] for row in own)} settings: "
            f"better than {scores.title(own[0]['reference'])}: {parts[0]}; worse: {parts[1]}."
        )
    said.append(
        "A bet on who wins consecutive blocks of k settings: this holds at every look, however "
        "often and whenever one looks, 5 % for all losses and budgets of a sentence together."
    )
    flat = [
        {name: row[name] for name in ("dataset", "loss", "n")}
        | {
            f"won_{k}": f"{w:g}/{b}"
            for k, w, b in zip(row["budgets"], row["wins"], row["blocks"], strict=True)
        }
        | {"p_any": row["p_any"], "p_holm": row["p_holm"], "verdict": row["verdict"]}
        for row in rows
    ]
    table = pd.DataFrame(flat).set_index(["dataset", "loss"])
    return Finding("What holds at any look?", " ".join(said), table)
