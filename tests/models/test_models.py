import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from asg_env.control.features import feature_kl, group_features, linear_cka
from asg_env.models import CifarResNet, LayerGroup, Student, load_pretrained, resnet_groups
from asg_env.models.groups import check_groups, student_groups
from asg_env.models.pretrained import last_linear


def test_every_trainable_parameter_is_in_exactly_one_group():
    network = CifarResNet(depth=8, num_classes=5, in_channels=1)
    student, groups = Student(network, "linear", 3, 8, seed=0), resnet_groups(network)
    check_groups(student, groups)
    assert [g.name for g in groups] == ["conv1", "bn1", "layer1", "layer2", "layer3", "fc_new"]
    with pytest.raises(ValueError, match=r"no layer group.*fc_new"):
        check_groups(student, groups[:-1])
    twice = (*groups, LayerGroup("again", ("backbone.conv1",)))
    with pytest.raises(ValueError, match=r"backbone\.conv1.*'conv1' and 'again'"):
        check_groups(student, twice)


@pytest.mark.parametrize("depth", [-4, 0, 2, 7, 18, 52])
def test_a_depth_that_is_no_cifar_resnet_is_refused(depth):
    with pytest.raises(ValueError, match=f"got {depth}"):
        CifarResNet(depth=depth)


def test_a_cifar_resnet_has_its_depth_and_shapes():
    network = CifarResNet(depth=14, num_classes=7).eval()
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 14
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 7)


def test_a_student_needs_a_linear_classifier_and_copies_the_network():
    network = CifarResNet(depth=8).eval()
    with pytest.raises(ValueError, match=r"'bn1'.*nn\.Linear"):
        Student(network, "bn1", 3, 8, seed=0)
    student = Student(network, "linear", 3, 8, seed=0)
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(student(images).old, network(images))
    assert student.backbone.conv1.weight is not network.conv1.weight
    assert not student.fc_old.weight.requires_grad


def test_the_seed_makes_the_new_head_and_nothing_else():
    network = CifarResNet(depth=8)
    one, same, other = (Student(network, "linear", 3, 8, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    assert differing == {name for name in one if name.startswith("fc_new")}


FORWARD_ORDER = {
    "resnet18": ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"],
    "vgg11": ["conv1", "conv2", "conv3", "conv4", "conv5", "classifier"],
    "mobilenet_v2": ["conv1", "conv2", "conv3", "conv4", "conv5"],
    "mobilenet_v3_small": ["conv1", "conv2", "conv3", "conv4", "conv5", "classifier"],
    "convnext_tiny": ["conv1", "conv2", "conv3", "conv4", "classifier"],
    "vit_b_32": ["embed", "blocks1", "blocks2", "blocks3", "blocks4"],
}


@pytest.mark.parametrize("model", FORWARD_ORDER)
def test_default_groups_hold_every_parameter_once_in_forward_order(model):
    size = 224 if model == "vit_b_32" else 64
    with pytest.warns(UserWarning, match="random weights"):
        made = load_pretrained(model, "random")
    groups = student_groups(made.network, made.classifier, None, size)
    assert [group.name for group in groups] == [*FORWARD_ORDER[model], "fc_new"]
    student = Student(made.network, made.classifier, 3, 8, seed=0)
    check_groups(student, groups)
    ran = []
    for index, group in enumerate(groups):
        group.output(student).register_forward_hook(lambda *_, i=index: ran.append(i))
    images = torch.randn(2, 3, size, size)
    features = group_features(student, groups, images)
    assert list(dict.fromkeys(ran)) == list(range(len(groups)))
    assert all(f.shape[0] == 2 and f.isfinite().all() for f in features)
    assert made.num_classes == 1000


def old_file(state, layout):
    """A checkpoint as people publish it."""
    renamed = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    return {"state_dict": renamed, "best_prec1": 91.7} if layout == "wrapped" else renamed


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
@pytest.mark.parametrize("layout", ["wrapped", "flat"])
def test_published_cifar_checkpoints_load(tmp_path, depth, layout):
    network = CifarResNet(depth, num_classes=7).eval()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    torch.save(old_file(network.state_dict(), layout), tmp_path / "model.th")
    made = load_pretrained(f"cifar_resnet{depth}", tmp_path / "model.th")
    assert (made.classifier, made.num_classes) == ("linear", 7)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(made.network(images), network(images), rtol=0, atol=0)
    assert not made.network.training


def test_safetensors_load_and_the_classes_follow_the_file(tmp_path):
    network = models.mobilenet_v3_small(num_classes=4).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    made = load_pretrained("mobilenet_v3_small", tmp_path / "weights.safetensors")
    assert made.num_classes == 4
    assert torch.equal(made.network.classifier[0].weight, network.classifier[0].weight)


def test_loading_leaves_the_global_generators_alone(tmp_path):
    torch.save(CifarResNet(20, 3).state_dict(), tmp_path / "weights.pt")
    before = torch.get_rng_state()
    load_pretrained("cifar_resnet20", tmp_path / "weights.pt")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_last_linear_layer_is_the_classifier_unless_told_otherwise():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), nn.Softmax(1))
    assert last_linear(network) == "2"
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        last_linear(nn.Conv2d(1, 1, 1))


def test_linear_cka_by_hand():
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (50, 3))).float()
    turn = torch.linalg.qr(torch.tensor([[1.0, 2.0, 0.5], [0.0, 1.0, 3.0], [2.0, 0.0, 1.0]]))[0]
    ends = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    first = [x, x, ends[:, :1], ends]
    other = [x, 3 * x @ turn + 7, ends[:, 1:], ends * torch.tensor([1.0, 0.0])]
    # the last: X'X = 4 I, of norm 4 sqrt 2; Y'Y = diag(4, 0), of norm 4; |Y'X|^2 = 16
    assert linear_cka(first, other).tolist() == pytest.approx([1, 1, 0, 1 / np.sqrt(2)])
    assert torch.isnan(linear_cka([x], [torch.ones(50, 2)])).all()


def test_feature_kl_by_hand():
    p, q = np.array([0.5, 0.5]), np.array([0.8, 0.2])
    before, now = (torch.from_numpy(np.log(v))[None] + 3 for v in (p, q))
    assert feature_kl([before], [now]).item() == pytest.approx((p * np.log(p / q)).sum())
