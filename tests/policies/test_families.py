"""The families of schedules that a search tunes."""

import json

import numpy as np
import pytest

from asg_env.policies import load
from asg_env.policies.families import FAMILIES, TunedPolicy, load_tuned


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("groups", [2, 7])
def test_families_stay_in_range_and_are_a_function_of_the_seed(name, groups):
    family = FAMILIES[name]
    for seed in range(20):
        first, again = (family.draw(np.random.default_rng(seed), groups) for _ in range(2))
        assert first == again == json.loads(json.dumps(first))
        for progress in np.linspace(0, 1, 11):
            scales = np.asarray(family.scales(first, float(progress), groups))
            assert scales.shape == (groups,)
            assert ((scales >= 0) & (scales <= 1)).all()


def test_families_mean_what_they_say():
    p = {"until": 0.5, "head": 0.4, "backbone": 0.1, "span": 0.6, "peak": 0.8, "decay": 0.5}

    def at(name, progress):
        return FAMILIES[name].scales(p, progress, 4).tolist()

    assert at("freeze_then_unfreeze", 0.4) == [0, 0, 0, 0.4]
    assert at("freeze_then_unfreeze", 0.5) == [0.1, 0.1, 0.1, 0.4]
    assert at("lp_ft", 0.4) == [0, 0, 0, 0.4]
    assert at("lp_ft", 0.6) == [0.1, 0.1, 0.1, 0.1]
    assert at("gradual_unfreezing", 0.0) == [0, 0, 0, 0.4]
    assert at("gradual_unfreezing", 0.2) == [0, 0, 0.1, 0.4]
    assert at("gradual_unfreezing", 0.6) == [0.1, 0.1, 0.1, 0.4]
    assert at("layer_decay", 0.3) == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert at("small_backbone_cosine", 0.5) == pytest.approx([0.05, 0.05, 0.05, 0.2])
    assert at("cosine", 1.0) == pytest.approx([0, 0, 0, 0])


def test_a_tuned_policy_is_saved_and_found_by_its_folder(tmp_path):
    policy = TunedPolicy("constant_vector", {"scales": [0.1] * 5 + [1.0]}, 6, "mine")
    policy.save(tmp_path / "policy.json")
    for path in (tmp_path, tmp_path / "policy.json"):
        again = load(str(path))
        assert isinstance(again, TunedPolicy)
        again.begin([*"abcdef"], ["progress"], 0)
        assert again.act(np.array([0.3])).tolist() == np.float32([0.1] * 5 + [1.0]).tolist()
    with pytest.raises(ValueError, match="scales for 6 layer groups, this environment has 3"):
        again.begin([*"abc"], ["progress"], 0)


@pytest.mark.parametrize("text", ["{", '{"family": "x"}', '{"family": "constant", "zzz": 1}'])
def test_a_damaged_tuned_policy_is_named(tmp_path, text):
    (tmp_path / "policy.json").write_text(text)
    with pytest.raises(ValueError, match=r"policy\.json"):
        load_tuned(tmp_path / "policy.json")
