"""Classes that a fresh process can import: environments of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from support import Frame, play

from asg_env.envs import FinetuneEnv


class Doubled(FinetuneEnv):
    """Its reward is twice as large; it notes its actions."""

    def reset(self, **kwargs: Any) -> Any:
        found = super().reset(**kwargs)
        self.taken: list[list[int]] = []
        return found

    def step(self, action: np.ndarray) -> Any:
        observation, reward, *rest = super().step(action)
        self.taken.append(list(action))
        return observation, 2 * reward, *rest


def play_there(env: FinetuneEnv, actions: list[np.ndarray]) -> tuple[list[Frame], FinetuneEnv]:
    """In a worker: the frames, and the environment as it then is."""
    frames = play(env, actions[:1])
    return frames, env
