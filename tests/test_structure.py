"""The layout: imports run one way, scripts stand alone, files stay small, nothing stands twice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
FOUNDATION = ("registration", "registry", "arguments", "ranges", "files", "sealed", "typed")
FOUNDATION += ("trust", "seeding", "compute", "isolation", "__init__")
FOUNDATION += ("interrupts", "writing", "locks", "workers")
ORDER = [  # each may import from itself and from what stands before it
    ("foundation",),
    ("data", "models"),
    ("control",),
    ("tasks", "policies"),
    ("schedulers",),
    ("methods",),
    ("training",),
    ("envs",),
    ("deploy", "board"),
    ("evaluation",),
    ("reports",),
    ("learning",),
    ("cli",),
    ("experiment",),
    ("agents", "experiments", "examples"),
]
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}
OPTIONAL = {"stable_baselines3", "sb3_contrib", "tensorboard", "torch.utils.tensorboard", "tyro"}
ALONE = {  # libraries that one file alone imports
    "lightning": "asg_env.schedulers.lightning",
    "pytorch_lightning": "asg_env.schedulers.lightning",
    "transformers": "asg_env.schedulers.transformers",
    "timm": "asg_env.schedulers.timm",
    "huggingface_hub": "asg_env.policies.hub",
}
OPTIONAL |= set(ALONE)
PARTS = ("asg_env", "agents", "experiments", "examples")
SOURCES = sorted(path for part in PARTS for path in (REPO / part).rglob("*.py"))
TESTS = sorted((REPO / "tests").rglob("*.py"))
LONGEST, LONGEST_AGENT, LONGEST_ENV = 400, 320, 200
AGENTS = ("reinforce", "sb3", "tune")
BLOCK = 6  # equal lines


def name_of(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in SOURCES}


def part_of(module: str) -> str:
    """The part of the layout: a folder, or a file at the top of the library."""
    first, *rest = module.split(".")
    if first != "asg_env":
        return first
    return "foundation" if not rest or rest[0] in FOUNDATION else rest[0]


def imported(path: Path, top: bool = False) -> set[str]:
    """What a file imports, as modules where they are ours; ``top``: not within functions."""
    tree = ast.parse(path.read_text())
    inner = (ast.FunctionDef, ast.AsyncFunctionDef)
    later = {id(n) for f in ast.walk(tree) if isinstance(f, inner) for n in ast.walk(f)}
    found = set()
    for node in ast.walk(tree):
        if top and id(node) in later:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in whole}
    return found


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in PARTS}


def test_every_part_of_the_library_has_its_place():
    assert {part_of(name) for name in MODULES} <= set(RANK)


@pytest.mark.parametrize("module", [m for m in MODULES if m != "asg_env"])
def test_imports_run_one_way(module):
    here = part_of(module)
    for other in ours(imported(MODULES[module])) - {"asg_env"}:
        there = part_of(other)
        assert here == there or RANK[there] < RANK[here], f"{module} imports {other}"


def test_no_imports_go_in_a_circle():
    edges = {m: ours(imported(p, top=True)) - {m, "asg_env"} for m, p in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("asg_env")])
def test_scripts_stand_alone(module):
    names = imported(MODULES[module])
    siblings = {path.stem for path in MODULES[module].parent.glob("*.py")}
    parts = {"agents", "experiments", "examples"}
    assert not {n for n in names if n.split(".")[0] in {*parts, *siblings}}


def test_nobody_changes_the_import_path():
    lines = [
        f"{path.relative_to(REPO).as_posix()}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if re.search(r"\bsys\.path(\.\w+\(|\[|\s*\+?=[^=])", line)
    ]
    assert lines == ["asg_env/cli.py: sys.path.append(os.getcwd())"]


def test_an_optional_library_is_not_imported_with_the_package():
    """What ``import asg_env`` and an environment load, followed through the files' imports."""
    wanted, seen = ["asg_env"], set()
    while wanted:
        module = wanted.pop()
        seen.add(module)
        wanted += ours(imported(MODULES[module])) - seen
    found = {m: imported(MODULES[m]) for m in seen}
    assert not [
        (module, name)
        for module, names in found.items()
        for name in names
        if any(name == lib or name.startswith(f"{lib}.") for lib in OPTIONAL)
    ]


@pytest.mark.parametrize("library", ALONE)
def test_an_adapters_library_is_imported_in_one_file(library):
    users = {m for m, p in MODULES.items() if library in {n.split(".")[0] for n in imported(p)}}
    assert {m for m in users if m.startswith("asg_env")} == {ALONE[library]}


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda p: p.relative_to(REPO).as_posix())
def test_no_file_is_long(path):
    agent = path.parent.name == "agents" and path.parent.parent == REPO and path.stem in AGENTS
    assert len(path.read_text().splitlines()) <= (LONGEST_AGENT if agent else LONGEST)


def test_the_environment_is_short():
    tree = ast.parse(MODULES["asg_env.envs.finetune"].read_text())
    (env,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "FinetuneEnv"]
    assert env.end_lineno is not None
    assert env.end_lineno - env.lineno + 1 <= LONGEST_ENV


def lines_that_count(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers, without blank ones, imports and lone punctuation."""
    text = path.read_text()
    skipped = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    numbered = ((i, line.strip()) for i, line in enumerate(text.splitlines(), 1))
    return [(i, s) for i, s in numbered if i not in skipped and re.search(r"\w", s)]


def test_nothing_stands_twice():
    places = defaultdict(list)
    for path in SOURCES:
        lines = lines_that_count(path)
        for k in range(len(lines) - BLOCK + 1):
            block = "\n".join(text for _, text in lines[k : k + BLOCK])
            places[block].append(f"{path.relative_to(REPO).as_posix()}:{lines[k][0]}")
    assert not [where for where in places.values() if len(where) > 1]
