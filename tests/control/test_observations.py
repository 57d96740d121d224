"""Observations: names, space and vector from one table, within bounds."""

import numpy as np
import pytest
from official_support import INF, NAN

from asg_env.control.observations import OBSERVATIONS, Measurement, Observer, log_unit
from asg_env.training.optimizee import Probe, WindowStats

GROUPS = ["conv", "head"]


def measured(value=0.5, progress=0.5):
    pair = np.array([value, 2 * value])
    window = WindowStats(value, value, pair, pair, True, None, value, pair, pair)
    probe, scales = Probe(value, value, pair, pair), np.array([0.3, 0.7])
    return Measurement(window, probe, progress, scales, 5, 3, 2 * value, 3 * value, 0.1)


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_names_space_and_vector_come_from_the_same_rows(name):
    observer, measurement = Observer(OBSERVATIONS[name], GROUPS), measured()
    vector = observer.observe(measurement)
    assert observer.space.shape == vector.shape == (len(observer.names),)
    assert len(set(observer.names)) == len(observer.names)
    place = iter(range(len(vector)))
    for signal in OBSERVATIONS[name]:
        values = np.broadcast_to(signal.value(measurement), (2 if signal.per_group else 1,))
        labels = [f"{signal.name}/{g}" for g in GROUPS] if signal.per_group else [signal.name]
        for label, value, i in zip(labels, values, place, strict=False):
            assert observer.names[i] == label
            assert vector[i] == pytest.approx(np.clip(value, signal.low, signal.high))
            assert (observer.space.low[i], observer.space.high[i]) == (signal.low, signal.high)
        assert signal.formula
        assert signal.source


def test_the_paper_observes_five_numbers_and_one_for_each_group():
    names = Observer(OBSERVATIONS["paper"], GROUPS).names
    assert names[:5] == ["ce", "kl", "progress", "head_mean", "head_std"]
    assert names[5:] == ["lr_scale/conv", "lr_scale/head"]


@pytest.mark.parametrize("name", OBSERVATIONS)
@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e300, -1e300, 0.0, 1e-300])
def test_whatever_is_measured_the_observation_is_in_bounds(name, value):
    observer = Observer(OBSERVATIONS[name], GROUPS)
    vector = observer.observe(measured(value))
    assert observer.space.contains(vector)
    assert np.isfinite(vector).all()


def test_log_unit_maps_its_range_to_zero_one_and_clips():
    values = np.array([1e-4, 1e-1, 1e2, 0.0, 1e-9, 1e9, INF, NAN])
    assert log_unit(values, -4, 2) == pytest.approx([0, 0.5, 1, 0, 0, 1, 1, 1])
