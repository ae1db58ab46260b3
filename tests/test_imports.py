"""Imports go one way through the rooms, and no module or function grows too long to be read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "study"
# From the ground up; a module imports from lower lines, and from its own line's. What losses are
# built from stands below them, though it lies in training/ beside the loop that trains them; so do
# search spaces above losses, which state them.
LAYERS = (
    ("errors",),
    ("counts",),
    ("files",),
    ("settings",),
    ("training.networks", "training.optimizer", "training.penalties"),
    ("losses", "datasets", "features"),
    ("settings.space",),
    ("measures",),
    ("training",),
    ("runs",),
    ("analysis",),
    ("check",),
    ("terminal",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def layer_of(module: str) -> int | None:
    """The line of the longest name that holds the module."""
    held = [
        (len(name), line)
        for line, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(held)[1] if held else None


def imports(path: Path) -> Iterator[str]:
    """Every module of the package that a module imports, inside functions too."""
    there = {name_of(module) for module in MODULES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "study":
            base = (node.module or "").removeprefix("study").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                yield full if full in there else base
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("study.")
                for alias in node.names
                if alias.name.startswith("study.")
            )


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    here = layer_of(name_of(path))
    for module in imports(path):
        there = layer_of(module)
        if module:  # the package itself holds nothing
            assert there is not None, f"{module} has no layer"
            assert here is not None, f"{name_of(path)} has no layer"
            assert there <= here, f"{name_of(path)} imports {module}"


def test_losses_data_sets_and_extractors_know_nothing_of_each_other() -> None:
    rooms = ("losses", "datasets", "features")
    for path in MODULES:
        room = name_of(path).split(".")[0]
        if room in rooms:
            found = {module.split(".")[0] for module in imports(path)}
            assert not found & ({*rooms} - {room}), name_of(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_to_be_read_is_short(path: Path) -> None:
    """A function's lines are those below its signature and docstring. The training loop alone is
    one function to be read from top to bottom."""
    text = path.read_text()
    loop = name_of(path) == "training.loop"
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and not (loop and node.name == "train"):
            first = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            length = (node.end_lineno or 0) - first[0].lineno + 1
            assert length <= LONGEST_FUNCTION, f"{name_of(path)}.{node.name}: {length} lines"
