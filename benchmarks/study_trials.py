"""The study's side of trials.py, in processes that import nothing of the peers.

`python benchmarks/study_trials.py WORKERS RUNS` trains that many runs of `mini`: NS GAN on
Fashion-MNIST at the authors' default setting, each with its own seed.
"""

import sys

from study.runs import sweep
from study.settings.config import load_sweep


def main() -> None:
    workers, runs = int(sys.argv[1]), int(sys.argv[2])
    (default,) = sweep.plan(load_sweep("mini"), ("ns",), ("fashion_mnist",), trials=1)
    configs = [default.model_copy(update={"number": i, "seed": i}) for i in range(runs)]
    results = sweep.results_folder()
    status = sweep.prepare(configs, results)
    sweep.run_here(status, results, workers, gpus=[], retries=0, max_failures=1)
    table = sweep.collect(results, "mini")
    if set(table["status"]) != {"ok"} or table["config"].nunique() != runs:
        raise SystemExit("not every run is ok")


if __name__ == "__main__":
    main()
