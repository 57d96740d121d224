"""Tuned schedules, statistics, the benchmark, the reward's validity and the agents' behaviour."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from scipy.stats import spearmanr
from support import DIGITS_ID, make

from agents import tune
from asg_env.envs.setup import EnvSetup
from asg_env.evaluation.commands import Command
from asg_env.evaluation.compare import Episode
from asg_env.evaluation.parallel import run_parallel
from asg_env.evaluation.play import run_episode
from asg_env.learning.run_folder import due
from asg_env.policies import load
from asg_env.policies.base import Identity
from asg_env.policies.families import FAMILIES, TunedPolicy, load_tuned
from asg_env.policies.recurrent import PolicyArgs, RecurrentPolicy, save_policy
from asg_env.reports.benchmark import (
    reached,
    reached_table,
    score_tables,
    verdict,
)
from asg_env.reports.bootstrap import improvement, interquartile_mean, iqm, iqm_difference, resample
from asg_env.reports.trainings import training_folder
from experiments import action_behavior, benchmark, headroom, reward_validity, transfer

SHORT = {"budget": 4, "window": 2}  # two decisions
TINY = tune.Args(family="small_backbone", env_kwargs=SHORT, episodes=12, repeats=2, finalists=2)


@pytest.fixture(scope="module")
def record():
    env = make(**{"budget": 8, "window": 2, **reward_validity.HAND_TUNED})
    kwargs = {"budget": 8, "window": 2, **reward_validity.HAND_TUNED}
    return run_episode(env, reward_validity.RandomPath(3), EnvSetup(DIGITS_ID, kwargs), 5)


# -- families --------------------------------------------------------------------------------------


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


# -- the search ------------------------------------------------------------------------------------


def test_a_search_plays_its_episodes_and_keeps_the_best(tmp_path):
    policy = tune.train(dataclasses.replace(TINY, out=tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    assert [len(row["returns"]) for row in rows] == [2, 2, 2, 3, 3]
    first, second = rows[:3], rows[3:]
    best = sorted(first, key=lambda r: -np.mean(r["returns"]))[:2]
    assert [r["parameters"] for r in second] == [r["parameters"] for r in best]
    assert not set(first[0]["seeds"]) & set(second[0]["seeds"])
    winner = max(second, key=lambda r: np.mean(r["returns"]))
    assert load(str(tmp_path)).parameters == policy.parameters == winner["parameters"]


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_search_resumes_where_it_was_cut(tmp_path, kept):
    whole = tune.train(dataclasses.replace(TINY, out=tmp_path / "whole"))
    lines = (tmp_path / "whole" / "search.jsonl").read_text().splitlines(keepends=True)
    cut = tmp_path / "cut"
    tune.open_run(cut, dataclasses.asdict(dataclasses.replace(TINY, out=cut)))
    (cut / "search.jsonl").write_text("".join(lines[:kept]) + lines[kept][:20])
    again = tune.train(dataclasses.replace(TINY, out=cut))
    assert again == whole
    found = [json.loads(line) for line in (cut / "search.jsonl").read_text().splitlines()]
    for row, line in zip(found, lines, strict=True):
        assert row["returns"] == json.loads(line)["returns"]


def test_a_search_of_another_version_is_refused(tmp_path):
    tune.train(dataclasses.replace(TINY, out=tmp_path))
    path = tmp_path / "search.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["parameters"]["head"] = 0.123
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit, match="candidate 2 has other parameters"):
        tune.train(dataclasses.replace(TINY, out=tmp_path))


def test_a_bad_search_writes_nothing(tmp_path):
    for change in ({"family": "x"}, {"episodes": 0}, {"env_kwargs": {"zzz": 1}}, {"variant": "x"}):
        with pytest.raises(SystemExit, match=r"family|episodes|zzz|variant"):
            tune.train(dataclasses.replace(TINY, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


# -- statistics ------------------------------------------------------------------------------------


def test_an_interquartile_mean_leaves_out_a_quarter_at_either_end():
    assert interquartile_mean(np.array([[100.0, 1, 2, 3, 4, 5, 6, -50]])).tolist() == [3.5]


def test_statistics_of_agents_that_differ_and_of_agents_that_do_not():
    rng = np.random.default_rng(0)
    episodes = rng.normal(0, 1, 12)  # some evaluation seeds are harder, for all
    noise = rng.normal(0, 0.1, (3, 5, 12))
    scores = dict(zip("abc", episodes + noise + np.array([0.5, 0, 0])[:, None, None], strict=True))
    draws = resample(scores, [0] * 6 + [1] * 6)
    assert draws["a"].shape == (2000, 4, 10)

    def of(function, one, other):
        return function(scores[one], scores[other], draws[one], draws[other])

    gap = of(iqm_difference, "a", "b")
    assert gap.excludes_zero
    assert 0.4 < gap.low < gap.mean < gap.high < 0.6  # paired: the episodes' spread drops out
    assert not of(iqm_difference, "b", "c").excludes_zero
    assert of(improvement, "a", "b").mean > 0.99
    assert of(improvement, "b", "c").mean + of(improvement, "c", "b").mean == pytest.approx(1)
    value = iqm(scores["a"], draws["a"])
    assert value.low < value.mean < value.high
    assert value.high - value.low > 0.5  # unpaired: it does not


def test_draws_keep_a_trainings_episodes_together_and_episodes_within_their_variant():
    table = np.arange(12.0).reshape(3, 4)  # training seed: number // 4, episode: number % 4
    drawn = resample({"a": table, "b": table + 100}, ["x", "y", "x", "y"])
    trainings, episodes = drawn["a"] // 4, drawn["a"] % 4
    assert drawn["a"].shape == (2000, 2, 2)
    assert (trainings == trainings[..., :1]).all()
    assert (episodes == episodes[:, :1]).all()
    assert set(np.unique(episodes[..., 0] % 2)) == {0}  # one of x, then one of y
    assert set(np.unique(episodes[..., 1] % 2)) == {1}
    assert ((drawn["b"] - 100) % 4 == episodes).all()  # the same episodes for all agents
    assert len(np.unique(drawn["a"])) == 12


def test_episodes_that_are_alone_in_their_variant_are_drawn_together():
    drawn = resample({"a": np.arange(3.0)[None]}, ["x", "y", "z"])["a"]
    assert drawn.shape == (2000, 1, 2)
    assert set(np.unique(drawn)) == {0, 1, 2}
    one = resample({"a": np.array([[5.0]])}, ["x"])["a"]
    assert np.isnan(iqm(np.array([[5.0]]), one).low)  # nothing to draw: no interval


def test_intervals_miss_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    wrong, trials = 0, 200
    for trial in range(trials):
        episodes = rng.normal(0, 1, 12)
        scores = {  # the same agent twice; its training seeds differ, and its episodes
            name: episodes + rng.normal(0, 0.2, (5, 1)) + rng.normal(0, 0.2, (5, 12))
            for name in "ab"
        }
        draws = resample(scores, [k % 6 for k in range(12)], trial)
        gap = iqm_difference(scores["a"], scores["b"], draws["a"], draws["b"])
        wrong += gap.excludes_zero
    assert 0.01 < wrong / trials < 0.11


def test_a_difference_is_claimed_only_where_its_interval_excludes_zero():
    row = {"difference": 0.2, "difference_ci95": [0.1, 0.3]}
    assert verdict(row) == "above"
    assert verdict({**row, "difference_ci95": [-0.1, 0.3]}) == "equal"
    assert verdict({"difference": -0.2, "difference_ci95": [-0.3, -0.1]}) == "below"
    assert verdict({"difference": None}) == ""
    assert verdict({**row, "difference_ci95": [np.nan, np.nan]}) == "(no interval)"


@pytest.mark.parametrize(("total", "count"), [(10, 3), (7, 7), (5, 1), (4, 0), (3, 5)])
def test_snapshots_are_at_equal_distances_and_the_last_is_the_end(total, count):
    moments = [i for i in range(1, total + 1) if due(i, total, count)]
    assert len(moments) == min(count, total)
    assert not moments or moments[-1] == total
    assert len(set(np.diff([0, *moments]))) <= 2


# -- side by side ---------------------------------------------------------------------------------

SLEEPERS = """
import signal, time
from asg_env.evaluation.parallel import run_parallel
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job may ignore it
    jobs = [(seconds,) for seconds in (0, 600, 600, 600)]
    run_parallel(time.sleep, jobs, 2, lambda _: print("one is done", flush=True))
"""


def test_an_interrupt_ends_all_processes_at_once(tmp_path):
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, start_new_session=True, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "one is done\n"
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        try:  # the pipe ends when the last process that could write to it has
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode != 0


def test_a_job_that_fails_ends_the_others():
    before = time.monotonic()
    with pytest.raises(ValueError, match="non-negative"):
        run_parallel(time.sleep, [(-1,), (600,), (600,)], 2, print)
    assert time.monotonic() - before < 300
    assert not multiprocessing.active_children()


# -- the benchmark ---------------------------------------------------------------------------------


def test_the_benchmark_runs_resumes_and_reports(tmp_path, monkeypatch, capsys):
    agents = ("reinforce", "ppo", "tuned constant", "random")
    args = benchmark.Args(agents=agents, quick=True, out=tmp_path, processes=1)
    text = benchmark.main(args)
    assert all(f"| {name} |" in text for name in agents)
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert {row["name"] for row in rows} == set(agents)
    assert {row["metric"] for row in rows} == {"return", "accuracy", "retention"}
    assert all(row["training_optimizer_steps"] in (64, None) for row in rows)
    assert {r["name"] for r in rows if r["difference"] is None} == {"tuned constant"}  # reference
    plots = ("intervals.png", "pairs.png", "curves.png")
    for name in (*plots, "pairs.md", "pairs.json", "reached.md", "reached.json"):
        assert (tmp_path / name).stat().st_size > 0
    snapshots = {path.name for path in (tmp_path / "agents" / "ppo_0" / "snapshots").iterdir()}
    assert len([name for name in snapshots if name.endswith(".safetensors")]) == 2
    for name in ("reinforce_0", "ppo_0"):
        lines = (tmp_path / "agents" / name / "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert (last["episodes"], last["env_steps"], last["optimizer_steps"]) == (16, 32, 64)

    def forbidden(*args):
        raise AssertionError("trained again")

    monkeypatch.setattr(Command, "start", forbidden)
    before = (tmp_path / "records.jsonl").read_bytes()
    assert benchmark.main(args) == text
    assert benchmark.main(dataclasses.replace(args, report=True)) == text
    assert (tmp_path / "records.jsonl").read_bytes() == before
    bad = (
        ({"agents": ("x",)}, "known: reinforce"),
        ({"agents": ()}, "at least one"),
        ({"episodes": 24}, "multiple of 16"),
        ({"eval_seeds": 0}, "--eval-seeds 0: expected >= 1"),
        ({"snapshots": -1}, "--snapshots -1"),
        ({"env_kwargs": {"variant": "train"}}, "--env-kwargs variant: leave it out"),
        ({"env_kwargs": {"base_lr": 0.5}}, "holds a run with env_kwargs"),
        ({"agents": ("td3",), "report": True}, "no complete agent"),
    )
    for change, reason in bad:
        with pytest.raises(SystemExit, match=reason):
            benchmark.main(dataclasses.replace(args, **change))


def test_a_report_leaves_out_what_is_not_complete(tmp_path, record, capsys):
    names = [("a #0", 1), ("a #0", 2), ("b #0", 1)]
    lines = [
        dataclasses.replace(record, policy=n, agent=n[0], training_seed=0, reset_seed=s).to_json()
        + "\n"
        for n, s in names
    ]
    (tmp_path / "r").write_text("".join(lines))
    episodes = [Episode(None, 1), Episode(None, 2)]
    found = benchmark.complete(tmp_path / "r", [Identity(n, 0) for n in "abc"], episodes)
    assert [(r.policy, r.reset_seed) for r in found] == names[:2]
    assert "left out: b #0, c #0" in capsys.readouterr().out


def test_the_reference_is_chosen_by_its_searches_and_gets_as_many_trainings(tmp_path):
    args = benchmark.Args(agents=("ppo", "tuned constant", "tuned cosine"), seeds=3, search_seeds=2)
    for name, seed, value in (
        *(("tuned constant", 0, 1.0), ("tuned constant", 1, 1.2)),
        *(("tuned cosine", 0, 1.5), ("tuned cosine", 1, 0.3)),
    ):
        folder = training_folder(tmp_path, name, seed)
        folder.mkdir(parents=True)
        rows = [{"half": 1, "returns": [9.0]}, {"half": 2, "returns": [value]}]
        (folder / "search.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        (folder / benchmark.DONE).touch()
    assert benchmark.reference_of(args, tmp_path) == "tuned constant"  # 1.1 against .9
    named = dataclasses.replace(args, reference="ppo")
    assert benchmark.reference_of(named, tmp_path) == "ppo"
    counts = Counter(name for name, _ in benchmark.trainings(args, "tuned constant"))
    assert counts == {"ppo": 3, "tuned constant": 3, "tuned cosine": 2}


def test_the_decisions_until_a_level_are_those_of_the_first_snapshot_above_it():
    line = [[[10.0, 0.1], [20.0, 0.5], [30.0, 0.4]], [[10.0, 0.1], [20.0, 0.2], [30.0, 0.3]]]
    rows = reached({"a": {"env_steps": np.array(line)}}, 0.4)
    assert rows[0]["env_steps"][0] == 20
    assert np.isnan(rows[0]["env_steps"][1])
    assert "| a | 1 of 2 | 20 (20 to 20) |" in reached_table(rows, "x").markdown()
    assert (
        "| a | 0 of 2 | - |"
        in reached_table(reached({"a": {"env_steps": np.array(line)}}, 9), "x").markdown()
    )


def test_score_tables_have_a_row_for_each_training_and_a_column_for_each_episode(record):
    records = [
        dataclasses.replace(
            record, agent="a", training_seed=seed, reset_seed=e, rewards=[10.0 * seed + e]
        )
        for e in (1, 0)
        for seed in (1, 0)
    ]
    assert score_tables(records, "return")["a"].tolist() == [[0, 1], [10, 11]]


# -- the reward's validity -------------------------------------------------------------------------


def test_returns_are_recomputed_from_the_recorded_losses(record):
    env = make(**record.kwargs)
    env.reset(seed=record.reset_seed)
    sums = dict.fromkeys(reward_validity.returns(record, 0.3), 0.0)
    for action in record.actions:
        *_, info = env.step(np.asarray(action, dtype=np.float32))
        sums = {name: total + info["rewards"][name] for name, total in sums.items()}
    assert reward_validity.returns(record, env.config.guidance) == pytest.approx(sums)
    assert reward_validity.returns(record, 3.0) != pytest.approx(sums)


def test_probes_are_the_losses_on_the_first_images_of_outer_valid(record):
    whole = len(make(**record.kwargs).problem.splits["outer_valid"])
    policy = reward_validity.RandomPath(3)
    again = reward_validity.play_probed(policy, EnvSetup(DIGITS_ID, record.kwargs), 5, (8, whole))
    assert again.rewards == record.rewards
    same, few = (reward_validity.returns(again, 0.3, images) for images in (whole, 8))
    assert same == pytest.approx(reward_validity.returns(record, 0.3))
    assert few["proxy_valid"] != pytest.approx(same["proxy_valid"])
    _, info = make(**record.kwargs, reward_images=8).reset(seed=5)
    assert again.losses[0]["valid_ce_8"] == info["losses"]["valid_ce"]


def test_even_policies_are_constant_and_odd_ones_move():
    for number, moves in ((0, False), (1, True), (2, False), (3, True)):
        policy = reward_validity.RandomPath(number)
        policy.begin([*"abc"], ["progress"], 0)
        first, last = (policy.act(np.array([t])) for t in (0.0, 1.0))
        assert (first != last).any() == moves
        assert ((first >= 0) & (first <= 1) & (last >= 0) & (last <= 1)).all()


def test_random_policies_never_freeze_the_head_but_other_groups():
    vectors = []
    for number in range(60):
        policy = reward_validity.RandomPath(number)
        policy.begin([*"abcd"], ["progress"], 0)
        vectors.append(policy.act(np.array([0.0])))
    table = np.array(vectors)
    assert (table[:, -1] > 0).all()
    assert (table[:, :-1] == 0).any(0).all()


def trial(values, accuracy, record):
    """Records of one variant, whose return is ``values`` whatever lambda is."""
    losses = [
        [{"valid_ce": 2.0, "valid_kl": 0.0, "train_ce": 2.0, "train_kl": 0.0}] for _ in values
    ]
    for line, value in zip(losses, values, strict=True):
        line.append({**line[0], "valid_ce": 2.0 - value, "train_ce": 2.0 + value})
    return [
        dataclasses.replace(record, losses=line, final={"accuracy": a, "retention": 0.5})
        for line, a in zip(losses, accuracy, strict=True)
    ]


def test_correlations_are_scipys_and_differences_from_the_default_are_paired(record):
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (2, 60))
    accuracy = values + rng.normal(0, 0.3, (2, 60))
    trials = [trial(v, a, record) for v, a in zip(values, accuracy, strict=True)]
    rows = reward_validity.table_rows(trials, ("proxy_valid", 0.3, None))
    cells = {(r["name"], r["guidance"], r["metric"]): r for r in rows}
    expected = np.mean([spearmanr(a, b).statistic for a, b in zip(values, accuracy, strict=True)])
    default = cells["proxy_valid", 0.3, "accuracy"]
    assert default["mean"] == pytest.approx(expected)
    assert 0 < default["ci95"][0] < expected < default["ci95"][1] < 1
    assert default["difference"] == 0
    assert default["default"]
    same = cells["proxy_valid", 3.0, "accuracy"]  # here lambda changes nothing
    assert same["difference_ci95"] == [0, 0]
    reverse = cells["train_loss", 0.3, "accuracy"]
    assert reverse["mean"] == pytest.approx(-expected)
    assert reverse["difference_ci95"][1] < -0.5
    assert np.isnan(cells["proxy_valid", 0.3, "retention"]["mean"])  # it never differs
    text = reward_validity.validity_table(rows, "title").markdown()
    assert f"**{expected:.2f} [" in text
    assert "] -" in text


def test_the_reward_experiment_runs_and_resumes(tmp_path, folders):
    args = reward_validity.Args(quick=True, out=tmp_path, processes=1)
    text = reward_validity.main(args)
    assert "over 6 random policies, mean of 2 variants" in text
    assert reward_validity.main(args) == text
    assert "A tenth of 6 random policies, chosen on the others of 2" in headroom.main(
        headroom.Args(tmp_path)
    )
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert {row["guidance"] for row in rows} == set(reward_validity.LAMBDAS)
    assert {row["images"] for row in rows} == {None, 8, 32}
    with pytest.raises(SystemExit, match="pass --variants own"):
        reward_validity.variant_names(
            dataclasses.replace(args, task="image_folder", variants="test"),
            make("ASG-ImageFolder-v0", **folders),
        )


def test_headroom_is_judged_where_nothing_was_chosen():
    returns = np.zeros((2, 20))
    returns[0, :2], returns[1, -2:] = 1.0, 1.0  # each variant likes others
    accuracy = np.tile(np.linspace(0.0, 0.95, 20), (2, 1))
    found = headroom.outcomes(returns, {"accuracy": accuracy}, np.arange(20))
    assert found[headroom.ALL, "accuracy"] == pytest.approx(0.475)
    first_likes = accuracy[0, :2].mean()  # judged on the second
    assert found[headroom.BY_RETURN, "accuracy"] == pytest.approx(
        (first_likes + accuracy[0, -2:].mean()) / 2
    )
    returns[1] = returns[0]
    found = headroom.outcomes(returns, {"accuracy": accuracy}, np.arange(20))
    assert found[headroom.BY_RETURN, "accuracy"] == pytest.approx(first_likes)
    assert found[headroom.BY_ACCURACY, "accuracy"] == pytest.approx(0.925)


def test_headroom_of_a_task_without_variants_says_that_it_flatters(record):
    accuracy = np.linspace(0.1, 0.9, 20)
    rows = headroom.table_rows([trial(np.zeros(20), accuracy, record)])
    cells = {(row["name"], row["metric"]): row for row in rows}
    oracle = cells[headroom.BY_ACCURACY, "accuracy"]
    assert oracle["mean"] == pytest.approx(accuracy[-2:].mean())
    assert oracle["difference_ci95"][0] > 0
    assert "chosen and judged on the same runs" in headroom.headroom_table(rows, "title").markdown()


def test_headroom_without_records_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="reward_validity"):
        headroom.read_runs(tmp_path)


# -- what the agents do ----------------------------------------------------------------------------


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


# -- transfer --------------------------------------------------------------------------------------


def test_a_policy_plays_on_another_task_with_another_number_of_groups(tmp_path):
    network = RecurrentPolicy(PolicyArgs("layerwise", 5, 6, heads="shared", skip=True))
    save_policy(network, tmp_path / "reinforce_3")
    tuned = TunedPolicy("constant_vector", {"scales": [0.1] * 6 + [1.0]}, 7, "mine")
    tuned.save(tmp_path / "tuned_constant_vector_0" / "policy.json")
    args = transfer.Args(
        policies=(str(tmp_path / "reinforce_3"),),
        opponents=(str(tmp_path / "tuned_constant_vector_0"), "small_backbone"),
        quick=True,
        processes=1,
        out=tmp_path / "out",
    )
    text = transfer.main(args)
    for name in ("transferred reinforce", "tuned_constant_vector", "small_backbone"):
        assert f"| {name} | 1 |" in text
    assert transfer.main(args) == text
    bad = (
        ({"policies": ("nothing_0",)}, "no schedule and no file"),
        ({"policies": (str(tmp_path / "reinforce_3"),) * 2}, "expected each once"),
        ({"env_kwargs": {"action": "discrete"}}, "--env-kwargs action: leave it out"),
        ({"eval_seeds": 0}, "--eval-seeds 0"),
    )
    for change, reason in bad:
        with pytest.raises(SystemExit, match=reason):
            transfer.main(dataclasses.replace(args, **change))


def test_transfers_reference_is_the_opponent_whose_search_scored_best(tmp_path):
    for name, value in (("one_0", 1.0), ("two_0", 1.5), ("two_1", 0.9)):
        (tmp_path / name).mkdir()
        line = json.dumps({"half": 2, "returns": [value]}) + "\n"
        (tmp_path / name / "search.jsonl").write_text(line)
        TunedPolicy("constant", {"peak": 0.1}, 7, "mine").save(tmp_path / name / "policy.json")
    paths = [str(tmp_path / name) for name in ("one_0", "two_0", "two_1")]
    assert transfer.reference_of(paths) == "two"
    assert transfer.reference_of(["large"]) == "large"
