"""Using what a run fine-tuned: the student as a file, and as a plain network that predicts.

>>> model = load_student("runs/finetune/student.safetensors")  # doctest: +SKIP
>>> image = model.preprocess(PIL.Image.open("photo.jpg"))  # doctest: +SKIP
>>> model.classes[model(image).argmax()]  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from asg_env.arguments import json_arguments
from asg_env.data.decode import Transform, prepared
from asg_env.envs.finetune import FinetuneEnv
from asg_env.files import read_tensors, write_tensors
from asg_env.models.pretrained import build_network
from asg_env.models.student import Student

KEY = "asg_env-student-1"  # the metadata are one entry: the order of several is not defined


class Predictor(nn.Module):
    """A fine-tuned network for its new classes alone, in eval mode.

    Args:
        student: it shares its weights.
        classes: ``classes[k]`` is the name of output k.
        facts: what :func:`save_student` noted.
    """

    def __init__(self, student: Student, classes: tuple[str, ...], facts: dict[str, Any]) -> None:
        super().__init__()
        self.backbone, self.head = student.backbone, student.fc_new
        self.classes, self.facts = classes, facts
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) float32 -> logits (N, K).

        The images must be preprocessed as the task's were, see :meth:`preprocess`.
        """
        return self.head(self.backbone(x))

    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture as the network takes it, (1, 3, S, S) float32 on the CPU.

        Raises:
            ValueError: the network was fine-tuned on images that were made in memory.
        """
        if self.facts["transform"] is None:
            raise ValueError("it was fine-tuned on an embedded task's images, not on pictures")
        transform = Transform(**self.facts["transform"])
        pixels = torch.from_numpy(prepared(image, transform).copy())[None].float()
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))
        return pixels.div_(255).sub_(mean).div_(std)


def save_student(
    path: str | os.PathLike[str],
    env: FinetuneEnv,
    env_id: str,
    kwargs: dict[str, Any],
    facts: dict[str, Any],
) -> None:
    """Write the student as it is now: backbone, old classifier, new head (safetensors).

    Args:
        path: the file.
        env: a running environment, made by ``gymnasium.make(env_id, **kwargs)``.
        env_id: its id.
        kwargs: its arguments; the variant that the reset drew is noted with them.
        facts: what else to note, as JSON values (the rule that chose it, the step).
    """
    problem = env.problem
    drawn = {} if problem.variant is None else {"variant": problem.variant}
    noted = {
        **{"env": env_id, "kwargs": json_arguments({**kwargs, **drawn})},
        **{"model": problem.model, "classifier": problem.classifier, "hidden": problem.hidden},
        **{"classes": problem.classes, "old_classes": problem.old_classes},
        "transform": problem.transform and dataclasses.asdict(problem.transform),
        **facts,
    }
    write_tensors(path, env.student.state_dict(), {KEY: json.dumps(noted)})


def load_student(path: str | os.PathLike[str]) -> Predictor:
    """A network that :func:`save_student` wrote, on the CPU, ready to predict.

    Neither images nor pretrained weights are needed; a ``"module:factory"`` must be importable.

    Raises:
        FileNotFoundError, ValueError: no such file; truncated, no student, or the model's name
            builds another architecture here.
    """
    tensors, metadata = read_tensors(path)
    if KEY not in metadata:
        raise ValueError(f"{os.fspath(path)!r} is no student; experiments/finetune.py writes one")
    facts = json.loads(metadata[KEY])
    network = build_network(facts["model"], facts["old_classes"])
    classes = tuple(facts["classes"])
    try:
        student = Student(network, facts["classifier"], len(classes), facts["hidden"], 0)
        student.load_state_dict(tensors)
    except (AttributeError, RuntimeError) as error:
        raise ValueError(f"{os.fspath(path)!r} does not fit {facts['model']}: {error}") from error
    return Predictor(student, classes, facts)
