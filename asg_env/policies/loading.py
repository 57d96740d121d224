"""Policies by name: the schedules, and others from their files.

A policy is a folder with ``policy.json``, whose ``"kind"`` says who loads it. Files that an older
version wrote name no kind: a tuned schedule has a ``"family"``, all others are recurrent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from asg_env.policies.base import Policy, check_policy
from asg_env.policies.families import load_tuned
from asg_env.policies.files import blamed_on_version
from asg_env.policies.official import SUFFIXES
from asg_env.policies.recurrent import LearnedPolicy, load_policy
from asg_env.policies.rivals import RIVALS, load_rival, rival_policy
from asg_env.policies.schedules import SCHEDULES, SchedulePolicy
from asg_env.registry import Registry
from asg_env.sealed import parse_json, read_object
from asg_env.trust import check_arguments, check_module

SHIPPED = Path(__file__).resolve().parent / "shipped"
Loader = Callable[[Path, bool | None, str], Policy]
"""``loader(path, greedy, name)``: ``path`` is the folder, or the file that was asked for;
``greedy`` is as in :func:`load`; ``name`` is to be shown in tables."""


def load(name: str | Path, greedy: bool | None = None, trust: Collection[str] = ()) -> Policy:
    """The policy of a name.

    Args:
        name: a key of SCHEDULES or of RIVALS, one of :func:`shipped`, or the folder or a file of a
            policy. A folder that is named like one of them is ``./NAME``.
        greedy: a learned policy does not explore; False: it samples, and its name says so. None:
            as it was made for.
        trust: modules that a policy's file may name, as its loader or in the environment's
            arguments, in ``"module:attribute"``: a file chooses no code without the caller's word.

    Raises:
        ValueError: neither a schedule nor a file, the file is damaged, of an unknown kind, or names
            a module that is not trusted.
        FileNotFoundError: the folder holds no policy.
        TypeError: what was loaded is no policy; the message says what it lacks.
    """
    if name in SCHEDULES:
        return SchedulePolicy(str(name))
    if name in RIVALS:
        return rival_policy(str(name))
    path = SHIPPED / name if name in shipped() else Path(name)
    if not str(name) or not (path.exists() or path.with_suffix(".safetensors").exists()):
        raise ValueError(
            f"{str(name)!r} is no schedule and no file; the schedules are {', '.join(SCHEDULES)}, "
            f"the rivals {', '.join(RIVALS)}, learned and shipped {', '.join(shipped())}; "
            "agents/reinforce.py and agents/sb3.py write a folder with a learned policy"
        )
    policy = _loader(path, trust)(path, greedy, path.resolve().name if path.is_dir() else path.stem)
    check_policy(policy)
    check_arguments(policy.env_kwargs, f"{description_path(path)}: env_kwargs", trust)
    if not getattr(policy, "greedy", True):
        policy.name += "_sampled"
    return policy


def shipped() -> list[str]:
    """Learned policies that come with the package; each has a card, ``README.md``."""
    return sorted(path.name for path in SHIPPED.iterdir() if path.is_dir())


def _loader(path: Path, trust: Collection[str]) -> Loader:
    """Who loads the policy of a folder or file."""
    kind = policy_kind(path)
    check_module(kind, f"{description_path(path)}: its kind", trust)
    try:
        return POLICY_KINDS.find(kind)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{description_path(path)}: {error}") from error


def policy_kind(path: Path) -> str:
    """The kind of the policy in a folder or file."""
    if path.suffix in SUFFIXES and not path.is_dir():
        return "recurrent"  # a published checkpoint, without a description
    about = _description(description_path(path))
    return str(about.get("kind") or ("family" if "family" in about else "recurrent"))


def description_path(path: Path) -> Path:
    """The JSON file that says what the policy in a folder or file is."""
    return path / "policy.json" if path.is_dir() else path.with_suffix(".json")


def _description(path: Path) -> dict[str, Any]:
    """What a JSON file says; nothing if there is none: whoever loads it then says so."""
    if not path.is_file():
        return {}
    with blamed_on_version(path):
        found = parse_json(path.read_bytes(), str(path))
        if not isinstance(found, dict):
            raise ValueError(f"expected a JSON object, found a {type(found).__name__}")
    return found


# -- the kinds -------------------------------------------------------------------------------------


def _check_loader(loader: Any) -> None:
    if not callable(loader):
        raise TypeError(f"policy kind {loader!r}: expected a function (path, greedy, name)")


def _recurrent(path: Path, greedy: bool | None, name: str) -> Policy:
    return LearnedPolicy(load_policy(path), greedy, name)


def _family(path: Path, greedy: bool | None, name: str) -> Policy:
    return load_tuned(description_path(path))


def _rival(path: Path, greedy: bool | None, name: str) -> Policy:
    return load_rival(description_path(path))


def _schedule(path: Path, greedy: bool | None, name: str) -> Policy:
    """A baseline: ``{"kind": "schedule", "schedule": a key of SCHEDULES}``."""
    where = description_path(path)
    with blamed_on_version(where):
        return SchedulePolicy(read_object(where).get("schedule", ""), name)


def _sb3(path: Path, greedy: bool | None, name: str) -> Policy:
    from asg_env.policies.sb3 import load_sb3_policy  # slow to import

    file = description_path(path).with_suffix(".safetensors")
    if not file.is_file():
        raise FileNotFoundError(f"no policy file {file}; agents/sb3.py writes it")
    return load_sb3_policy(file, greedy, name)


POLICY_KINDS: Registry[Loader] = Registry(
    "policy kind", needs=(), instances=False, check=_check_loader
)
"""Who loads a policy, by the ``"kind"`` in its ``policy.json``, see :data:`Loader`."""
POLICY_KINDS.register("recurrent", _recurrent)
POLICY_KINDS.register("family", _family)
POLICY_KINDS.register("schedule", _schedule)
POLICY_KINDS.register("sb3", _sb3)
POLICY_KINDS.register("rival", _rival)
