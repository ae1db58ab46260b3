"""The driver's loop over a scheduler that does as it is told."""

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest
import toy
from there import there

from study import files
from study.errors import StudyError
from study.runs import driver
from study.runs.claim import last_claim
from study.runs.driver import NotNow, drive
from study.runs.folder import state_of, take
from study.runs.progress import Progress
from study.settings.config import Halving, RunConfig

CONFIG = RunConfig(
    sweep="sweep", loss="loss", dataset="data", number=0, seed=0, lr=1e-3, beta1=0.5, disc_iters=1,
    normalisation="batch", batch_norm=True, d_steps=2, evaluate_every=1, width=0.25, bn_decay=0.9,
    features="random", num_images=10,
)  # fmt: skip


class Puppet:
    """A scheduler whose jobs do what `work` does to each run, one pause after they were sent."""

    look_s = 0.0

    def __init__(self, work: Callable[[Path], object], silences: Iterable[bool] = ()) -> None:
        self.work, self.silences = work, list(silences)
        self.sent: list[list[str]] = []
        self.there: list[Path] = []
        self.pauses: list[float] = []
        self.cancelled = 0

    def submit(self, folders: Sequence[Path]) -> None:
        self.sent.append([folder.name for folder in folders])
        self.there += folders

    def queued(self) -> dict[Path, str]:
        if self.silences and self.silences.pop(0):
            raise NotNow("squeue: Socket timed out")
        return {folder.absolute(): "1" for folder in self.there}

    def cancel(self) -> int:
        self.cancelled += 1
        self.there = []
        return 0

    def describe(self, count: int) -> Iterator[str]:
        yield f"{count} runs"

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        assert len(self.pauses) < 50, "it goes on for ever"
        there, self.there = self.there, []
        for folder in there:
            self.work(folder)

    def last_words(self) -> str:
        return "ModuleNotFoundError: No module named 'torch'"


def runs(tmp_path: Path, names: str = "abc") -> Progress:
    folders = toy.plan(tmp_path, **{name: {} for name in names})
    configs = [CONFIG.model_copy(update={"number": i}) for i in range(len(folders))]
    states = [state_of(folder) for folder in folders]
    return Progress(configs, folders, states, [config.hash for config in configs])


def finish(folder: Path) -> None:
    mine = take(folder, retries=9)
    hash_ = next(c.hash for c in [CONFIG.model_copy(update={"number": i}) for i in range(9)]
                 if "abcdefghi"[c.number] == folder.name)  # fmt: skip
    files.write_json(folder / "result.json", toy.result(1.0, config=hash_))
    there(mine).end("finished")


def die(folder: Path) -> None:
    """A job that dies before it takes its run."""


def fail(folder: Path) -> None:
    there(take(folder, retries=9)).end("failed", "no")


def go(found: Progress, puppet: Puppet, retries: int = 1, max_failures: int = 9) -> None:
    drive(found, puppet, lambda _: None, retries, max_failures)


def test_every_run_is_sent_once_and_brought_to_its_end(tmp_path: Path) -> None:
    found, puppet = runs(tmp_path), Puppet(finish)
    go(found, puppet)
    assert puppet.sent == [["a", "b", "c"]]
    assert [state_of(folder) for folder in found.folders] == ["ok"] * 3


def test_jobs_that_die_before_they_take_a_run_stop_the_sweep(tmp_path: Path) -> None:
    puppet = Puppet(die)
    with pytest.raises(StudyError, match=r"^no run was taken: ModuleNotFoundError: No module"):
        go(runs(tmp_path), puppet)
    assert puppet.sent == [["a", "b", "c"]]


def test_a_run_that_came_back_untouched_waits_for_all_others(tmp_path: Path) -> None:
    found, looks = runs(tmp_path, "ab"), [3, 2, 1]

    def work(folder: Path) -> None:
        if folder.name == "b" and looks:
            looks.pop()
            puppet.there.append(folder)  # is still in the queue
        elif folder.name == "b" or len(puppet.sent) > 1:
            assert not looks
            finish(folder)

    puppet = Puppet(work)
    drive(found, puppet, lambda _: None, retries=1, max_failures=9)
    assert puppet.sent == [["a", "b"], ["a"]]


def test_what_is_in_the_queue_is_not_sent_again(tmp_path: Path) -> None:
    found = runs(tmp_path)
    puppet = Puppet(finish)
    puppet.there = [found.folders[1]]  # by a driver that has died
    drive(found, puppet, lambda _: None, retries=1, max_failures=9)
    assert puppet.sent == [["a", "c"]]


def test_a_run_that_cannot_be_read_now_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the driver's questions the file server does not answer."""
    rng = random.Random(0)
    failed: list[Path] = []

    def stale(path: Path) -> list[str]:
        if rng.random() < 0.4:
            failed.append(path)
            raise OSError(116, "Stale file handle", str(path))
        return listed(path)

    def work(folder: Path) -> None:
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(os, "listdir", listed)
            finish(folder)

    listed, found = os.listdir, runs(tmp_path)
    monkeypatch.setattr(os, "listdir", stale)
    puppet = Puppet(work)
    drive(found, puppet, lambda _: None, retries=1, max_failures=9)
    assert sorted(name for sent in puppet.sent for name in sent) == ["a", "b", "c"]
    assert len(failed) >= 3


def test_what_an_ended_job_left_is_sent_again(tmp_path: Path) -> None:
    """A job that carries several runs reaches its limit after the first: the round went on."""

    def one_a_job(folder: Path) -> None:
        if folder.name == "abc"[len(puppet.sent) - 1]:
            finish(folder)

    puppet = Puppet(one_a_job)
    go(runs(tmp_path), puppet)
    assert puppet.sent == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_failed_runs_are_sent_as_often_as_may_be(tmp_path: Path) -> None:
    puppet = Puppet(fail)
    go(runs(tmp_path, "a"), puppet, retries=2)
    assert puppet.sent == [["a"]] * 3


def test_too_many_failures_take_everything_back(tmp_path: Path) -> None:
    puppet = Puppet(fail)
    with pytest.raises(StudyError, match=r"^3 runs failed, the sweep stops"):
        go(runs(tmp_path), puppet, max_failures=3)
    assert puppet.cancelled == 1


def test_a_scheduler_that_does_not_answer_is_asked_again_with_growing_pauses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    puppet = Puppet(finish, silences=[True, True, True, False])
    puppet.look_s = 0.5
    go(runs(tmp_path, "a"), puppet)
    assert puppet.pauses[:3] == [1.0, 2.0, 4.0]
    assert puppet.pauses[3] == 0.5
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "squeue: Socket timed out; asking again in 1 s"
    assert len(said) == 3
    assert puppet.sent == [["a"]]
    monkeypatch.setattr(driver, "LONGEST_PAUSE_S", 3.0)
    puppet = Puppet(finish, silences=[True] * 5)
    puppet.look_s = 1.0
    go(runs(tmp_path / "more", "a"), puppet)
    assert puppet.pauses[:5] == [2.0, 3.0, 3.0, 3.0, 3.0]


def test_runs_that_others_have_at_work_are_waited_for_and_taken_over_when_lost(
    tmp_path: Path,
) -> None:
    found = runs(tmp_path, "a")
    mine = there(take(found.folders[0]))
    looks = []

    def show(progress: Progress) -> None:
        looks.append(progress.states[0])
        if len(looks) == 3:
            path = mine.path
            files.write_json(path, there(files.read_json(path)) | {"pid": 2**22 - 1})

    puppet = Puppet(finish)
    drive(found, puppet, show, retries=1, max_failures=9)
    assert looks[:4] == ["running", "running", "running", "lost"]
    assert puppet.sent == [["a"]]
    assert there(last_claim(found.folders[0])).number == 2


def test_one_error_of_the_disk_keeps_the_state_last_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runs(tmp_path, "ab")
    fail(found.folders[0])
    found = found.now()

    def stale(path: Path) -> bytes:
        if path.parent.name == "a":
            raise OSError(116, "Stale file handle", str(path))
        return read(path)

    read = files.read_bytes
    monkeypatch.setattr(files, "read_bytes", stale)
    later = found.now()
    assert later.states == ["failed", "to do"]
    assert set(later.unread) == {found.folders[0]}
    assert later.open(retries=9) == [found.folders[1]]
    monkeypatch.setattr(files, "read_bytes", read)
    assert later.now().unread == {}
    assert later.now().open(retries=9) == found.folders


def test_a_lasting_error_of_the_disk_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runs(tmp_path, "a")

    def stale(path: Path) -> NoReturn:
        raise OSError(116, "Stale file handle", str(path))

    monkeypatch.setattr(files, "read_bytes", stale)
    first = found.now()
    first.unread[found.folders[0]] -= 121
    with pytest.raises(StudyError, match=r"/a cannot be read: \[Errno 116\] Stale file handle"):
        first.now()


HALVED = Halving(rungs=(0.5,), keep=(0.5,))


def at_the_rung(tmp_path: Path) -> Progress:
    """Two runs that wait, the second of which is the better."""
    found = runs(tmp_path, "ab")
    for folder, hash_, fid in zip(found.folders, found.hashes, (2.0, 1.0), strict=True):
        rows = [{"step": 1, "fid": fid, "wall_s": 1.0}]
        (folder / "metrics.jsonl").write_text(files.strict_json(rows[0]) + "\n")
        files.write_json(
            folder / "waiting.json",
            toy.result(fid, config=hash_, status="stopped", evaluations=rows),
        )
    return found


def test_what_the_disk_does_not_let_be_judged_is_judged_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, errors = at_the_rung(tmp_path), [5, 116, 5]

    def rename(old: Path, new: Path) -> None:
        if errors:
            number = errors.pop()
            raise OSError(number, os.strerror(number), str(old))
        really(old, new)

    def train_on(folder: Path) -> None:
        finish(folder)
        result = there(files.read_json(folder / "result.json"))
        rows = [{"step": 1, "fid": 1.0, "wall_s": 1.0}, *result["evaluations"]]
        files.write_json(folder / "result.json", result | {"evaluations": rows})

    really = os.rename
    monkeypatch.setattr(os, "rename", rename)
    puppet = Puppet(train_on)
    drive(found, puppet, lambda _: None, 1, 9, HALVED)
    assert errors == []
    assert puppet.sent == [["b"]]
    assert [state_of(folder) for folder in found.folders] == ["stopped", "ok"]


def test_what_can_never_be_judged_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = at_the_rung(tmp_path)

    def rename(old: Path, new: Path) -> NoReturn:
        raise OSError(30, "Read-only file system", str(old))

    monkeypatch.setattr(os, "rename", rename)
    first = driver.look(found, HALVED)
    assert set(first.unread) == set(found.folders)
    later = driver.look(first, HALVED)
    [waits, _] = found.folders
    assert later.unread == {waits: first.unread[waits]}  # the time of the first look that failed
    later.unread[waits] -= 121
    with pytest.raises(StudyError, match=r"/a and what waits with it cannot be judged: \[Errno 30"):
        driver.look(later, HALVED)
