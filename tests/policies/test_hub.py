"""A policy goes to the Hub and comes back, without a network; its files run no code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from schedulers_support import cautious_network

from asg_env.files import BadFile
from asg_env.policies import load

hub = pytest.importorskip("huggingface_hub")
from asg_env.policies import hub as module  # noqa: E402
from asg_env.policies.hub import HubPolicy  # noqa: E402


@pytest.mark.parametrize("greedy", [True, False])
def test_the_round_trip_is_the_same_policy(tmp_path, greedy):
    policy = HubPolicy(cautious_network(), greedy=greedy)
    policy.save_pretrained(tmp_path / "mine")
    again = HubPolicy.from_pretrained(tmp_path / "mine")
    assert again.digest == policy.digest == load(tmp_path / "mine").digest
    assert again.name == "mine"
    assert again.greedy is greedy
    names = ["first", "head"]
    for one in (policy, again):
        one.begin(names, [], seed=3)
    seen = np.linspace(0, 1, 15, dtype=np.float32)
    for _ in range(3):
        assert (policy.act(seen) == again.act(seen)).all()


def test_a_folder_holds_the_policy_and_a_card_and_nothing_else(tmp_path):
    HubPolicy(cautious_network()).save_pretrained(tmp_path)
    found = {path.name for path in tmp_path.iterdir()}
    assert found == {"policy.json", "policy.safetensors", "README.md"}
    assert "library_name: asg_env" in (tmp_path / "README.md").read_text()


def test_push_and_download(tmp_path, monkeypatch):
    """The Hub is a folder here; the rest is huggingface_hub's own."""

    class Api:
        def __init__(self, *args, **kwargs):
            pass

        def create_repo(self, repo_id, **kwargs):
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, **kwargs):
            shutil.copytree(folder_path, tmp_path / repo_id)
            return "url"

    asked = []

    def download(repo_id, filename, **kwargs):
        asked.append((filename, kwargs))
        return str(tmp_path / repo_id / filename)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr(module, "hf_hub_download", download)
    monkeypatch.chdir(tmp_path / "..")
    policy = HubPolicy(cautious_network())
    policy.push_to_hub("someone/my-lr")
    again = HubPolicy.from_pretrained("someone/my-lr", revision="abc")
    assert again.digest == policy.digest
    assert again.name == "my-lr"
    assert asked == [(file, {"revision": "abc"}) for file in module.FILES]


@pytest.mark.parametrize("kind", ["os:system", "sb3", "schedule"])
def test_a_file_chooses_no_code(tmp_path, kind):
    HubPolicy(cautious_network()).save_pretrained(tmp_path)
    about = json.loads((tmp_path / "policy.json").read_text())
    (tmp_path / "policy.json").write_text(json.dumps({**about, "kind": kind}))
    with pytest.raises(BadFile, match=f"kind '{kind}', expected 'recurrent'"):
        HubPolicy.from_pretrained(tmp_path)


def test_a_config_and_python_files_are_not_looked_at(tmp_path):
    policy = HubPolicy(cautious_network(), name="fine")
    policy.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"greedy": false, "network": "os:abort", broken')
    (tmp_path / "modeling.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert HubPolicy.from_pretrained(tmp_path).digest == policy.digest
    assert not (tmp_path / "ran").exists()


def test_damage_and_absence_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no policy file"):
        HubPolicy.from_pretrained(tmp_path)
    HubPolicy(cautious_network()).save_pretrained(tmp_path)
    weights = Path(tmp_path / "policy.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(BadFile, match="damaged"):
        HubPolicy.from_pretrained(tmp_path)
