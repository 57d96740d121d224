import itertools
import json
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import constant

from asg_env.envs import FinetuneEnv
from asg_env.models import Student
from asg_env.models.groups import check_groups
from asg_env.tasks.base import SPLITS
from asg_env.tasks.render.objects import NEW_OBJECTS
from asg_env.tasks.render.old_objects import OLD_OBJECTS
from asg_env.tasks.render.parts import Paint, Sculpture
from asg_env.tasks.render.scenes import Photo, clean_images, photo_images
from asg_env.tasks.render.solids import BOX, RING, ROUND, Solids, cast, pixel_grid, surface
from asg_env.tasks.visda_standin import (
    CLASSES,
    MODELS,
    SOURCE_SPAN,
    TARGET_SPAN,
    VARIANTS,
    VISDA_STANDIN,
    WEIGHTS,
    old_split,
    source_splits,
    target_split,
    teacher_network,
)

SIDE = 64  # rays along an image's side


BALL, CYLINDER, CONE = (1, 0, -1, -1), (1, 0, 0, -1), (0.25, -0.5, 0.25, -1)


pytestmark = pytest.mark.usefixtures("one_thread")


def one_solid(kind, profile=BALL, linear=None, centre=(0, 0, 0)):
    """A scene of one solid, seen by (SIDE, SIDE) rays: u, v, depth, normal; NaN where missed."""
    matrix = np.eye(3) * 0.5 if linear is None else np.asarray(linear, dtype=float)
    inverse = np.linalg.inv(matrix)
    offset = -inverse @ np.asarray(centre, dtype=float)
    whole = torch.from_numpy(np.concatenate([inverse, offset[:, None]], 1))
    solids = Solids((kind,), whole[None, None], torch.tensor([[profile]], dtype=torch.float64))
    found = surface(solids, cast(solids, SIDE), SIDE)
    depth = torch.full((SIDE * SIDE,), torch.nan)
    normal = torch.full((SIDE * SIDE, 3), torch.nan)
    depth[found.ray], normal[found.ray] = found.point[:, 2], found.normal
    return *pixel_grid(SIDE).unbind(1), depth, normal


def assert_hit_exactly(depth, inside):
    assert torch.equal(torch.isfinite(depth), inside)
    assert inside.any()
    assert not inside.all()


def test_a_ball_has_a_balls_depth_and_normals():
    u, v, depth, normal = one_solid(ROUND, BALL, centre=(0.1, -0.2, 3))
    x, y = u - 0.1, v + 0.2
    inside = x * x + y * y < 0.25
    assert_hit_exactly(depth, inside)
    height = (0.25 - x * x - y * y).clamp_min(0).sqrt()
    torch.testing.assert_close(depth[inside], (3 - height)[inside], atol=1e-4, rtol=0)
    expected = torch.stack([x, y, -height], 1)[inside] / 0.5
    torch.testing.assert_close(normal[inside], expected, atol=2e-3, rtol=0)


def test_a_turned_cube_shows_two_faces():
    half = np.sqrt(0.5)
    turn = 0.4 * np.array([[half, 0, half], [0, 1, 0], [-half, 0, half]])  # by 45 degrees about v
    u, v, depth, normal = one_solid(BOX, linear=turn)
    inside = (u.abs() < 0.8 * half) & (v.abs() < 0.4)
    assert_hit_exactly(depth, inside)
    torch.testing.assert_close(depth[inside], (u.abs() - 0.8 * half)[inside], atol=1e-5, rtol=0)
    expected = torch.stack([u.sign() * half, 0 * u, 0 * u - half], 1)[inside]
    torch.testing.assert_close(normal[inside], expected.float(), atol=1e-5, rtol=0)


def test_a_lying_cylinder_shows_its_wall_and_a_standing_one_its_cap():
    lying = [[0.3, 0, 0], [0, 0, 0.6], [0, 0.3, 0]]  # the axis along v
    u, v, depth, normal = one_solid(ROUND, CYLINDER, lying)
    inside = (u.abs() < 0.3) & (v.abs() < 0.6)
    assert_hit_exactly(depth, inside)
    height = (0.09 - u * u).clamp_min(0).sqrt()
    torch.testing.assert_close(depth[inside], -height[inside], atol=1e-4, rtol=0)
    expected = torch.stack([u, 0 * u, -height], 1)[inside] / 0.3
    torch.testing.assert_close(normal[inside], expected, atol=2e-3, rtol=0)
    u, v, depth, normal = one_solid(ROUND, CYLINDER, np.diag([0.3, 0.3, 0.6]))
    inside = u * u + v * v < 0.09
    assert_hit_exactly(depth, inside)
    assert depth[inside].unique().numpy() == pytest.approx(-0.6, abs=1e-5)
    assert torch.equal(normal[inside][:, 2], torch.full_like(depth[inside], -1.0))


@pytest.mark.parametrize("towards", [1, -1], ids=["base in front", "tip in front"])
def test_a_cone_seen_along_its_axis_shows_its_base_or_its_mantle(towards):
    u, v, depth, _ = one_solid(ROUND, CONE, np.diag([0.8, 0.8, 0.5 * towards]))
    radius = torch.hypot(u, v) / 0.8  # 1 at the base z = -1, 0 at the tip z = 1
    inside = radius < 1
    assert_hit_exactly(depth, inside)
    expected = torch.full_like(radius, -0.5) if towards == 1 else (2 * radius - 1) * 0.5
    torch.testing.assert_close(depth[inside], expected[inside], atol=1e-3, rtol=0)


def test_a_dome_is_open_below_its_cut_and_a_ring_has_a_hole():
    up = [[0.5, 0, 0], [0, 0, 0.5], [0, 0.5, 0]]  # the axis along v
    u, v, depth, _ = one_solid(ROUND, (1, 0, -1, 0), up)
    assert_hit_exactly(depth, (u * u + v * v < 0.25) & (v > 0))
    u, v, depth, normal = one_solid(RING, (0.25, 0, 0, 0))
    square = (u * u + v * v) / 0.25
    inside = (square <= 1) & (square >= 0.25)
    assert_hit_exactly(depth, inside)
    assert torch.equal(normal[inside][:, 2], torch.full_like(depth[inside], -1.0))


def test_the_nearest_solid_hides_the_others():
    near, far = np.eye(3) * 2, np.eye(3) * 2
    rows = [
        np.concatenate([near, [[0], [0], [2.0]]], 1),
        np.concatenate([far, np.zeros((3, 1))], 1),
    ]
    profile = torch.tensor([[BALL, BALL]], dtype=torch.float64)
    solids = Solids((ROUND, ROUND), torch.from_numpy(np.stack(rows))[None], profile)
    hits = cast(solids, SIDE)
    assert (hits.part[torch.isfinite(hits.depth)] == 0).all()


@pytest.mark.parametrize("design", [*NEW_OBJECTS.values(), *OLD_OBJECTS.values()])
def test_every_object_has_few_parts_and_fills_its_image(design):
    sculpture = Sculpture(np.random.default_rng(0), 3)
    design(sculpture)
    assert 4 <= len(sculpture.parts) <= 22
    assert all(isinstance(part.paint, Paint) for part in sculpture.parts)
    images = clean_images(design, 8, 4, (0, 1), np.random.default_rng(1))
    assert images.shape == (8, 3, 32, 32)
    assert 0 <= images.min() < images.max() <= 1
    painted = (images - images[:, :, :1, :1]).abs().amax(1) > 0.02
    wide = painted.any(1).sum(1).maximum(painted.any(2).sum(1))
    assert (wide >= 22).all(), "the longer side of the object spans most of the image"
    assert (wide <= 31).all(), "and is not cut off"


@pytest.mark.parametrize("part", ["a ball", "a box", "a rod", "a ring"])
def test_a_part_reaches_as_far_as_it_is_seen(part):
    sculpture = Sculpture(np.random.default_rng(0), 1)
    {
        "a ball": lambda: sculpture.ball((0, 0, 0), (0.7, 0.3, 0.5), Paint.BODY, (0.3, 0.2, 1)),
        "a box": lambda: sculpture.box((0, 0, 0), (0.6, 0.3, 0.4), Paint.BODY, 0.5),
        "a rod": lambda: sculpture.rod((-0.4, -0.3, 0.2), (0.4, 0.3, -0.2), 0.2, Paint.BODY),
        "a ring": lambda: sculpture.ring((0, 0, 0), 0.7, 0.6, Paint.BODY, (0.5, 0.2, 1)),
    }[part]()
    (made,) = sculpture.parts
    u, v, depth, _ = one_solid(made.kind, tuple(made.profile[0]), made.linear[0])
    seen = torch.isfinite(depth)
    for axis, along in (((1, 0, 0), u), ((0, 1, 0), v)):
        reach = made.reach(np.array([axis], dtype=float))[0]
        assert along[seen].max().item() == pytest.approx(reach, abs=0.04)


def rows_of(split):
    return {image.numpy().tobytes() for image in split.images}


@cache
def images_of(name):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    problem = VISDA_STANDIN.load(name)
    assert torch.equal(torch.get_rng_state(), before[0]), "loading touches torch's generator"
    assert np.array_equal(np.random.get_state()[1], before[1]), "loading touches numpy's"
    images = {split: rows_of(data) for split, data in problem.splits.items()}
    return {**images, "retention": rows_of(problem.retention)}


SEEN = [None, "train:0", "test:0"]


@pytest.mark.parametrize("name", SEEN, ids=str)
def test_no_image_is_in_two_splits_and_every_class_is_in_all(name):
    problem, variant, images = VISDA_STANDIN.load(name), VARIANTS[name], images_of(name)
    assert set(problem.splits) == set(SPLITS)
    for one, other in itertools.combinations(images, 2):
        assert not images[one] & images[other], (one, other)
    for split, data in (*problem.splits.items(), ("retention", problem.retention)):
        expected = len(problem.classes) * MODELS.get(split, 0) * variant.sizes.views
        expected = expected or getattr(variant.sizes, split)
        assert len(images[split]) == len(data) == expected
        assert data.images.shape[1:] == (3, 32, 32)
        assert data.images.dtype == torch.float32
        assert torch.isfinite(data.images).all()
        classes = 12 if split == "retention" else len(problem.classes)
        counts = torch.bincount(data.labels, minlength=classes)
        assert len(counts) == classes
        assert counts.min() > 0.5 * len(data) / classes


def test_no_two_variants_share_an_image():
    for one, other in itertools.combinations(SEEN, 2):
        for mine, theirs in itertools.product(images_of(one), images_of(other)):
            assert not images_of(one)[mine] & images_of(other)[theirs], (one, mine, other, theirs)


def test_the_classes_are_visdas_and_the_variants_subsets_of_them():
    assert ",".join(CLASSES) == (
        "aeroplane,bicycle,bus,car,horse,knife,motorcycle,person,plant,skateboard,train,truck"
    )
    assert not set(CLASSES) & set(OLD_OBJECTS)
    assert VISDA_STANDIN.load(None).classes == CLASSES
    assert (len(VISDA_STANDIN.variants("train")), len(VISDA_STANDIN.variants("test"))) == (6, 4)
    named = [variant for variant in VARIANTS.values() if variant.name]
    assert {len(set(variant.classes) & set(CLASSES)) for variant in named} == {8}
    assert len({variant.classes for variant in named}) == len({v.seed for v in named}) == 10


def test_images_are_a_function_of_the_seed_and_touch_no_global_generator():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for make in (lambda *a: source_splits(*a)["train"], target_split):
        one, same, other = (make(CLASSES[:2], 6, seed) for seed in (1, 1, 2))
        assert torch.equal(one.images, same.images)
        assert torch.equal(one.labels, same.labels)
        assert not torch.equal(one.images, other.images)
    assert torch.equal(old_split(12, 5).images, old_split(12, 5).images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])


def test_a_label_is_its_place_in_the_classes_and_no_split_shares_a_3d_model():
    splits, total = source_splits(("knife", "bus"), 2, 0), sum(MODELS.values())
    rng = np.random.default_rng([0, 0, CLASSES.index("bus")])
    images = clean_images(NEW_OBJECTS["bus"], 2 * total, total, SOURCE_SPAN, rng)
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    found = {}
    for name, data in splits.items():
        buses = data.images[data.labels == 1] * std + mean
        distance = (buses[:, None] - images[None]).abs().amax((2, 3, 4))
        assert (distance.amin(1) < 1e-5).all()
        found[name] = sorted((distance.argmin(1) % total).tolist())
    assert {n: len(set(models)) for n, models in found.items()} == MODELS
    assert sorted(itertools.chain(*found.values())) == sorted([*range(total)] * 2)


@pytest.mark.parametrize("name", CLASSES)
def test_the_target_has_other_shapes_than_the_source(name):
    shapes = []
    for seed, span in enumerate((SOURCE_SPAN, TARGET_SPAN)):
        sculpture = Sculpture(np.random.default_rng(seed), 200, span=span)
        NEW_OBJECTS[name](sculpture)
        shapes.append(np.concatenate([part.linear.reshape(200, -1) for part in sculpture.parts], 1))
    source, target = shapes
    assert not {row.tobytes() for row in source} & {row.tobytes() for row in target}
    spread = np.maximum(source.std(0) + target.std(0), 1e-6)
    assert (np.abs(source.mean(0) - target.mean(0)) / spread).max() > 0.8


def test_photo_conditions_can_be_turned_off():
    quiet = Photo(0, 0, 0, 0, (0.5, 0.5), 0, 0, 0.2, 0, (1, 1))
    one, other = (
        photo_images(NEW_OBJECTS["bus"], 4, (0, 1), np.random.default_rng(3), photo)
        for photo in (quiet, Photo())
    )
    rough = [(images[..., 1:] - images[..., :-1]).abs().mean() for images in (one, other)]
    assert rough[0] < 0.8 * rough[1]


def test_the_teacher_is_as_good_as_its_record_says_and_small_enough_to_ship():
    recorded = json.loads((WEIGHTS / "teacher.json").read_text())["held_out_accuracy"]
    network = teacher_network().eval()
    network.load_state_dict(load_file(WEIGHTS / "teacher.safetensors"))
    held_out = VISDA_STANDIN.load(None).retention
    with torch.inference_mode():
        hits = network(held_out.images).argmax(1) == held_out.labels
    assert hits.float().mean().item() == pytest.approx(recorded, abs=0.003)
    assert recorded >= 0.85
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) <= 2e6


def test_the_layer_groups_are_the_papers_seven():
    problem = VISDA_STANDIN.load("train:0")
    names = [group.name for group in problem.groups]
    assert names == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc_new"]
    student = problem.student(0)
    assert isinstance(student, Student)
    check_groups(student, problem.groups)
    assert sum(p.numel() for p in student.backbone.parameters()) < 310_000


def test_a_short_episode_trains_and_is_finite():
    env = FinetuneEnv(VISDA_STANDIN, variant="train:0", budget=20, window=10)
    observation, info = env.reset(seed=0)
    start = env.evaluate("test")
    assert "visda-standin" in info["dataset"]
    assert "not VisDA-17" in info["dataset"]
    assert start["accuracy"] < 0.35
    assert start["retention"] >= 0.85
    over = False
    while not over:
        observation, reward, over, _, _ = env.step(constant(env, 0.3))
        assert np.isfinite(observation).all()
        assert np.isfinite(reward)
    assert env.evaluate("inner_valid")["accuracy"] > 0.35
