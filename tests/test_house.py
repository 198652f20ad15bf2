"""The layers of the house: what each room may import, and what no room but one may know."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dropclass_jax"

# From the ground up: a room imports from its own and from those before it.
ROOMS = (
    *("errors", "files", "cores", "allocator", "schedules", "keep_masks", "dropclass", "ops"),
    *("losses", "objective", "models", "data"),
    *("parallel", "evaluation", "training", "experiment", "runs", "sweeps", "comparison"),
    *("analysis", "reporting", "prediction", "data_tools", "cli", "benchmark"),
)
COMMANDS = ("train", "evaluate", "predict", "export", "convert", "compare", "ablate", "analyze")
COMMANDS += ("report",)


def room_of(path: Path) -> str:
    """The room of a file; ``commands`` for those that a user starts, which import from all."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    command = parts[0] in COMMANDS or parts[-1] == "__main__"
    return "commands" if command else parts[0]


def imports_of(source: str) -> list[tuple[int, str]]:
    """Line and full name of everything that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def wrong_way(room: str, names: list[tuple[int, str]]) -> list[str]:
    """The imports that a room must not make."""
    wrong = []
    for line, name in names:
        package, *rest = name.split(".")
        if package == "ml_collections" and room not in ("experiment", "commands", *_USERS):
            wrong.append(f"line {line}: {room} must not know a config object")
        if package in ("jax", "flax", "optax", "orbax") and room == "data":
            wrong.append(f"line {line}: data must be free of {package}")
        if package != "dropclass_jax" or room == "commands" or not rest:
            continue
        other = rest[0]
        if other in COMMANDS or (other == "data" and rest[1:2] == ["__main__"]):
            wrong.append(f"line {line}: {room} imports the command {other}")
        elif ROOMS.index(other) > ROOMS.index(room):
            wrong.append(f"line {line}: {room} imports {name}, which stands above it")
    return wrong


# Rooms beside `experiment` that may still hold a config object.
_USERS = ("sweeps", "benchmark")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    assert wrong_way(room_of(path), imports_of(path.read_text(encoding="utf-8"))) == []


def test_every_folder_and_file_is_a_room_or_a_command():
    names = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES}
    assert names == {*ROOMS, *COMMANDS}


def test_there_is_one_pmap():
    calls = [
        path.relative_to(PACKAGE)
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "pmap"
    ]
    assert set(map(str, calls)) == {"parallel/pmap.py"}


def test_a_command_is_no_library_of_another():
    for path in FILES:
        if room_of(path) != "commands":
            continue
        for line, name in imports_of(path.read_text(encoding="utf-8")):
            package, *rest = name.split(".")
            assert package != "dropclass_jax" or rest[0] not in COMMANDS, f"{path}:{line}: {name}"


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("losses", "from dropclass_jax import models"),
        ("dropclass", "from dropclass_jax.ops import axis"),
        ("data", "import jax.numpy as jnp"),
        ("training", "def f():\n    from ml_collections import ConfigDict"),
        ("analysis", "from dropclass_jax.evaluate import evaluate_run"),
    ],
)
def test_an_import_that_runs_the_wrong_way_is_found(room, source):
    assert len(wrong_way(room, imports_of(source))) == 1
