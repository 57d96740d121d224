"""Policies: the protocol, schedules, learned networks, their files.

:func:`load` is there when it is first asked for: what it can load takes a while to import.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asg_env.policies.loading import POLICY_KINDS, load

__all__ = ["POLICY_KINDS", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from asg_env.policies import loading

    return getattr(loading, name)
