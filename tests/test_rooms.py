"""The house: which room may import which, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tunewise

ROOT = Path(tunewise.__file__).parent
HEAVY = {"torch", "transformers", "peft", "trl", "datasets", "accelerate"}
NETWORK = {"httpx", "requests", "socket", "urllib"}

# A room may import the rooms named with it (and itself); `cli` is imported by nobody.
ALLOWED = {
    "errors": set(),
    "data": {"errors", "formats", "rowfiles"},
    "progress": set(),
    "words": set(),
    "clusters": {"data", "near"},
    "splits": {"errors", "clusters", "data", "near", "task"},
    "ladder": {"evidence"},
    "bar": set(),
    "decision": {"bar", "evidence", "ladder"},
    "retrieval": {"errors", "data", "formats", "words"},
    "advice": {
        "errors",
        "marked_yaml",
        "rungs",
        "task",
        "task_facts",
        "evidence",
        "splits",
        "api",
        "forecast",
        "estimation",
        "models",
        "retrieval",
    },
    "report": {"data", "decision", "evidence", "errors", "guard_words"},
    "guard_words": set(),
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Full names of the modules a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files_of(room: str) -> list[Path]:
    folder = ROOT / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{room}.py"]


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_the_rooms_it_may(room):
    for path in files_of(room):
        own = {name.split(".")[1] for name in imports(path) if name.startswith("tunewise.")}
        assert own <= ALLOWED[room] | {room}, f"{path.relative_to(ROOT)} imports {own - ALLOWED[room]}"


def test_nobody_imports_the_command_line():
    for path in ROOT.rglob("*.py"):
        if path.parent.name != "cli" and path != ROOT / "__main__.py":
            assert not any(name.startswith("tunewise.cli") for name in imports(path)), path


@pytest.mark.parametrize(
    "room", ["task", "splits", "data", "decision", "ladder", "report", "evidence", "advice"]
)
def test_pure_rooms_touch_neither_weights_nor_the_network(room):
    for path in files_of(room):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & (HEAVY | NETWORK), path


def test_no_module_loads_torch_when_it_is_imported_but_those_that_train_or_answer():
    for path in ROOT.rglob("*.py"):
        room = path.relative_to(ROOT).parts[0]
        if room in ("models", "training"):
            continue
        roots = {name.split(".")[0] for name in imports(path, top_level_only=True)}
        assert not roots & HEAVY, path


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_the_package_and_its_api_loads_no_torch():
    heavy = sorted(HEAVY)
    said = run(f"import sys, tunewise; tunewise.decide; print([m for m in {heavy!r} if m in sys.modules])")
    assert said == "[]"


def test_the_command_line_starts_without_the_heavy_parts_of_the_package():
    said = run(
        "import sys, tunewise.cli.main; "
        "print([m for m in ('torch','pydantic','scipy','numpy','httpx','jinja2') if m in sys.modules])"
    )
    assert said == "[]"
