"""Each example runs, and ends in a picture."""

from __future__ import annotations

import pytest
from PIL import Image
from schedulers_support import cautious_network
from script_support import run_script
from support import REPO

from asg_env.policies.recurrent import save_policy

TINY = {
    "plain_torch": ("torchvision", "--steps 3 --batch 2 --size 32"),
    "lightning_loop": ("lightning", "--epochs 1 --images 32 --size 32"),
    "transformers_vit": ("transformers", "--steps 3 --layers 2"),
}


def test_every_example_is_tried():
    assert {path.stem for path in (REPO / "examples").glob("*.py")} == set(TINY)


def test_the_plain_loop_is_short():
    assert len((REPO / "examples" / "plain_torch.py").read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", TINY)
def test_an_example_runs(name, tmp_path):
    library, arguments = TINY[name]
    pytest.importorskip(library)
    save_policy(cautious_network(), tmp_path)
    given = ("--policy", tmp_path, "--out", tmp_path / "out", *arguments.split())
    done = run_script(f"examples/{name}.py", *given)
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "out" / "learning_rates.png"
    assert done.stdout.rstrip().endswith(str(picture))
    assert "accuracy" in done.stdout
    assert Image.open(picture).size > (800, 500)
