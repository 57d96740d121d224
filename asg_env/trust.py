"""Which modules data may name: a file chooses no code without the caller's word."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

OURS = "asg_env"
TEXTS = (
    *("variant", "device", "weights", "cache", "render_mode"),
    *("data_root", "source_root", "target_root", "retention_root"),
)
"""Arguments of an environment that name no code, whatever they say."""


def check_module(value: str, where: str, trust: Collection[str]) -> None:
    """Raise ValueError if ``"module:attribute"`` (or ``"module:id"``) names a module that the
    caller did not trust; ``asg_env`` and what has no colon may be named by anyone.

    Args:
        value: out of a file.
        where: the file and the key, for the message.
        trust: modules and packages.
    """
    module, colon, path = value.partition(":")
    ours = () if "." in path else (OURS,)  # a path may lead out again: asg_env.files:os.abort
    packages = (*ours, *([trust] if isinstance(trust, str) else trust))
    if colon and not any(module == one or module.startswith(f"{one}.") for one in packages):
        raise ValueError(
            f"{where} {value!r} runs code of the module {module!r}: if you trust it, say so: "
            f"--trust {module} (in Python: trust=({module!r},))"
        )


def check_arguments(kwargs: Mapping[str, Any], where: str, trust: Collection[str]) -> None:
    """:func:`check_module` for all that an environment's arguments out of a file name."""
    for key, value in kwargs.items():
        if key not in TEXTS:
            _check(value, f"{where}: {key}", trust)


def _check(value: Any, where: str, trust: Collection[str]) -> None:
    if isinstance(value, str):
        check_module(value, where, trust)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check(key, where, trust)
            _check(inner, where, trust)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _check(inner, where, trust)
