"""Networks, their layer groups, and the student built from a pretrained network."""

from asg_env.models.groups import LayerGroup, resnet_groups
from asg_env.models.pretrained import Pretrained, load_pretrained
from asg_env.models.resnet import CifarResNet
from asg_env.models.student import Outputs, Student

__all__ = [
    "CifarResNet",
    "LayerGroup",
    "Outputs",
    "Pretrained",
    "Student",
    "load_pretrained",
    "resnet_groups",
]
