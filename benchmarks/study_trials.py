"""The study's side of trials.py, in processes that import nothing of the peers.

`python benchmarks/study_trials.py WORKERS RUNS` trains that many runs of `mini`: NS GAN on
Fashion-MNIST at the authors' default setting, each with its own seed.
"""

import sys

from study.runs import table
from study.runs.driver import drive
from study.runs.folder import results_folder
from study.runs.local import here
from study.runs.plan import plan
from study.runs.progress import prepare
from study.settings.config import load_sweep
from study.training.loop import train


def main() -> None:
    workers, runs = int(sys.argv[1]), int(sys.argv[2])
    (default,) = plan(load_sweep("mini"), ("ns",), ("fashion_mnist",), trials=1)
    configs = [default.model_copy(update={"number": i, "seed": i}) for i in range(runs)]
    results = results_folder()
    with here(train, workers, retries=0) as scheduler:
        drive(prepare(configs, results), scheduler, lambda _: None, retries=0, max_failures=1)
    rows = table.collect(results, "mini")
    if set(rows["status"]) != {"ok"} or rows["config"].nunique() != runs:
        raise SystemExit("not every run is ok")


if __name__ == "__main__":
    main()
