"""What several of the tests of conformance need."""

import json

import numpy as np
import torch

from experiments import conformance


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, i, inputs):
    """Outputs (T, hidden) of the published LSTM i from a zero state; gates are i, f, g, o."""
    w = {k: weights[f"net.state_encoder.{i}.rnn.{k}_l0"] for k in ("weight_ih", "weight_hh")}
    bias = sum(weights[f"net.state_encoder.{i}.rnn.bias_{k}_l0"] for k in ("ih", "hh"))
    h = c = np.zeros(w["weight_hh"].shape[1])
    out = []
    for x in inputs:
        gates = np.split(w["weight_ih"][:, 0] * x + w["weight_hh"] @ h + bias, 4)
        c = sigmoid(gates[1]) * c + sigmoid(gates[0]) * np.tanh(gates[2])
        h = sigmoid(gates[3]) * np.tanh(c)
        out.append(h)
    return np.array(out)


def by_hand(weights, seen, groups):
    """Log-probabilities (T, G, levels) and values (T,) of an unrolled sequence."""
    memory = np.concatenate([lstm(weights, i, seen[:, i]) for i in range(5)], 1)
    inputs = [np.concatenate([memory, seen[:, 5 + g : 6 + g]], 1) for g in range(groups)]
    heads = "action_distribution.linear"
    logits = np.stack(
        [
            x @ weights[f"{heads}.{g}.weight"].T + weights[f"{heads}.{g}.bias"]
            for g, x in enumerate(inputs)
        ],
        1,
    )
    values = np.concatenate(inputs, 1) @ weights["critic.fc.weight"][0] + weights["critic.fc.bias"]
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True)), values


def published(rng, groups, levels, hidden):
    """Random weights (float32 values) in the published layout."""
    shapes = {
        f"net.state_encoder.{i}.rnn.{kind}": (4 * hidden, *rest)
        for i in range(5)
        for kind, rest in (
            *(("weight_ih_l0", (1,)), ("weight_hh_l0", (hidden,))),
            *(("bias_ih_l0", ()), ("bias_hh_l0", ())),
        )
    }
    width = 5 * hidden + 1
    for g in range(groups):
        shapes[f"action_distribution.linear.{g}.weight"] = (levels, width)
        shapes[f"action_distribution.linear.{g}.bias"] = (levels,)
    shapes |= {"critic.fc.weight": (1, groups * width), "critic.fc.bias": (1,)}
    return {k: rng.normal(0, 0.3, s).astype(np.float32).astype(float) for k, s in shapes.items()}


def windows_by_hand(epoch, epochs, shortest):
    rows, cur, at = [], 0, 0
    while at < epochs:
        length = min(max(shortest, cur + at * epoch // 20), epoch - cur)
        rows.append([at, length])
        at, cur = (at + 1, 0) if cur + length == epoch else (at, cur + length)
    return rows


def sgd_by_hand(rng, steps, size):
    given = {
        "start": rng.normal(size=size).tolist(),
        "lrs": [*rng.uniform(0, 0.5, steps - 1).tolist(), 0.0],
        "grads": rng.normal(size=(steps, size)).tolist(),
        "momentum": 0.8,
        "weight_decay": 0.01,
    }
    w, v, path = np.array(given["start"]), np.zeros(size), []
    for lr, gradient in zip(given["lrs"], given["grads"], strict=True):
        v = 0.8 * v + lr * (np.array(gradient) + 0.01 * w)
        w = w - v
        path.append(w.tolist())
    return given | {"weights": path}


def guidance_by_hand(rng, batch, old, new):
    teacher, student = rng.normal(size=(2, batch, old))
    logits, labels = rng.normal(size=(batch, new)), rng.integers(0, new, batch)
    log_t, log_s, log_n = (
        x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (teacher, student, logits)
    )
    return {
        "teacher_logits": teacher.tolist(),
        "student_old_logits": student.tolist(),
        "new_logits": logits.tolist(),
        "labels": labels.tolist(),
        "ce": -log_n[np.arange(batch), labels].mean(),
        "kl": (np.exp(log_t) * (log_t - log_s)).sum() / batch,
    }


def second_set(seed, steps, groups, levels, hidden):
    """Weights and figures of the official layout, from the formulas, in float64."""
    rng = np.random.default_rng(seed)
    weights = published(rng, groups, levels, hidden)
    seen = rng.normal(size=(steps + 1, 5 + groups)).astype(np.float32).astype(float)
    actions, rewards = rng.integers(0, levels, (steps, groups)), rng.normal(size=steps)
    unrolled, values = by_hand(weights, seen[:-1], groups)
    alone = [by_hand(weights, row[None], groups) for row in seen[:-1]]
    log_prob = np.take_along_axis(unrolled, actions[..., None], -1)[..., 0].sum(1)
    lr, bias = 0.05, weights["action_distribution.linear.0.bias"]
    one_hot = np.eye(levels)[actions[:, 0]]
    gradient = -rewards.mean() * (one_hot - np.exp(unrolled[:, 0])).mean(0)
    at = (0, 3, 60, 100, 450, 860)
    figures = {
        "obs": seen,
        "act_logits": np.stack([logits[0] for logits, _ in alone]),
        "act_values": np.array([value[0] for _, value in alone]),
        "actions": actions,
        "unrolled_log_prob": log_prob,
        "unrolled_values": values,
        "unrolled_entropy_mean": -(np.exp(unrolled) * unrolled).sum(-1).mean(),
        "unrolled_logits": unrolled,
        "returns_gamma0": np.array([*rewards, 0.0]),
        "rewards": rewards,
        "reinforce_loss": -rewards.mean() * log_prob.mean(),
        "after_update_head0_bias": bias - lr * gradient,
    }
    return weights, {k: np.asarray(v).tolist() for k, v in figures.items()} | {
        "lr_meta": lr,
        "sgd": sgd_by_hand(rng, 9, 4),
        "lr_warm_poly": {
            str(i): min(0.01 + 0.99 * (i / 100) ** 2, 1) * (1 - min(i / 1000, 0.8)) ** 0.9
            for i in at
        },
        "windows": {
            f"any_{e}x{n}_min{m}": windows_by_hand(e, n, m) for e, n, m in ((83, 6, 5), (12, 2, 7))
        },
        "guidance": guidance_by_hand(rng, 5, 6, 3),
    }


def write_set(folder, weights, vectors):
    torch.save({k: torch.tensor(v).float() for k, v in weights.items()}, folder / "p.pth")
    (folder / "v.json").write_text(json.dumps(vectors))
    return conformance.Args(folder / "p.pth", folder / "v.json", folder / "out")


SETS = [(1, 9, 5, 7, 6), (2, 1, 1, 11, 20), (3, 14, 9, 4, 3)]
