"""The checkpoint of a Stable-Baselines3 training. No pickle.

A resumed training goes on as if nothing had happened, bit for bit on CPU, because nothing is left
out: networks and optimizers, the replay buffer, the normalisation's statistics, every generator
that is drawn from, and where each copy stands. Every reset has a seed of its own, so that a copy at
an episode's start needs no more than the episode's number; one that is under way (which happens
once a run has diverged and the copies no longer move in step) is written to a file of its own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from asg_env.files import BadFile, check_finite, read_tensors, write_tensors
from asg_env.learning.checkpoint import FILE
from asg_env.ranges import whole
from asg_env.sealed import parse_json, strict
from asg_env.typed import LARGEST, from_fields

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")  # of the algorithm
WRONG = (KeyError, TypeError, RuntimeError, ValueError, OverflowError, AttributeError, IndexError)
BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass(frozen=True)
class Notes:
    """What a training counts, and the best mean return of its evaluations so far."""

    episodes: Annotated[int, whole(0)]
    optimizer_steps: Annotated[int, whole(0, LARGEST)]
    best: float | None


@dataclass(frozen=True)
class State:
    """A checkpoint's JSON: ``copies`` have the number of an episode and whether it is under way."""

    update: Annotated[int, whole(0)]
    notes: Notes
    copies: list[tuple[int, bool]]
    counters: dict[str, int]
    action_rng: dict[str, Any]


def write_state(model: BaseAlgorithm, folder: Path, update: int, notes: dict[str, Any]) -> None:
    """Write all that the rest of a training depends on, whole or not at all.

    Args:
        model: between two updates.
        folder: holds the checkpoint.
        update: updates done.
        notes: more JSON values to remember.
    """
    envs = _normaliser(model)
    copies = [
        envs.env_method("save_episode", _copy_file(folder, update, i), indices=i)[0]
        for i in range(envs.num_envs)
    ]
    state = {
        "update": update,
        "notes": notes,
        "copies": copies,
        "counters": {name: getattr(model, name) for name in COUNTERS},
        "action_rng": model.action_space.np_random.bit_generator.state,
    }
    tensors = {k: torch.as_tensor(v) for k, v in (*_arrays(model), *_globals())}
    write_tensors(folder / FILE, tensors | _weights(model), {"state": json.dumps(strict(state))})
    _drop_copies(folder, {i for i, (_, playing) in enumerate(copies) if playing}, update)


def read_state(model: BaseAlgorithm, folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Put a checkpoint back into a fresh model; return the updates done and the notes.

    Returns:
        None if there is no checkpoint.

    Raises:
        BadFile: it is damaged, or of another model.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        loaded, metadata = read_tensors(path)
        tensors = {k: v.clone() for k, v in loaded.items()}  # in the file they are not aligned
        state = from_fields(State, parse_json(metadata.get("state", ""), "its state"))
        _check(model, tensors, state)
        _restore(model, folder, tensors, state)
        return state.update, dataclasses.asdict(state.notes)
    except (*WRONG, FileNotFoundError) as error:
        raise BadFile(
            f"{path} is no whole checkpoint ({error}); delete {folder} to start over"
        ) from error


def _check(model: BaseAlgorithm, tensors: dict[str, Tensor], state: State) -> None:
    """Raise ValueError if numbers are not finite, or of another shape than the model needs."""
    check_finite(tensors, FILE)
    envs = _normaliser(model)
    if len(state.copies) != envs.num_envs or set(state.counters) != set(COUNTERS):
        raise ValueError(f"it is of {len(state.copies)} copies, there are {envs.num_envs}")
    by_copy = ("returns", "episode_returns", "episode_lengths", "last.starts")
    seen, rows = envs.observation_space.shape or (), (envs.num_envs,)
    shapes = dict.fromkeys(by_copy, rows) | {"last.observation": (*rows, *seen)}
    shapes |= {"last.original": (*rows, *seen), "observation.mean": seen, "observation.var": seen}
    shapes |= dict.fromkeys(("return.mean", "return.var", "return.count", "observation.count"), ())
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        size = len(tensors["buffer.rewards"])
        if size > buffer.buffer_size:
            raise ValueError(f"its replay buffer holds {size} decisions, at most all are played")
        shapes |= {f"buffer.{n}": (size, *getattr(buffer, n).shape[1:]) for n in BUFFER}
    whole = ("episode_lengths", "last.starts", "rng.torch", "rng.numpy")
    for name, value in tensors.items():
        if not (value.is_floating_point() or name in whole or name.startswith("buffer.")):
            raise ValueError(f"{name} holds {value.dtype}, expected floats")
    for name, shape in shapes.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, expected {shape}")


def _restore(model: BaseAlgorithm, folder: Path, tensors: dict[str, Tensor], state: State) -> None:
    envs = _normaliser(model)
    for i, (episode, playing) in enumerate(state.copies):
        path = _copy_file(folder, state.update, i) if playing else None
        envs.env_method("load_episode", episode, path, indices=i)
    _set_weights(model, tensors)
    _set_arrays(model, tensors)
    for name, value in state.counters.items():
        setattr(model, name, value)
    model.action_space.np_random.bit_generator.state = state.action_rng
    _set_globals(tensors)


def _copy_file(folder: Path, update: int, index: int) -> Path:
    return folder / f"copy_{index}_{update}.safetensors"


def _drop_copies(folder: Path, kept: set[int], update: int) -> None:
    """Remove the episodes of earlier checkpoints."""
    wanted = {_copy_file(folder, update, i) for i in kept}
    for path in {*folder.glob("copy_*"), *folder.glob(".copy_*")} - wanted:  # "." if it was killed
        path.unlink()


def _normaliser(model: BaseAlgorithm) -> VecNormalize:
    envs = model.get_vec_normalize_env()
    assert envs is not None
    return envs


# -- networks and optimizers -----------------------------------------------------------------------


def _weights(model: BaseAlgorithm) -> dict[str, Tensor]:
    """All weights, ``module/KEY``, and optimizer state, ``optimizer/INDEX/KEY``."""
    found: dict[str, Tensor] = {}
    for name, values in model.get_parameters().items():
        if "param_groups" not in values:
            found |= {f"{name}/{k}": v for k, v in values.items()}
            continue
        for index, state in values["state"].items():
            found |= {f"{name}/{index}/{k}": torch.as_tensor(v) for k, v in state.items()}
    return found | {f"free/{n}": getattr(model, n) for n in _free(model)}


def _free(model: BaseAlgorithm) -> list[str]:
    """Names of the parameters that belong to no module: SAC's entropy coefficient."""
    return model._get_torch_save_params()[1]


def _set_weights(model: BaseAlgorithm, tensors: dict[str, Tensor]) -> None:
    params: dict[str, dict[str, Any]] = {}
    for name, current in model.get_parameters().items():
        own = {
            k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")
        }
        if "param_groups" not in current:
            params[name] = own
            continue
        state: dict[int, dict[str, Tensor]] = {}
        for label, value in own.items():
            index, _, key = label.partition("/")
            state.setdefault(int(index), {})[key] = value
        params[name] = {"state": state, "param_groups": current["param_groups"]}
    model.set_parameters(params, exact_match=True, device=model.device)  # type: ignore[arg-type]
    for name in _free(model):
        getattr(model, name).data.copy_(tensors[f"free/{name}"])


# -- everything else -------------------------------------------------------------------------------


def _arrays(model: BaseAlgorithm) -> Iterator[tuple[str, Any]]:
    """Statistics, running episodes, what was seen last, memory, and the replay buffer."""
    envs: Any = _normaliser(model)
    for name, rms in (("observation", envs.obs_rms), ("return", envs.ret_rms)):
        for part in ("mean", "var", "count"):
            yield f"{name}.{part}", np.asarray(getattr(rms, part), dtype=np.float64)
    yield "returns", envs.returns
    yield "episode_returns", envs.venv.episode_returns
    yield "episode_lengths", envs.venv.episode_lengths
    yield "last.observation", model._last_obs
    yield "last.original", envs.old_obs
    yield "last.starts", model._last_episode_starts
    for name, value in zip("abcd", _memory(model), strict=False):
        yield f"memory.{name}", value
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        size = buffer.buffer_size if buffer.full else buffer.pos
        for name in BUFFER:
            yield f"buffer.{name}", getattr(buffer, name)[:size]


def _memory(model: Any) -> list[Tensor]:
    """The LSTM states of the copies: actor's and critic's; none of an algorithm without memory."""
    states = getattr(model, "_last_lstm_states", None)
    return [] if states is None else [*states.pi, *states.vf]


def _set_arrays(model: Any, tensors: dict[str, Tensor]) -> None:
    arrays = {k: v.numpy() for k, v in tensors.items() if "/" not in k}
    envs: Any = _normaliser(model)
    for name, rms in (("observation", envs.obs_rms), ("return", envs.ret_rms)):
        rms.mean, rms.var = arrays[f"{name}.mean"], arrays[f"{name}.var"]
        rms.count = float(arrays[f"{name}.count"])
    envs.returns, envs.old_obs = arrays["returns"], arrays["last.original"]
    envs.venv.episode_returns = arrays["episode_returns"]
    envs.venv.episode_lengths = arrays["episode_lengths"]
    model._last_obs = arrays["last.observation"]
    model._last_original_obs = arrays["last.original"]
    model._last_episode_starts = arrays["last.starts"]
    for name, value in zip("abcd", _memory(model), strict=False):
        value.copy_(tensors[f"memory.{name}"])
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        size = len(arrays["buffer.rewards"])
        for name in BUFFER:
            getattr(buffer, name)[:size] = arrays[f"buffer.{name}"]
        buffer.pos, buffer.full = size % buffer.buffer_size, size == buffer.buffer_size


def _globals() -> Iterator[tuple[str, Any]]:
    """The global generators of torch and numpy, from which SB3 draws."""
    _, keys, *rest = np.random.get_state()
    yield "rng.torch", torch.get_rng_state()
    yield "rng.numpy", np.asarray(keys, dtype=np.int64)
    yield "rng.numpy_rest", np.asarray(rest, dtype=np.float64)


def _set_globals(tensors: dict[str, Tensor]) -> None:
    position, has_gauss, gauss = tensors["rng.numpy_rest"].tolist()
    keys = tensors["rng.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    torch.set_rng_state(tensors["rng.torch"])
