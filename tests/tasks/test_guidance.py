"""Proxy guidance: the official losses, by hand, without gradient to the teacher."""

import math

import pytest
import torch
from official_support import vectors

from asg_env.tasks.guidance import guided_loss, proxy_kl


def test_guidance_matches_the_official_losses():
    official = vectors("guidance")
    teacher, old, new = (
        torch.tensor(official[k]) for k in ("teacher_logits", "student_old_logits", "new_logits")
    )
    loss = guided_loss(new, torch.tensor(official["labels"]), teacher, old)
    assert float(loss.ce) == pytest.approx(official["ce"], abs=1e-6)
    assert float(loss.kl) == pytest.approx(official["kl"], abs=1e-6)


def test_guidance_by_hand():
    quarter = torch.tensor([[0.0, math.log(3.0)]] * 2)  # probabilities 1/4, 3/4
    half = torch.zeros(2, 2, requires_grad=True)
    loss = guided_loss(quarter, torch.tensor([1, 0]), quarter, half)
    assert float(loss.ce) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-6)
    assert loss.kl.item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-6)
    assert loss.total(0.5).item() == pytest.approx(loss.ce.item() + 0.5 * loss.kl.item())
    assert float(proxy_kl(quarter, quarter)) == pytest.approx(0.0, abs=1e-7)


def test_no_gradient_flows_to_the_teacher():
    teacher, old = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    proxy_kl(teacher, old).backward()
    assert teacher.grad is None
    assert old.grad is not None
