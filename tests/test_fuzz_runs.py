"""Files from other hands, broken at random: whatever reads them says so in a line, and goes on.

Every reader is given thousands of mutations of a whole file: bytes flipped, cut, doubled; values of
every JSON type in every place. None may raise anything but a StudyError or an OSError.
"""

import contextlib
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_cli import finished, root, written  # noqa: F401 (a fixture)

from study import files
from study.errors import StudyError
from study.runs import orders, resources
from study.runs.claim import Claim, claims, failures, forgive
from study.runs.folder import state_of, take
from study.runs.plan import plan
from study.runs.progress import prepare
from study.runs.status import status
from study.runs.steps import reached
from study.runs.table import collect, read_table, rows_of, table_path
from study.settings import config as configs
from study.settings.config import load_sweep, load_sweeps, read_config

JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    10**400,
    1.5,
    "",
    "x",
    "../../../x",
    "[/bold]",
    "\x00",
    [],
    [1],
    {},
    [[]],
]


def torn(content: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, cut out, doubled or put in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 2:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del data[at:]
    return bytes(data)


def bent(content: Any, rng: random.Random) -> Any:
    """A JSON value with one value in it replaced, or a key left out or renamed."""
    content = json.loads(json.dumps(content))
    at, key, places = content, None, []

    def walk(value: Any) -> None:
        for k in list(value) if isinstance(value, dict) else range(len(value)):
            places.append((value, k))
            if isinstance(value[k], dict | list):
                walk(value[k])

    walk(content)
    at, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del at[key]
    elif kind == 1 and isinstance(at, dict):
        at[rng.choice(["x", "own", "", "state"])] = at.pop(key)
    else:
        at[key] = rng.choice(JUNK)
    return content


def readers(results: Path, folder: Path, everything: bool = True) -> Iterator[Callable[[], object]]:
    """All that reads what lies in a run's folder; each may refuse, in its own way."""
    yield lambda: read_config(folder / "config.json")
    yield lambda: state_of(folder)
    yield lambda: [each.read() for each in claims(folder)]
    yield lambda: failures(folder)
    yield lambda: reached(folder)
    yield lambda: rows_of(folder)
    if everything:
        yield lambda: status(results)
        yield lambda: collect(results, "tiny")


def tolerate(read: Callable[[], object]) -> bool:
    """Run a reader; whether it refused in one line."""
    try:
        read()
    except (StudyError, OSError) as error:
        if "\n" in str(error):
            raise AssertionError(f"not one line: {error}") from error
        return True
    return False


@pytest.mark.parametrize("name", ["config.json", "result.json", "claim.1.json", "progress.json"])
def test_no_file_of_a_run_can_crash_a_reader(
    root: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    results, rng = root / "results", random.Random(name)
    config, other, _ = plan(load_sweep("tiny"))
    finished(results, other, [5.0])
    folder = finished(results, config, [9.0, 8.0])
    take(folder.with_name("002").parent / "002") if folder.with_name("002").exists() else None
    files.write_json(folder / "claim.1.json", {"state": "failed", "pid": 1, "error": "no"})
    files.write_json(folder / "progress.json", {"step": 5, "rate": 1.5})
    whole = written(folder)
    content = json.loads(whole[folder / name])
    for number in range(150):
        broken = (
            torn(whole[folder / name], rng)
            if number % 2
            else json.dumps(bent(content, rng)).encode()
        )
        if name != "result.json":  # a run that is done is not looked at any further
            (folder / "result.json").unlink(missing_ok=True)
        (folder / name).write_bytes(broken)
        for read in readers(results, folder, everything=number % 6 == 0):
            tolerate(read)
        if number % 10 == 0:  # what a worker and a driver do
            tolerate(lambda: forgive(folder))
            tolerate(lambda: prepare(plan(load_sweep("tiny")), results))
            tolerate(lambda: take(folder, retries=9))
            for path in folder.iterdir():
                path.unlink()
        for path, bytes_ in whole.items():
            path.write_bytes(bytes_)
        assert len(rows_of(folder)) == 2
    table = read_table(results, "tiny")
    assert table.query("number == 1")["fid"].tolist() == [5.0]  # the other run, through all of it
    said = capsys.readouterr().err
    assert "Traceback" not in said


def test_no_table_can_crash_a_reader_and_none_is_replaced(root: Path) -> None:  # noqa: F811
    results, rng = root / "results", random.Random(0)
    for number, config in enumerate(plan(load_sweep("tiny"))):
        finished(results, config, [9.0 - number])
    collect(results, "tiny")
    path = table_path(results, "tiny")
    whole = path.read_bytes()
    refused = 0
    for number in range(1000):
        broken = torn(whole, rng)
        path.write_bytes(broken)
        if tolerate(lambda: read_table(results, "tiny")):
            refused += 1
            if number % 20:
                continue
            for command in (collect, lambda *_: prepare(plan(load_sweep("tiny")), results)):
                with pytest.raises(StudyError, match=r"tiny.parquet"):
                    command(results, "tiny")
            assert path.read_bytes() == broken
            status(results)
    assert refused > 900
    path.write_bytes(whole)


def test_tables_with_other_columns_are_read_or_refused(root: Path) -> None:  # noqa: F811
    results, rng = root / "results", random.Random(1)
    for number, config in enumerate(plan(load_sweep("tiny"))):
        finished(results, config, [9.0 - number])
    table = collect(results, "tiny")
    path = table_path(results, "tiny")
    for _ in range(150):
        name = str(rng.choice(list(table)))
        changed = rng.choice(
            [
                table.drop(columns=name),
                table.rename(columns={name: "x"}),
                table.assign(**{name: rng.choice([None, "x", "../x", 1, -1.5, True])}),
                table.assign(**{name: table[name].astype(str)}),
                table.head(0),
                pd.DataFrame({name: [1]}),
            ]
        )
        with contextlib.suppress(Exception):
            changed.to_parquet(path)
        for read in (
            lambda: read_table(results, "tiny"),
            lambda: status(results),
            lambda: prepare(plan(load_sweep("tiny")), results),
            lambda: collect(results, "tiny"),
        ):
            tolerate(read)


def test_no_toml_can_crash_a_reader(
    root: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = random.Random(2)
    path = root / "sweeps/tiny.toml"
    whole = path.read_bytes()
    (root / "sweeps/other.toml").write_bytes(whole)
    for number in range(600):
        path.write_bytes(torn(whole, rng))
        tolerate(lambda: load_sweep("tiny"))
        if number % 50 == 0:
            configs.say_once.cache_clear()
            assert "other" in [each.name for each in load_sweeps()]
            tolerate(lambda: plan(load_sweep("tiny")))
    mine = tmp_path / "mine.toml"
    shipped = (resources.RESOURCES_FOLDER / "gpu.toml").read_bytes()
    for _ in range(600):
        mine.write_bytes(torn(shipped, rng))
        tolerate(lambda: resources.read_resources(mine))


def test_no_order_can_crash_a_reader(tmp_path: Path) -> None:
    rng = random.Random(3)
    order = orders.Order([[tmp_path / "a"], [tmp_path / "b"]], {tmp_path / "a": 1})
    orders.write_order(tmp_path, order)
    whole = (tmp_path / "order.json").read_bytes()
    for number in range(600):
        broken = (
            torn(whole, rng) if number % 2 else json.dumps(bent(json.loads(whole), rng)).encode()
        )
        (tmp_path / "order.json").write_bytes(broken)
        tolerate(lambda: orders.read_order(tmp_path))
        orders.warnings(tmp_path.parent)


@pytest.mark.parametrize("kind", ["folder", "link", "loop", "pipe", "forbidden"])
@pytest.mark.parametrize(
    "name",
    ["config.json", "result.json", "claim.1.json", "log.txt", "progress.json", "metrics.jsonl"],
)
def test_something_else_in_a_files_place(
    root: Path,  # noqa: F811
    kind: str,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = root / "results"
    config, other, _ = plan(load_sweep("tiny"))
    finished(results, other, [5.0])
    folder = finished(results, config, [9.0])
    if name != "result.json":
        (folder / "result.json").unlink()
    victim = root / "victim"
    victim.write_text("precious")
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "forbidden":
        path.write_text("{}")
        path.chmod(0)
    else:
        path.symlink_to(victim if kind == "link" else path)
    for read in readers(results, folder):
        tolerate(read)
    for _ in range(2):
        tolerate(lambda: prepare(plan(load_sweep("tiny")), results))
        tolerate(lambda: take(folder, retries=9))
        tolerate(lambda: forgive(folder))
    assert victim.read_text() == "precious"
    assert read_table(results, "tiny")["fid"].tolist()[-1] == 5.0
    assert Claim(folder.with_name("001"), 1).is_held()
