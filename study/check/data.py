"""The data sets that are here: every file's hash, as whenever they are read."""

from functools import partial

from study import datasets
from study.check.rows import Check, Machine, NotTried


def verified(name: str, machine: Machine) -> str:
    """Every part is read and its hash right; NotTried where it would have to be fetched."""
    try:
        with datasets.nothing_fetched():
            found = datasets.summary(name)
    except datasets.NotHere as error:
        raise NotTried(f"{error}; `study data {name}` fetches or makes it") from None
    parts = [f"{part}: {found[part]}" for part in datasets.find(name).sizes]
    return "; ".join([*parts, found["verified"]])


CHECKS = [Check("data", name, partial(verified, name)) for name in datasets.names()]
