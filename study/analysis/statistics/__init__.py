"""What searches found, how sure that is, and which of two losses wins: numbers in, numbers out.

`curves`: one loss's search against its budget. `comparison`: two losses, with tests and ratio.
`ranks`: all of them. `shares`: shares and rank correlation. `interim`: what holds at any look.
"""

from study.analysis.statistics.comparison import (
    Comparison,
    Judgement,
    holm,
    judge,
    ratio_interval,
    told_apart,
    win_chance,
)
from study.analysis.statistics.curves import (
    cost_curve,
    expected_at_min,
    expected_min,
    expected_min_interval,
    min_quantile,
    min_quantile_interval,
    quantile_at_min,
    quantile_at_min_interval,
)
from study.analysis.statistics.interim import Look, block_winners, capital, looks
from study.analysis.statistics.ranks import expected_ranks, rank_interval
from study.analysis.statistics.samples import SETTINGS_A_BUDGET, Estimate, judged
from study.analysis.statistics.shares import (
    diverged_share,
    performance_profile,
    share_interval,
    spearman,
)

__all__ = [
    "SETTINGS_A_BUDGET",
    "Comparison",
    "Estimate",
    "Judgement",
    "Look",
    "block_winners",
    "capital",
    "cost_curve",
    "diverged_share",
    "expected_at_min",
    "expected_min",
    "expected_min_interval",
    "expected_ranks",
    "holm",
    "judge",
    "judged",
    "looks",
    "min_quantile",
    "min_quantile_interval",
    "performance_profile",
    "quantile_at_min",
    "quantile_at_min_interval",
    "rank_interval",
    "ratio_interval",
    "share_interval",
    "spearman",
    "told_apart",
    "win_chance",
]
