import pytest
import torch
from torch import nn

from asg_env.models import CifarResNet, LayerGroup, Student, resnet_groups
from asg_env.models.groups import check_groups


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
