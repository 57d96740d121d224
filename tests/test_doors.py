"""What a stranger adds from a folder of their own, without editing the package."""

import gymnasium as gym
import pytest
from doors_support import write_doors
from support import DIGITS_ID, SMALL, run_python

from asg_env.control.actions import ACTIONS, Discrete
from asg_env.envs.rewards import REWARDS, RewardTerm
from asg_env.methods.base import Method
from asg_env.methods.guided import METHODS
from asg_env.methods.regularizers import REGULARIZERS

WORKERS = """
import gymnasium, my_doors
if __name__ == "__main__":
    kwargs = {"budget": 4, "window": 2, "reward": %s, "regularizer": "my_doors:Shrink"}
    for env_id in ("asg_env:ASG-Digits-v0", "my_doors:My-v0"):
        made = [lambda: gymnasium.make(env_id, **kwargs)] * 2
        envs = gymnasium.vector.AsyncVectorEnv(made, context="spawn")
        envs.reset(seed=0)
        _, reward, *_ = envs.step(envs.action_space.sample())
        print(reward[0] == reward[1] or reward.shape == (2,))
        envs.close()
"""


@pytest.fixture
def folder(tmp_path):
    return write_doors(tmp_path)


@pytest.mark.parametrize("reward", ["'my_doors:REWARD'", "my_doors.REWARD"])
def test_rewards_regularisers_and_ids_of_ones_own_reach_spawned_workers(folder, reward):
    script = folder / "go.py"
    script.write_text(WORKERS % reward)
    code = "import runpy; runpy.run_path('go.py', run_name='__main__')"
    assert run_python(code, path=[folder], cwd=folder).split() == ["True", "True"]


NAMES = """
import gymnasium, my_doors
from asg_env.control.actions import ACTIONS, Continuous
from asg_env.envs.rewards import REWARDS
from asg_env.envs.setup import EnvSetup
from asg_env.methods.regularizers import REGULARIZERS
REWARDS.register("mine", my_doors.REWARD)  # holds lambdas
REGULARIZERS.register("shrink", my_doors.Shrink)
ACTIONS.register("whole", Continuous())  # no module holds it
if __name__ == "__main__":
    kwargs = {"budget": 4, "window": 2, "reward": "mine", "regularizer": "shrink"}
    setup = EnvSetup("my_doors:My-v0", {**kwargs, "action": "whole", "optimizer": "sgd"})
    envs = gymnasium.vector.AsyncVectorEnv([setup.make] * 2, context="spawn")
    envs.reset(seed=0)
    *_, info = envs.step(envs.action_space.sample())
    print("mine" in info["rewards"], "train_penalty" in info["losses"])
    envs.close()
"""


def test_a_registered_name_reaches_spawned_workers_with_its_setup(folder):
    (folder / "names.py").write_text(NAMES)
    code = "import runpy; runpy.run_path('names.py', run_name='__main__')"
    assert run_python(code, path=[folder], cwd=folder).split() == ["True", "True"]


def test_a_reward_by_name_module_or_object_is_the_same(folder, monkeypatch):
    code = """
import gymnasium, my_doors
from asg_env.envs.rewards import REWARDS
REWARDS.register("mine", my_doors.REWARD)
for reward in ("mine", "my_doors:REWARD", my_doors.REWARD):
    env = gymnasium.make("asg_env:ASG-Digits-v0", budget=4, window=2, reward=reward).unwrapped
    env.reset(seed=1)
    print(env.step(env.action_space.sample() * 0 + 3)[1], env.config.noted()["reward"])
"""
    lines = run_python(code, path=[folder], cwd=folder).splitlines()
    assert len({line.split()[0] for line in lines}) == 1
    assert {line.split()[1] for line in lines} <= {"mine", "my_doors:REWARD"}


def test_a_taken_name_and_a_thing_without_the_protocol_are_refused():
    with pytest.raises(ValueError, match="'proxy_valid' is taken"):
        REWARDS.register("proxy_valid", REWARDS["proxy_valid_level"])
    with pytest.raises(TypeError, match="lacks space, scales"):
        ACTIONS.register("mine", object())
    with pytest.raises(TypeError, match="lacks penalty"):
        REGULARIZERS.register("mine", dict)
    with pytest.raises(TypeError, match="lacks lowest"):
        gym.make(DIGITS_ID, reward=type("Half", (), {"formula": "", "value": len, "oracle": False}))


class Halves(Discrete):
    """Scales 0, .05, ..., .5."""

    def scales(self, action, before, groups):
        return super().scales(action, before, groups) / 2


def test_an_action_kind_is_its_space_and_its_meaning():
    env = gym.make(DIGITS_ID, action=Halves, **SMALL)
    env.reset(seed=0)
    *_, info = env.step([10] * 6)
    assert set(info["lr"] / env.unwrapped.config.base_lr) == {0.5}


def test_a_method_that_wants_target_images_is_refused_where_there_are_none():
    class Adapting(Method):
        wants_target = True

        def losses(self, loop, source, target):
            raise AssertionError("not reached")

    env = gym.make(DIGITS_ID, method=Adapting, **SMALL)
    with pytest.raises(ValueError, match="unlabelled target images"):
        env.reset(seed=0)
    assert "guided" in METHODS


def test_a_reward_that_no_module_holds_plays_but_cannot_be_noted():
    term = RewardTerm("-Phi", lambda t: -t.phi, lambda n: -20.0 * n)
    env = gym.make(DIGITS_ID, reward=term, **SMALL)
    env.reset(seed=0)
    assert env.step([1] * 6)[1] < 0
    with pytest.raises((TypeError, ValueError), match="reward"):
        env.unwrapped.save("never.safetensors")
