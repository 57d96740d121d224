import itertools
import json

import pytest
import torch
from safetensors.torch import load_file
from support import started

from asg_env.compute import Compute
from asg_env.tasks.base import SPLITS
from asg_env.tasks.digits import (
    DIGITS,
    SIZES,
    VARIANTS,
    WEIGHTS,
    handwriting_of,
    load_handwriting,
    teacher_network,
    teacher_splits,
)
from asg_env.tasks.fonts import TEST_FONTS, TRAIN_FONTS, glyph, render_digits

NAMED = {kind: [VARIANTS[name] for name in DIGITS.variants(kind)] for kind in ("train", "test")}


every_variant = pytest.mark.parametrize("name", VARIANTS, ids=str)


def rows(split):
    return {image.numpy().tobytes() for image in split.images}


@every_variant
def test_no_image_is_in_two_splits(name):
    problem = DIGITS.load(name)
    assert set(problem.splits) == set(SPLITS)
    images = {split: rows(data) for split, data in problem.splits.items()}
    images["retention"] = rows(problem.retention)
    for one, other in itertools.combinations(images, 2):
        assert not images[one] & images[other], (one, other)


@every_variant
def test_every_split_has_every_class_and_images_in_range(name):
    problem = DIGITS.load(name)
    for split, data in problem.splits.items():
        assert len(data) == SIZES.get(split, len(data))
        assert data.images.shape[1:] == (1, 8, 8)
        assert 0 <= data.images.min() < data.images.max() <= 1
        counts = torch.bincount(data.labels, minlength=5)
        assert len(counts) == len(problem.classes) == 5
        assert counts.min() > 0.6 * len(data) / 5


@every_variant
def test_the_target_is_the_real_handwriting_of_the_new_digits_only(name):
    variant, data = VARIANTS[name], load_handwriting()
    assert sorted((*variant.old, *variant.new)) == list(range(10))
    target = DIGITS.load(name).splits["test"]
    for label, digit in enumerate(variant.new):
        assert torch.equal(target.images[target.labels == label], data.images[data.labels == digit])


def test_meta_train_and_meta_test_share_no_font_class_split_or_seed():
    train, test = NAMED["train"], NAMED["test"]
    assert (len(train), len(test)) == (8, 6)
    assert not {f for v in train for f in v.fonts} & {f for v in test for f in v.fonts}
    assert not set(TRAIN_FONTS) & set(TEST_FONTS)
    splits = [v.old for v in VARIANTS.values()]
    assert len(set(splits)) == len(splits)
    seeds = [v.seed for v in VARIANTS.values()]
    assert len(set(seeds)) == len(seeds)


def test_meta_train_and_meta_test_share_no_synthetic_image():
    synthetic = {
        kind: set().union(*(rows(DIGITS.load(v.name).splits[s]) for v in chosen for s in SIZES))
        for kind, chosen in NAMED.items()
    }
    assert not synthetic["train"] & synthetic["test"]


def test_all_fonts_draw_all_digits():
    for font in TRAIN_FONTS + TEST_FONTS:
        drawn = {glyph(font, digit).numpy().tobytes() for digit in range(10)}
        assert len(drawn) == 10, font


def test_the_same_arguments_render_the_same_images():
    one, other, third = (render_digits(TEST_FONTS[:2], (3, 7), 20, seed) for seed in (5, 5, 6))
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)
    assert not torch.equal(one.images, third.images)


def test_the_weights_are_small_enough_to_ship():
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 5e6


@every_variant
def test_each_teacher_is_as_good_as_its_record_says(name):
    variant = VARIANTS[name]
    recorded = json.loads((WEIGHTS / "teachers.json").read_text())["held_out_accuracy"]
    network = teacher_network().eval()
    network.load_state_dict(load_file(variant.weights))
    held_out = teacher_splits(variant)[1]
    with torch.inference_mode():
        hits = network(held_out.images).argmax(1) == held_out.labels
    accuracy = hits.float().mean().item()
    assert accuracy == pytest.approx(recorded[variant.weights.name], abs=1e-6)
    assert accuracy > 0.98


def test_there_is_one_record_for_each_teacher_file():
    recorded = json.loads((WEIGHTS / "teachers.json").read_text())["held_out_accuracy"]
    assert set(recorded) == {file.name for file in WEIGHTS.glob("*.safetensors")}
    assert set(recorded) == {variant.weights.name for variant in VARIANTS.values()}


@every_variant
def test_the_teachers_two_parts_share_no_image_and_leave_none_out(name):
    variant = VARIANTS[name]
    parts = [rows(part) for part in teacher_splits(variant)]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == rows(handwriting_of(variant.old))


def test_a_student_starts_with_the_teachers_knowledge_and_none_of_the_task():
    env = started(variant="test:0")
    result = env.evaluate("test")
    assert result["retention"] > 0.98
    assert result["accuracy"] < 0.5


@pytest.mark.parametrize("kind", ["train", "test"])
def test_a_drawn_variant_is_one_of_its_kind_and_a_function_of_the_seed(kind):
    env = started(variant=kind)
    drawn = [env.reset(seed=seed)[1]["variant"] for seed in range(12)]
    assert set(drawn) <= set(DIGITS.variants(kind))
    assert len(set(drawn)) > 2
    assert drawn == [env.reset(seed=seed)[1]["variant"] for seed in range(12)]


def test_a_reset_option_chooses_the_variant_for_one_episode():
    env = started(variant="train:1")
    assert env.reset(seed=0, options={"variant": "test:2"})[1]["variant"] == "test:2"
    assert env.reset(seed=0)[1]["variant"] == "train:1"


def test_moving_a_problem_moves_everything_that_it_computes_with():
    problem, meta = DIGITS.load(None), torch.device("meta")  # stands for a GPU on any machine
    there = Compute(meta)
    moved = problem.on(there)
    assert moved.on(there) is moved
    assert problem.on(there) is moved
    assert {data.images.device for data in moved.splits.values()} == {meta}
    assert {p.device for p in moved.network.state_dict().values()} == {meta}
    assert moved.teach(moved.splits["test"].images).device == meta
    assert {p.device for p in problem.network.state_dict().values()} == {torch.device("cpu")}
