"""Other people's tools on ASG-Digits-v0: a few updates or episodes each; skipped if not installed.

RLlib is not among them: it wants an older Gymnasium than ours.
"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from support import DIGITS_ID
from torch import nn
from torch.distributions import Categorical

import asg_env  # noqa: F401 - registers the ids

SMALL = {"budget": 4, "window": 2}  # optimizer steps: two decisions
STEPS, COPIES = 4, 2
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class ActorCritic(nn.Module):
    """CleanRL's agent for MultiDiscrete actions: a categorical for each number."""

    def __init__(self, envs):
        super().__init__()
        self.nvec = envs.single_action_space.nvec.tolist()
        width = envs.single_observation_space.shape[0]
        self.critic = nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, 1))
        self.actor = nn.Sequential(nn.Linear(width, 32), nn.Tanh(), nn.Linear(32, sum(self.nvec)))

    def act(self, seen, action=None):
        heads = [Categorical(logits=x) for x in self.actor(seen).split(self.nvec, dim=1)]
        if action is None:
            action = torch.stack([head.sample() for head in heads])
        log_prob = torch.stack([h.log_prob(a) for a, h in zip(action, heads, strict=True)]).sum(0)
        return action, log_prob, self.critic(seen).flatten()


def test_ppo_as_cleanrl_writes_it():
    envs = gym.vector.SyncVectorEnv(
        [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make(DIGITS_ID, **SMALL))] * COPIES
    )
    torch.manual_seed(0)
    agent = ActorCritic(envs)
    optimizer = torch.optim.Adam(agent.parameters(), 1e-3)
    seen, _ = envs.reset(seed=1)
    done, ended = torch.zeros(COPIES), 0
    for _update in range(3):
        rows = []
        for _ in range(STEPS):
            now, before = torch.Tensor(seen), done
            with torch.no_grad():
                action, log_prob, value = agent.act(now)
            seen, reward, terminated, truncated, info = envs.step(action.T.cpu().numpy())
            done = torch.Tensor(terminated | truncated)
            ended += int(info.get("_episode", np.zeros(1)).sum())
            rows.append((now, action, log_prob, value, torch.Tensor(reward), before))
        learn(agent, optimizer, rows, torch.Tensor(seen), done)
    envs.close()
    assert ended >= COPIES
    assert all(torch.isfinite(weight).all() for weight in agent.parameters())


def learn(agent, optimizer, rows, seen, done):
    """One update of PPO with generalised advantages."""
    observations, actions, old, values, rewards, dones = map(torch.stack, zip(*rows, strict=True))
    with torch.no_grad():
        after, last, advantages = (
            agent.act(seen)[2],
            torch.zeros(COPIES),
            torch.zeros(STEPS, COPIES),
        )
    for t in reversed(range(STEPS)):
        live = 1 - (done if t == STEPS - 1 else dones[t + 1])
        delta = rewards[t] + 0.99 * after * live - values[t]
        advantages[t] = last = delta + 0.99 * 0.95 * live * last
        after = values[t]
    flat = observations.flatten(0, 1)
    _, log_prob, value = agent.act(flat, actions.transpose(1, 2).flatten(0, 1).T)
    ratio = (log_prob - old.flatten()).exp()
    gain = advantages.flatten()
    policy_loss = -torch.min(gain * ratio, gain * ratio.clamp(0.8, 1.2)).mean()
    loss = policy_loss + 0.5 * (value - (advantages + values).flatten()).square().mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
    optimizer.step()


def test_torchrl_makes_collects_and_checks():
    pytest.importorskip("torchrl")
    from torchrl import collectors
    from torchrl.envs import GymEnv
    from torchrl.envs.utils import check_env_specs

    env = GymEnv(DIGITS_ID, **SMALL)
    check_env_specs(env)
    kind = getattr(collectors, "Collector", None) or collectors.SyncDataCollector
    collector = kind(env, None, frames_per_batch=2, total_frames=6)
    batches = [batch["next", "done"].flatten().tolist() for batch in collector]
    collector.shutdown()
    assert batches == [[False, True]] * 3


def test_minari_records_infos(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("jax", reason="minari[create]")
    pytest.importorskip("h5py", reason="minari[hdf5]")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    env = minari.DataCollector(
        gym.make(DIGITS_ID, base_lr=np.float32(0.1), **SMALL), record_infos=True
    )
    for seed in range(3):
        env.reset(seed=seed)
        while not any(env.step(env.action_space.sample())[2:4]):
            pass
    data = env.create_dataset("asg/digits-v0", eval_env=DIGITS_ID)
    assert data.total_episodes == 3
    assert data[0].infos["rewards"]["proxy_valid"].tolist()[1:] == data[0].rewards.tolist()
    assert data.recover_environment().unwrapped.config.budget == SMALL["budget"]


def test_skrl_trains(tmp_path):
    pytest.importorskip("skrl")
    from skrl.agents.torch.ppo import PPO
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.memories.torch import RandomMemory
    from skrl.models.torch import DeterministicMixin, Model, MultiCategoricalMixin
    from skrl.trainers.torch import SequentialTrainer

    env = wrap_env(gym.make_vec(DIGITS_ID, COPIES, vectorization_mode="sync", **SMALL))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}

    class Policy(MultiCategoricalMixin, Model):
        def __init__(self):
            Model.__init__(self, device=env.device, **spaces)
            MultiCategoricalMixin.__init__(self)
            self.net = nn.Linear(self.num_observations, int(self.action_space.nvec.sum()))

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {}

    class Value(DeterministicMixin, Model):
        def __init__(self):
            Model.__init__(self, device=env.device, **spaces)
            DeterministicMixin.__init__(self)
            self.net = nn.Linear(self.num_observations, 1)

        def compute(self, inputs, role):
            return self.net(inputs["observations"]), {}

    folder = {"directory": str(tmp_path), "write_interval": 0, "checkpoint_interval": 0}
    agent = PPO(
        models={"policy": Policy(), "value": Value()},
        memory=RandomMemory(memory_size=STEPS, num_envs=COPIES, device=env.device),
        cfg={"rollouts": STEPS, "learning_epochs": 1, "mini_batches": 1},
        device=env.device,
        **spaces,
    )
    agent.cfg.experiment.__dict__.update(folder)
    before = agent.policy.net.weight.clone()
    options = {"timesteps": 3 * STEPS, "headless": True, "disable_progressbar": True}
    options["close_environment_at_exit"] = False
    SequentialTrainer(cfg=options, env=env, agents=agent).train()
    assert torch.isfinite(agent.policy.net.weight).all()
    assert not torch.equal(agent.policy.net.weight, before)
