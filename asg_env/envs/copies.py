"""An environment that can be saved, loaded, copied and pickled: its episode as a snapshot."""

from __future__ import annotations

import copy
import os
from typing import Any, TypeVar

import numpy as np
from gymnasium.error import ResetNeeded

from asg_env.control.observations import Observer
from asg_env.envs.arguments import NAMED, Resolved
from asg_env.envs.episode import Episode, plan
from asg_env.envs.plain import PlainSpec
from asg_env.envs.snapshot import (
    Snapshot,
    check_fits,
    check_problem,
    np_random_of,
    packed,
    read_snapshot,
    unpacked,
    write_snapshot,
)
from asg_env.envs.whole import blamed_on_snapshot, check_episode, check_state
from asg_env.isolation import isolated
from asg_env.methods.regularizers import REGULARIZERS
from asg_env.registry import Registry
from asg_env.tasks.base import Task

SHARED = ("task", "config", "device", "_given", "_spec", "_loaded", "_observer", "_action")
"""What no episode changes: an environment and its copies have the same."""
DERIVED = ("config", "device", "_loaded", "_observer", "_action")
"""What is made of the task and the arguments: a pickle leaves it out."""
Copy = TypeVar("Copy", bound="CopiedEnv")


class CopiedEnv(PlainSpec):
    """How an environment is saved and copied.

    A copy (``copy.copy``, ``copy.deepcopy`` and :meth:`fork` are one) and what comes out of a
    pickle go on with the same bits as the original, share nothing that changes, and are of its
    class. What a subclass put on the instance is copied, or pickled, with it.
    """

    task: Task
    config: Resolved
    _given: dict[str, Any]
    _observer: Observer
    group_names: list[str]
    _episode: Episode | None

    def _set_up(self) -> None:
        """Make what is DERIVED of the task and the arguments."""
        raise NotImplementedError

    def _running(self, before: str) -> Episode:
        if self._episode is None:
            raise ResetNeeded(
                f"call reset() before {before}: there is no episode, or the last reset() or step() "
                "broke off"
            )
        return self._episode

    # -- copies -----------------------------------------------------------------------------------

    def fork(self: Copy) -> Copy:
        """A second environment with the identical future, bit for bit (unwrapped)."""
        self._running("fork()")
        return copy.deepcopy(self)

    def __copy__(self: Copy) -> Copy:
        return copy.deepcopy(self)

    @isolated
    def __deepcopy__(self: Copy, memo: dict[int, Any]) -> Copy:
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        for value in (getattr(self, name) for name in SHARED):
            memo[id(value)] = value
        episode = None
        if self._episode is not None:
            snapshot = self._episode.snapshot()
            episode = Episode.restored(self.task, self.config, self._observer, snapshot)
            memo[id(self._episode)] = episode
            memo[id(self._episode.problem)] = episode.problem
            memo[id(self._episode.optimizee.student)] = episode.optimizee.student
        vars(other).update({k: copy.deepcopy(v, memo) for k, v in vars(self).items()})
        return other

    @isolated
    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in DERIVED}
        state["_given"] = _by_name(self._given)
        if self._episode is not None:
            state["_episode"] = packed(self._episode.snapshot())
        return state

    @isolated
    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_episode": None})
        self._set_up()
        if state["_episode"] is not None:
            snapshot = unpacked(state["_episode"])
            check_problem(snapshot, self.task, "this pickle")
            self._episode = self._restored(snapshot)

    # -- files ------------------------------------------------------------------------------------

    @isolated
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the running episode to a file (safetensors; whole or not at all)."""
        episode = self._running("save()")
        np_random = self.np_random.bit_generator.state
        write_snapshot(path, episode.snapshot(np_random=np_random, **self._identity()))

    @isolated
    def load(self, path: str | os.PathLike[str]) -> tuple[np.ndarray, dict[str, Any]]:
        """Continue an episode that :meth:`save` wrote; return its observation and info of then.

        Raises:
            FileNotFoundError, BadFile: no such file; damaged, not a snapshot, or written by
                an environment made with other arguments. The running episode is then untouched.
        """
        snapshot = read_snapshot(path)
        with blamed_on_snapshot(path):
            check_state(snapshot)
            check_fits(snapshot, self._identity(), self.task, os.fspath(path))
            episode = snapshot.state["episode"]
            config = self.config.drawn(episode.get("context", {}))
            expected = plan(self.task.load(episode["variant"]), config)
            groups, observations = len(self.group_names), len(self._observer.names)
            check_episode(snapshot, expected, groups, observations)
            episode, np_random = self._restored(snapshot), np_random_of(snapshot)
        found = episode.observation, episode.info
        # At once: an interrupt leaves the episode of before, or this one.
        vars(self).update(_episode=episode, _np_random=np_random, _np_random_seed=-1)
        return found

    def _identity(self) -> dict[str, Any]:
        return {"task": self.task.name, "config": self.config.noted()}

    def _restored(self, snapshot: Snapshot) -> Episode:
        return Episode.restored(self.task, self.config, self._observer, snapshot)


def _by_name(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the name of each registered thing in its place."""
    registries: dict[str, Registry[Any]] = {**NAMED, "regularizer": REGULARIZERS}
    found = dict(arguments)
    for name in found.keys() & registries.keys():
        if (label := registries[name].label(found[name])) in registries[name]:
            found[name] = label
    return found
