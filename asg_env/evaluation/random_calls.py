"""Random calls of an environment's public methods, good and bad ones, in random order.

Each must return what it promises, or raise a documented error that says something; whatever came
before, a fresh seeded episode has the same bits.
"""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded

from asg_env.envs.finetune import FinetuneEnv
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.tally import FINE, HANG, LEFT, SILENT, TRACEBACK, Hang, Tally, in_time
from asg_env.writing import LEFTOVER

BLOCK = 20  # calls of one environment, the last of which is a fresh episode
PATIENCE = 60.0  # seconds for a call
DOCUMENTED = (ValueError, TypeError, gym.error.Error, OSError)
TINY = {"budget": 4, "window": 2, "threads": 1}
DIGITS = (
    EnvSetup("ASG-Digits-v0", TINY),
    EnvSetup("ASG-DigitsContext-v0", {**TINY, "budget": 6, "render_mode": "ansi"}),
    EnvSetup("ASG-Digits-v0", {**TINY, "action": "continuous", "observation": "paper"}),
    EnvSetup("ASG-Digits-v0", {**TINY, "variant": "train", "optimizer": "official_sgd"}),
)
SETUPS = (
    *DIGITS,
    EnvSetup("ASG-VisDA-v0", {**TINY, "batch_size": 4, "render_mode": "rgb_array"}),
    EnvSetup("ASG-VisDAContext-v0", {**TINY, "batch_size": 4}),
)
NAN = math.nan
SEEDS = (None, None, 0, 3, 2**31 - 1, 2**63, -1, 1.5, NAN, "x", True, [1], np.int64(4), np.array(2))
OPTIONS: tuple[Any, ...] = (
    None,
    None,
    None,
    {},
    {"variant": "test:0"},
    {"variant": "nope"},
    {"variant": None},
)
OPTIONS += ({"x": 1}, {"variant": 3}, "variant", [1], 3)
SPLITS = ("test", "test", "outer_valid", "inner_valid", "train", "nope", "", None, 3, ["test"])
IMAGES = (None, 2, 8, 256, 10**9, 0, 1, -1, 2.5, NAN, "x", True, np.int64(8), [4])
NO_PATHS: tuple[Any, ...] = ("", None, 3, "a\0b", ".", [], 1.5)


class Wrong(Exception):
    """A call returned what it should not."""


class Caller:
    """One environment, and what is called.

    Args:
        setup: of the environment.
        folder: for its files.
        rng: chooses the calls.
    """

    def __init__(self, setup: EnvSetup, folder: Path, rng: np.random.Generator) -> None:
        self.env, self.folder, self.rng = setup.make_unwrapped(), folder, rng
        self.calls: dict[Callable[[], None], int] = {
            **{self.reset: 4, self.good_step: 6, self.bad_step: 4, self.save: 3, self.load: 3},
            **{self.copied: 4, self.evaluate: 2, self.measure: 3, self.render: 1, self.close: 1},
            self.look: 2,
        }
        self.said, self.idle = "", True

    def one(self) -> str:
        """Make one call; what it was. What it raises is the environment's, or Wrong."""
        weights = np.array(list(self.calls.values()), dtype=float)
        chosen = int(self.rng.choice(len(weights), p=weights / weights.sum()))
        call = list(self.calls)[chosen]
        if self.idle and self.rng.random() < 0.8:  # else most calls would need a reset
            call = self.begin
        self.said = call.__name__
        try:
            call()
            self.idle = self.idle and call not in (self.begin, self.reset, self.load)
        except ResetNeeded:
            self.idle = True
            raise
        return self.said

    def _one_of(self, values: Sequence[Any]) -> Any:
        found = values[int(self.rng.integers(len(values)))]
        self.said += f" {found!r}"
        return found

    # -- the calls ----------------------------------------------------------------------------

    def begin(self) -> None:
        """A reset that is allowed."""
        self._check_seen(*self.env.reset(seed=self._one_of([None, 0, 3])))

    def reset(self) -> None:
        """With odd seeds and options."""
        seed, options = self._one_of(SEEDS), self._one_of(OPTIONS)
        self._check_seen(*self.env.reset(seed=seed, options=options))

    def action(self) -> Any:
        """One of the action space."""
        self.env.action_space.seed(int(self.rng.integers(2**31)))
        found = self.env.action_space.sample()
        return self._one_of([found, found, torch.as_tensor(found), found.tolist()])

    def good_step(self) -> None:
        """One that is allowed."""
        self._check_step(self.env.step(self.action()))

    def bad_step(self) -> None:
        """One that mostly is not."""
        count = len(self.env.group_names)
        many: tuple[Any, ...] = (NAN, math.inf, -1, 1e30, 2**70, 0.35, "x", None, 1j, True, [1], {})
        lists = [[value] * count for value in many]
        arrays = np.full(count, NAN), np.zeros(count + 1), np.zeros((1, count)), np.array(1)
        action = self._one_of([*many, *lists, *arrays, torch.full((count,), NAN), b"\1" * count])
        self._check_step(self.env.step(action))

    def save(self) -> None:
        """To good and bad places."""
        good = [str(self.folder / "a.safetensors"), self.folder / "b.safetensors"]
        path = self._one_of([*good, *good, self.folder, self.folder / "new" / "c", *NO_PATHS])
        self.env.save(path)
        if not Path(path).is_file():
            raise Wrong("nothing was saved")

    def load(self) -> None:
        """From good and bad places."""
        good = [self.folder / "a.safetensors", self.folder / "b.safetensors"]
        (self.folder / "garbage").write_bytes(self.rng.bytes(100))
        bad = self.folder, self.folder / "garbage", self.folder / "missing"
        path = self._one_of([*good, *good, *bad, *NO_PATHS])
        self._check_seen(*self.env.load(path))

    def copied(self) -> None:
        """A copy, which goes on with the same bits; half the time in the place of this one."""
        ways = {"fork": FinetuneEnv.fork, "copy": copy.copy, "deepcopy": copy.deepcopy}
        how = self._one_of([*ways, "pickle", "save and load"])
        if how == "pickle":
            other = pickle.loads(pickle.dumps(self.env))
        elif how == "save and load":
            self.env.save(self.folder / "copy.safetensors")
            other = copy.deepcopy(self.env)
            other.reset(seed=5)
            other.load(self.folder / "copy.safetensors")
        else:
            other = ways[how](self.env)
        action = self.action()
        if bits(self.env.step(action)) != bits(other.step(action)):
            raise Wrong("the copy went on with other bits")
        self.env = other if self.rng.random() < 0.5 else self.env

    def evaluate(self) -> None:
        """On splits that are there, and others."""
        found = self.env.evaluate(self._one_of(SPLITS))
        self._check_numbers(found)
        if not 0 <= found["accuracy"] <= 1:
            raise Wrong(f"accuracy {found['accuracy']}")

    def measure(self) -> None:
        """Losses, or the distance from the reset, on odd numbers of images."""
        images, split = self._one_of(IMAGES), self._one_of(SPLITS)
        if self.rng.random() < 0.5:
            self._check_numbers(self.env.proxy_losses(split, images)._asdict())
        else:
            for group in self.env.similarity(split, images).values():
                self._check_numbers(group)

    def render(self) -> None:
        """With or without a mode."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an environment without a render mode
            found = self.env.render()
        kinds = {None: type(None), "ansi": str, "rgb_array": np.ndarray}
        if not isinstance(found, kinds[self.env.render_mode]):
            raise Wrong(f"a {type(found).__name__}")

    def close(self) -> None:
        """After which it goes on."""
        self.env.close()

    def look(self) -> None:
        """At a property."""
        names = ["student", "context", "decisions", "title", "epoch_length", "problem", "threads"]
        names += ["observation_names", "dataset_name", "spec", "nonsense"]
        name = self._one_of(names)
        if name != "nonsense":
            getattr(self.env, name)

    # -- what they promise --------------------------------------------------------------------

    def _check_seen(self, observation: Any, info: Any) -> None:
        if not np.isfinite(observation).all() or observation not in self.env.observation_space:
            raise Wrong(f"observation {observation}")
        if not {"rewards", "lr", "losses", "dataset"} <= set(info):
            raise Wrong(f"info {list(info)}")

    def _check_step(self, found: Any) -> None:
        observation, reward, terminated, truncated, info = found
        self._check_seen(observation, info)
        if type(reward) is not float or not math.isfinite(reward):
            raise Wrong(f"reward {reward!r}")
        if type(terminated) is not bool or type(truncated) is not bool:
            raise Wrong(f"ends {terminated!r} {truncated!r}")

    def _check_numbers(self, found: Any) -> None:
        wrong = {k: v for k, v in found.items() if not math.isfinite(v)}
        if wrong:
            raise Wrong(f"not finite: {wrong}")


def bits(found: Any) -> str:
    """What a reset or a step returned, equal only if every bit is."""
    observation, *rest, info = found
    own = {k: v for k, v in info.items() if k in ("rewards", "losses", "variant", "context")}
    return repr([observation.tobytes(), rest, info["lr"].tobytes(), own])


def fresh(env: FinetuneEnv) -> list[str]:
    """A seeded episode's first moments, as bits."""
    space: Any = env.action_space
    top = getattr(space, "nvec", [1])[0] // 2
    action = np.full(space.shape, top, space.dtype)
    return [bits(env.reset(seed=7)), bits(env.step(action)), bits(env.step(action))]


def globals_of() -> list[Any]:
    """The process's random states, and switches that are the caller's."""
    numpy = np.random.get_state(legacy=True)
    switches = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    return [numpy[1].tobytes(), numpy[2], torch.get_rng_state().numpy().tobytes(), switches]  # type: ignore[index]


def outcome_of(call: Callable[[], object]) -> tuple[str, str]:
    """How a call ended, and what there is to say of it."""
    try:
        with in_time(PATIENCE):
            call()
    except Hang:
        return HANG, ""
    except Wrong as error:
        return SILENT, str(error)
    except DOCUMENTED as error:
        return (FINE if str(error).strip() else TRACEBACK), type(error).__name__
    except Exception as error:
        return TRACEBACK, f"{type(error).__name__}: {error}"
    return FINE, ""


def random_calls(
    count: int, seed: int, folder: Path, tally: Tally, setups: Sequence[EnvSetup]
) -> None:
    """Make ``count`` calls, in blocks of BLOCK, each of one environment and its copies.

    Args:
        count: of all calls.
        seed: of all that is random.
        folder: an empty one, for their files.
        tally: where they are counted.
        setups: of the environments, which take turns.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [fresh(setup.make_unwrapped()) for setup in setups]
        for block in range(-(-count // BLOCK)):
            which = block % len(setups)
            rng = np.random.default_rng([seed, block])
            caller, before = Caller(setups[which], folder, rng), globals_of()
            for number in range(min(BLOCK, count - block * BLOCK) - 1):
                outcome, text = outcome_of(caller.one)
                tally.add(outcome, f"{_named(setups[which], block, number)} {caller.said}: {text}")

            def same(caller: Caller = caller, before: list[Any] = before, k: int = which) -> None:
                if globals_of() != before:
                    raise Wrong("the process's random numbers, or switches, are others")
                if fresh(caller.env) != expected[k]:
                    raise Wrong("a fresh episode has other bits")

            outcome, text = outcome_of(same)
            if outcome == FINE and any(LEFTOVER.fullmatch(p.name) for p in folder.rglob(".*")):
                outcome, text = LEFT, "a file that was not wholly written"
            tally.add(outcome, f"{_named(setups[which], block, BLOCK - 1)} fresh episode: {text}")


def _named(setup: EnvSetup, block: int, number: int) -> str:
    return f"{setup.env} {block}.{number}"
