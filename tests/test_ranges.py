"""Numbers of every command line declare their range, and are checked before anything starts."""

import dataclasses
import importlib
import math
import re
from typing import Annotated, get_args, get_type_hints

import pytest
from support import REPO

from asg_env import cli
from asg_env.envs.arguments import Arguments
from asg_env.ranges import SEED, Range, outside, ranges_of, whole
from asg_env.tasks.image_files import ImageSettings

SCRIPTS = [
    f"{folder}.{path.stem}"
    for folder in ("agents", "experiments")
    for path in sorted((REPO / folder).glob("*.py"))
    if path.stem != "__init__"
]
NAN, INF = float("nan"), float("inf")


def numeric(kind):
    """Fields that take an int or a float, also among others or in a tuple."""

    def parts(hint):
        inner = hint if isinstance(hint, list) else get_args(hint)  # a list: of a Callable
        return hint is int or hint is float or any(map(parts, inner))

    hints = get_type_hints(kind)  # without what is annotated
    return {f.name for f in dataclasses.fields(kind) if parts(hints[f.name])} - {
        "env_kwargs",
        "hyperparameters",
    }  # each name there has its own check


def arguments_of(script):
    return importlib.import_module(script).Args


def of_a_tuple(kind, name, value):
    default = next(f.default for f in dataclasses.fields(kind) if f.name == name)
    return (value,) if isinstance(default, tuple) else value


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_number_of_a_script_declares_its_range(script):
    kind = arguments_of(script)
    assert numeric(kind) == set(ranges_of(kind))


@pytest.mark.parametrize("kind", [Arguments, ImageSettings])
def test_every_number_of_an_environment_declares_its_range(kind):
    assert numeric(kind) == set(ranges_of(kind))


@pytest.mark.parametrize(
    ("script", "name"), [(s, name) for s in SCRIPTS for name in ranges_of(arguments_of(s))]
)
def test_a_command_line_refuses_what_is_outside(script, name):
    """Too low, too high, and no number: option, value and range in one line."""
    kind = arguments_of(script)
    allowed, option = ranges_of(kind)[name], "--" + name.replace("_", "-")
    needed = [] if script.split(".")[1] not in ("replay", "contact_sheet") else ["file"]
    low = allowed.at_least is not None or allowed.above is not None
    tried = ["-20000000"] * low + ([str(10**400), "20000000000"] if allowed.whole else ["nan"])
    for word in tried:
        with pytest.raises(SystemExit) as refused:
            cli.parse(kind, [*needed, option, word])
        said = str(refused.value)
        assert re.fullmatch(rf"{option} \S+: expected {re.escape(str(allowed))}", said), said


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_defaults_are_inside(script):
    module = importlib.import_module(script)
    kind, missing = module.Args, dataclasses.MISSING
    fields = [f for f in dataclasses.fields(kind) if f.default is f.default_factory is missing]
    given = {f.name: "x" for f in fields}
    presets = getattr(module, "PRESETS", None) or {"only": kind(**given)}
    assert [outside(args) for args in presets.values()] == [None] * len(presets)


@dataclasses.dataclass(frozen=True)
class Some:
    """Arguments."""

    count: Annotated[int, whole(1, 9)] = 3
    share: Annotated[float | None, Range(above=0, at_most=1)] = None
    clip: Annotated[float, Range(above=0, infinite=True)] = INF
    sizes: Annotated[tuple[int, ...], whole(1)] = (4,)
    name: str = "any"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, None),
        ({"count": 9, "share": 1, "clip": 1e300, "sizes": ()}, None),
        *(({"count": value}, "count") for value in (0, 10, True, 2.0, "3", 10**400)),
        *(({"share": value}, "share") for value in (0, 1.1, NAN, INF, True, -(10**400))),
        *(({"clip": value}, "clip") for value in (0, -INF, NAN)),
        ({"sizes": (4, 0)}, "sizes"),
    ],
    ids=str,
)
def test_what_is_outside_is_named(changes, name):
    found = outside(dataclasses.replace(Some(), **changes))
    assert (found and found[0]) == name


def test_a_range_says_what_it_is():
    assert [str(one) for one in ranges_of(Some).values()] == [
        ">= 1 and <= 9",
        "> 0 and <= 1",
        "> 0",
        ">= 1 and <= 10000000",
    ]
    assert str(Range(at_least=0)) == ">= 0 and finite"
    assert SEED.words == f"an int >= 0 and <= {2**31 - 1}"
    assert Range(at_least=0, below=1).words == "a number in [0, 1)"
    assert Range(above=0, infinite=True).words == f"a number in (0, {math.inf}]"
