"""What searches found, how sure that is, and which of two losses wins: numbers in, numbers out.

`curves`: one loss's search against its budget. `comparison`: two losses, with tests and ratio.
`power`: what a comparison could have seen. `interim`: what holds at any look. `ranks`: all losses.
`reruns`: one setting with several seeds. `shares`: shares and rank correlation. `variance`: what
the scores' variance goes back to.
"""

from study.analysis.statistics.comparison import (
    Comparison,
    Judgement,
    first_draws,
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
from study.analysis.statistics.power import power
from study.analysis.statistics.ranks import expected_ranks, rank_interval
from study.analysis.statistics.reruns import chance_to_be_first, ratio_of_reruns
from study.analysis.statistics.samples import BUDGETS, SETTINGS_A_BUDGET, Estimate, judged
from study.analysis.statistics.shares import (
    diverged_share,
    performance_profile,
    share_interval,
    spearman,
)
from study.analysis.statistics.variance import shares_of_variance

__all__ = [
    "BUDGETS",
    "SETTINGS_A_BUDGET",
    "Comparison",
    "Estimate",
    "Judgement",
    "Look",
    "block_winners",
    "capital",
    "chance_to_be_first",
    "cost_curve",
    "diverged_share",
    "expected_at_min",
    "expected_min",
    "expected_min_interval",
    "expected_ranks",
    "first_draws",
    "holm",
    "judge",
    "judged",
    "looks",
    "min_quantile",
    "min_quantile_interval",
    "performance_profile",
    "power",
    "quantile_at_min",
    "quantile_at_min_interval",
    "rank_interval",
    "ratio_interval",
    "ratio_of_reruns",
    "share_interval",
    "shares_of_variance",
    "spearman",
    "told_apart",
    "win_chance",
]
