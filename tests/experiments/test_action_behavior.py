"""What the agents do, in numbers and as a picture."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import action_behavior


def test_behaviour_in_numbers(record):
    falling = dataclasses.replace(
        record,
        groups=["a", "head"],
        lr_scales=[[0.6, 1.0], [0.4, 1.0], [0.2, 1.0]],
        losses=[{"train_kl": v} for v in (3.0, 2.0, 1.0, 0.5)],
    )
    found = action_behavior.answers(falling)
    assert found["backbone less head"] == pytest.approx(-0.6)
    assert found["last less first"] == pytest.approx(-0.4)
    assert found["with KL"] == pytest.approx(1.0)
    still = dataclasses.replace(falling, lr_scales=[[0.2, 1.0]] * 3)
    assert np.isnan(action_behavior.answers(still)["with KL"])


def test_what_a_schedule_does_is_no_answer_to_the_kl_at_a_time(record):
    def episode(scales, kl):
        losses = [{"train_kl": v} for v in (*kl, 0.0)]
        pairs = [[s, 1.0] for s in scales]
        return dataclasses.replace(record, groups=["a", "head"], lr_scales=pairs, losses=losses)

    schedule = [episode([0.6, 0.4], [3.0 + k, 1.0 + k]) for k in range(4)]
    assert np.isnan(action_behavior.at_a_time(schedule))
    follows = [episode([0.1 + k / 10, k / 10], [3.0 + k, 1.0 + k]) for k in range(4)]
    assert action_behavior.at_a_time(follows) == pytest.approx(1)
    averse = [episode([0.6 - k / 10, 0.4 - k / 10], [3.0 + k, 1.0 + k]) for k in range(4)]
    assert action_behavior.at_a_time(averse) == pytest.approx(-1)


def test_the_behaviour_of_each_agent_is_drawn(tmp_path, record):
    path = tmp_path / "records.jsonl"
    names = (("one", 0), ("one", 1), ("other", 0))
    records = [
        dataclasses.replace(record, policy=f"{n} #{s}", agent=n, training_seed=s) for n, s in names
    ]
    path.write_text("".join(r.to_json() + "\n" for r in records))
    args = action_behavior.Args(records=path, out=tmp_path / "out")
    assert "| one |" in action_behavior.main(args)
    assert (tmp_path / "out" / "actions.png").stat().st_size > 0
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert {(r["name"], r["seeds"]) for r in rows} >= {("one", 2), ("other", 1)}
    for change in ({"agents": ("two",)}, {"records": tmp_path / "none"}):
        with pytest.raises(SystemExit, match=r"two|none"):
            action_behavior.main(dataclasses.replace(args, **change))
