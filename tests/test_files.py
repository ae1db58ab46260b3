"""Files are written whole, by the umask, over nothing of others; errors name their cause."""

import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest
import torch

from study import files
from study.datasets import images
from study.errors import StudyError, meant
from study.measures.image_sets import open_set


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    former = os.umask(0o022)
    yield os.umask
    os.umask(former)


@pytest.mark.parametrize(("mask", "expected"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_holds(
    tmp_path: Path, umask: Callable[[int], int], mask: int, expected: int
) -> None:
    umask(mask)
    files.write_json(tmp_path / "new/a.json", {"x": 1})
    files.create(tmp_path / "b.json", "{}")
    files.log(tmp_path, "hello")
    written = [tmp_path / name for name in ("new/a.json", "b.json", "log.txt")]
    assert [mode(path) for path in written] == [expected] * 3
    files.write_json(written[0], {"x": 2})
    assert mode(written[0]) == expected


def test_a_file_is_on_the_disk_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a power cut could leave an empty file under the name of a whole one."""
    path, seen = tmp_path / "a.json", []

    def fsync(handle: int) -> None:
        seen.append((os.fstat(handle).st_ino, os.fstat(handle).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_json(path, {"x": "y" * 100_000})
    assert seen == [(path.stat().st_ino, path.stat().st_size, False)]
    assert path.stat().st_size > 100_000


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "claim.1.json"
    assert files.create(path, "mine")
    assert not files.create(path, "theirs")
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("number", sorted(files.NO_HARD_LINKS))
def test_without_hard_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    test_a_file_is_created_once(tmp_path)


def test_other_errors_of_a_link_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="Input/output"):
        files.create(tmp_path / "a", "")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may grow beyond 10 kB: a full disk's stand-in."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, former)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_is_named_and_not_an_error_of_the_file_format(
    tmp_path: Path, little_room: None
) -> None:
    path = tmp_path / "checkpoint.pt"
    content = {"weights": torch.zeros(10_000)}
    with pytest.raises(OSError, match=r"File too large: '.*/checkpoint.pt'") as caught:
        files.write_atomically(path, lambda temporary: torch.save(content, temporary))
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    assert os.listdir(tmp_path) == []


def test_what_is_no_error_of_the_disk_is_raised_as_it_is(tmp_path: Path) -> None:
    def write(temporary: Path) -> NoReturn:
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"):
        files.write_atomically(tmp_path / "a", write)


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", "nul", "[" * 100_000, '{"a":' * 50_000])
def test_what_is_no_json_object_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    assert files.read_json(path) is None
    path.write_text(content)
    assert files.read_json(path) is None


def test_what_cannot_be_read_is_no_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "link", "loop"):
        with pytest.raises(OSError, match=name):
            files.read_json(tmp_path / name)

    def stale(*_: object) -> NoReturn:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "open", stale)
    with pytest.raises(OSError, match="Stale"):
        files.read_json(tmp_path / "target")


@pytest.mark.parametrize(
    ("number", "times", "is_read"),
    [(116, 1, True), (5, 1, True), (116, 2, False), (errno.EACCES, 1, False)],
)
def test_what_a_file_server_says_once_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, times: int, is_read: bool
) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    errors = times * [OSError(number, "no")]

    def once(path: Path) -> bytes:
        if errors:
            raise errors.pop()
        return path.read_bytes()

    monkeypatch.setattr(files, "read_once", once)
    if is_read:
        assert files.read_json(tmp_path / "a.json") == {"a": 1}
    else:
        with pytest.raises(OSError, match="no"):
            files.read_json(tmp_path / "a.json")
    assert not errors


def test_a_pipe_in_a_files_place_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert files.read_json(tmp_path / "a.json") is None


def test_no_reader_waits_for_a_pipes_other_end(tmp_path: Path) -> None:
    for name in ("a.toml", "a.png", "a.npy"):
        os.mkfifo(tmp_path / name)
    assert files.read_text(tmp_path / "a.toml") == ""
    for reader in (images.read, partial(images.fitted, size=8)):
        with pytest.raises(StudyError, match=r"a\.png: no file; remove it from the images"):
            reader(tmp_path / "a.png")
    with pytest.raises(StudyError, match=r"a\.npy: no file; give an \.npy or \.npz"):
        open_set(str(tmp_path / "a.npy"))


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    folder, victim = tmp_path / "run", tmp_path / "thesis.txt"
    folder.mkdir()
    victim.write_text("precious")
    for name in ("log.txt", "result.json"):
        (folder / name).symlink_to(victim)
    with pytest.raises(OSError, match=r"log.txt"):
        files.log(folder, "hello")
    files.write_json(folder / "result.json", {})
    assert victim.read_text() == "precious"
    (folder / "samples").mkdir()
    (folder / "samples/1.png").symlink_to(victim)
    assert {path.name for path in files.links_in(folder)} == {"log.txt", "1.png"}


def test_what_cannot_be_read_is_kept_under_other_names(tmp_path: Path) -> None:
    for content in ("a", "b", "c"):
        (tmp_path / "x.json").write_text(content)
        files.set_aside(tmp_path / "x.json")
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {
        "x.json.unreadable": "a", "x.json.unreadable.2": "b", "x.json.unreadable.3": "c",
    }  # fmt: skip


def test_texts_are_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_bytes('title = "ü"'.encode(encoding))
        assert files.read_text(path) == 'title = "ü"'
    for encoding in ("latin-1", "utf-16"):
        path.write_bytes('title = "ü"'.encode(encoding))
        with pytest.raises(StudyError, match=r"a.toml: not UTF-8 \(byte \d+\); save it with that"):
            files.read_text(path)


def test_a_folder_that_is_not_there_yet_can_be_written_to(tmp_path: Path) -> None:
    files.require_writable(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(StudyError, match=r"cannot write to the results folder .*/file: File exist"):
        files.require_writable(tmp_path / "file")


def test_the_environment_is_as_it_was_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_ONE", "1")
    monkeypatch.delenv("STUDY_OTHER", raising=False)
    with files.environment({"STUDY_ONE": "2", "STUDY_OTHER": "3"}):
        assert (os.environ["STUDY_ONE"], os.environ["STUDY_OTHER"]) == ("2", "3")
    assert os.environ["STUDY_ONE"] == "1"
    assert "STUDY_OTHER" not in os.environ


def test_a_lock_keeps_others_out(tmp_path: Path) -> None:
    inside = threading.Event()
    with files.alone(tmp_path):

        def enter() -> None:
            with files.alone(tmp_path):
                inside.set()

        other = threading.Thread(target=enter)
        other.start()
        assert not inside.wait(0.2)
    other.join()
    assert inside.is_set()


def test_without_git_the_commit_is_unknown(tmp_path: Path) -> None:
    code = "from study import files; print(files.commit())"
    environment = {"PATH": str(tmp_path), "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with this package's code, committed, and a file beside it."""
    package = Path(files.__file__).parent
    for name in ("__init__.py", "errors.py", "files.py"):
        target = tmp_path / "study" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(package / name, target)
    (tmp_path / "README.md").touch()
    (tmp_path / ".gitignore").write_text("venv/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    git(tmp_path, *who, "commit", "--quiet", "-m", "x")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit_of(folder: Path) -> str:
    """What the package in `folder` says of itself."""
    code = "from study import files; print(files.__file__, files.commit())"
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    file, commit = done.stdout.split()
    assert Path(file).parent.parent == folder
    return commit


def test_the_commit_is_gits_and_says_whether_the_code_differs(repository: Path) -> None:
    head = git(repository, "rev-parse", "--short=12", "HEAD")
    assert commit_of(repository) == head
    (repository / "README.md").write_text("changed")
    (repository / "table.parquet").touch()
    assert commit_of(repository) == head  # neither is code
    (repository / "study/more.py").touch()
    assert commit_of(repository) == f"{head}+"


def test_a_package_installed_below_another_repository_is_not_of_its_commit(
    repository: Path,
) -> None:
    (repository / "venv").mkdir()
    shutil.copytree(repository / "study", repository / "venv/study")
    assert commit_of(repository / "venv") == "None"


@pytest.mark.parametrize(
    ("word", "answer"),
    [("NS", " did you mean 'ns'?"), ("wgan-gp", " did you mean 'wgan_gp'?"), ("vgg", "")],
)
def test_the_nearest_name_whatever_its_case(word: str, answer: str) -> None:
    assert meant(word, ["ns", "wgan", "wgan_gp"]) == answer


@dataclass
class Number:
    """Something that can be kept."""

    value: int

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["value"])


def test_what_depends_on_the_same_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = iter(range(9))

    def kept(*parts: bytes) -> int:
        return files.kept("number", parts, Number, lambda: Number(next(made))).value

    assert [kept(b"ab", b"c"), kept(b"ab", b"c"), kept(b"a", b"bc"), kept(b"ab", b"c")] == [
        0,
        0,
        1,
        2,
    ]
    (only,) = (tmp_path / "gan-study").iterdir()  # what was kept before is gone
    for damage in ("", "[]", '{"valu'):
        only.write_text(damage)
        assert kept(b"ab", b"c") == kept(b"ab", b"c")
    assert next(made) == 6
    monkeypatch.setenv("XDG_CACHE_HOME", str(only))  # a file: nothing can be kept there
    assert [kept(b"x"), kept(b"x")] == [7, 8]
