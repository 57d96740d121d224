"""What a caller has switched on neither reaches the computation nor is changed by it."""

import json
import os
import threading

import numpy as np
import pytest
import torch
from modes_support import MODES, default_dtype, state
from support import make, random_actions, run_python, trajectory

from asg_env.isolation import isolated, own_modes

IMPORT = """
import importlib, json, pkgutil, sys
import torch
torch.set_default_device("meta")
torch.set_default_dtype(torch.float64)
import asg_env
from support import make, random_actions, trajectory
for found in pkgutil.walk_packages(asg_env.__path__, "asg_env."):
    importlib.import_module(found.name)
for name, module in list(sys.modules.items()):
    if name.startswith("asg_env"):
        assert not [k for k, v in vars(module).items() if isinstance(v, torch.Tensor)], name
env = make(budget=4, window=2)
print(json.dumps(trajectory(env, 0, random_actions(env, 2, 0))))
"""


@isolated
def seen():
    """The switches inside."""
    return state()


@pytest.mark.parametrize("mode", MODES)
def test_the_switches_are_ours_inside_and_the_callers_after(mode):
    with MODES[mode]():
        before = state()
        inside = seen()
        assert state() == before
        with pytest.raises(ZeroDivisionError), own_modes():
            raise ZeroDivisionError
        assert state() == before
    standard = np.geterr()
    assert inside == (True, False, False, True, 0, torch.float32, torch.device("cpu"), standard)


def test_they_may_be_entered_again_inside():
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), default_dtype(torch.float64):
        before = state()
        with own_modes():
            assert seen() == state()
            with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
                assert seen()[:4] == (True, False, False, True)
                assert state()[:3] == (False, False, True)
        assert state() == before


def test_weights_cast_by_the_callers_autocast_are_not_met_inside():
    """They used to be: a second step saw the weights of before the first."""
    weight = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.mm(weight, weight)  # cast, and kept
        with own_modes(), torch.no_grad():
            weight.mul_(2)
        with own_modes(), torch.autocast("cpu", torch.bfloat16):
            assert torch.mm(weight, weight).tolist() == [[8, 8], [8, 8]]


def test_a_mode_that_makes_no_numbers_is_refused():
    fake = pytest.importorskip("torch._subclasses.fake_tensor")
    with fake.FakeTensorMode(), pytest.raises(RuntimeError, match="FakeTensorMode"):
        seen()


def test_the_default_dtype_is_given_back_by_the_last_thread_out():
    first_is_in, first_may_go = threading.Event(), threading.Event()

    def first():
        with own_modes():
            first_is_in.set()
            first_may_go.wait(10)

    with default_dtype(torch.float64):
        thread = threading.Thread(target=first)
        thread.start()
        first_is_in.wait(10)
        with own_modes():
            first_may_go.set()
            thread.join(10)
            assert torch.get_default_dtype() is torch.float32
        assert torch.get_default_dtype() is torch.float64


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded")
def test_a_forked_process_is_not_held_up_by_its_parents_threads():
    inside, done = threading.Event(), threading.Event()

    def hold():
        with own_modes():
            inside.set()
            done.wait(10)

    with default_dtype(torch.float64):
        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait(10)
        child = os.fork()
        if not child:
            seen()
            os._exit(0 if torch.get_default_dtype() is torch.float64 else 1)
        _, status = os.waitpid(child, 0)
        done.set()
        thread.join(10)
    assert status == 0


def test_importing_under_other_defaults_leaves_no_trace():
    """Tensors made at import used to stay on the meta device."""
    env = make(budget=4, window=2)
    expected = trajectory(env, 0, random_actions(env, 2, 0))
    assert json.loads(run_python(IMPORT)) == expected
