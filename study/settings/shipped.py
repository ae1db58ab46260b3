"""Files that come with the program and that users edit in a checkout.

study/shipped/ links to the checkout's folders, so that nothing lies twice; a wheel holds copies.
"""

from pathlib import Path

_LINKS = Path(__file__).parent.parent / "shipped"

SWEEPS = (_LINKS / "sweeps").resolve()
"""One TOML an experiment; paper/ holds the paper's own settings."""
SLURM = (_LINKS / "slurm").resolve()
"""What a job may use on a cluster."""
PAPER_RESULTS = (_LINKS / "paper_results").resolve()
"""What the paper reported."""
