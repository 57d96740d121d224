"""Using what a run fine-tuned: the student as a file, and as a plain network that predicts.

>>> model = load_student("runs/finetune/student.safetensors")  # doctest: +SKIP
>>> image = model.preprocess(PIL.Image.open("photo.jpg"))  # doctest: +SKIP
>>> model.classes[model(image).argmax()]  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from asg_env.arguments import json_arguments
from asg_env.data.decode import Transform, prepared
from asg_env.envs.finetune import FinetuneEnv
from asg_env.files import BadFile, check_finite, check_like, read_tensors, write_tensors
from asg_env.isolation import isolated
from asg_env.models.pretrained import build_network
from asg_env.models.student import HEAD, Student
from asg_env.sealed import parse_json
from asg_env.trust import check_module
from asg_env.typed import from_fields

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

    @isolated
    def preprocess(self, image: Image.Image) -> Tensor:
        """A picture as the network takes it, (1, 3, S, S) float32 on the CPU.

        Raises:
            ValueError: the network was fine-tuned on images that were made in memory.
        """
        if self.facts["transform"] is None:
            raise ValueError("it was fine-tuned on an embedded task's images, not on pictures")
        transform = from_fields(Transform, self.facts["transform"])
        pixels = torch.from_numpy(prepared(image, transform).copy())[None].float()
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))
        return pixels.div_(255).sub_(mean).div_(std)


@isolated
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


@isolated
def load_student(path: str | os.PathLike[str], trust: Collection[str] = ()) -> Predictor:
    """A network that :func:`save_student` wrote, on the CPU, ready to predict.

    Neither images nor pretrained weights are needed; a ``"module:factory"`` must be importable.

    Args:
        path: the file.
        trust: modules that the file may name as the model's factory.

    Raises:
        FileNotFoundError, BadFile: no such file; truncated, damaged, no student, the model's
            name builds another architecture here.
        ValueError: it names a module that is not trusted.
    """
    where = repr(os.fspath(path))
    tensors, metadata = read_tensors(path)
    if KEY not in metadata:
        raise BadFile(f"{where} is no student; experiments/finetune.py writes one")
    facts, about = _read_facts(metadata[KEY], where)
    _check_sizes(tensors, about, where)
    check_finite(tensors, where)
    check_module(about.model, f"{where}: model", trust)
    try:
        network = build_network(about.model, about.old_classes)
        student = Student(network, about.classifier, len(about.classes), about.hidden, 0)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise BadFile(f"{where} does not fit {about.model}: {error}") from error
    check_like(tensors, student.state_dict(), f"{where} does not fit {about.model}: it")
    student.load_state_dict(tensors)
    return Predictor(student, tuple(about.classes), facts)


@dataclass(frozen=True)
class _Facts:
    """What the network is made of; see :func:`save_student`."""

    model: str
    classifier: str
    hidden: int
    classes: list[str]
    old_classes: int
    transform: Transform | None
    kwargs: dict[str, Any]
    env: str


def _read_facts(text: str, where: str) -> tuple[dict[str, Any], _Facts]:
    """All that was noted, and that part of it which makes the network."""
    facts = parse_json(text, f"{where}: its description")
    try:
        if not isinstance(facts, dict):
            raise ValueError("expected a JSON object")
        own = {f.name: facts[f.name] for f in dataclasses.fields(_Facts) if f.name in facts}
        about = from_fields(_Facts, own)
        if about.transform is not None and not min(about.transform.std) > 0:
            raise ValueError(f"transform.std is {about.transform.std}, expected numbers > 0")
        return facts, about
    except ValueError as error:
        raise BadFile(f"{where}: its description is no student's: {error}") from error


def _check_sizes(tensors: dict[str, Tensor], about: _Facts, where: str) -> None:
    """Raise ValueError if a size is not that of the tensors, before anything is made of it."""
    sizes = {
        "old_classes": (about.old_classes, "fc_old.weight"),
        "hidden": (about.hidden, f"{HEAD}.0.weight"),
        "classes": (len(about.classes), f"{HEAD}.2.weight"),
    }
    for name, (said, tensor) in sizes.items():
        found = tensors[tensor].shape[:1] if tensor in tensors else None
        if found is None or list(found) != [said]:
            rows = "is missing" if found is None else f"has {list(found)} rows"
            raise BadFile(f"{where} does not fit {about.model}: {name} is {said}, {tensor} {rows}")
