"""Pretrained networks: by torchvision's names, CIFAR ResNets, or the user's own factory."""

from __future__ import annotations

import os
import re
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from asg_env.models.resnet import CifarResNet
from asg_env.models.weight_files import fitted, read_state
from asg_env.registry import load_attribute
from asg_env.seeding import isolated_rng

CIFAR = {f"cifar_resnet{depth}": depth for depth in (20, 32, 44, 56)}
"""Our CIFAR ResNets; 10 classes unless the weights say otherwise."""
CIFAR_SIZE, IMAGENET_SIZE = 32, 224
RANDOM = "random"
NAME = r"DEFAULT|[A-Z0-9]+(_[A-Z0-9]+)*_V\d+"  # as torchvision calls its weights
AUXILIARY = ("aux1", "aux2", "AuxLogits")  # children of GoogLeNet and Inception
TRANSFORMED = ("googlenet", "inception_v3")  # torchvision's weights expect their transform_input


class Pretrained(NamedTuple):
    """``network`` in eval mode, and the path of its final linear ``classifier``."""

    network: nn.Module
    classifier: str

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""
        layer = self.network.get_submodule(self.classifier)
        assert isinstance(layer, nn.Linear)
        return layer.out_features


def load_pretrained(
    model: str, weights: str | os.PathLike[str], classifier: str | None = None
) -> Pretrained:
    """Build a network and load its weights.

    Args:
        model: a torchvision classification model ("resnet101"), a key of :data:`CIFAR`, or
            ``"module:factory"``, a function without arguments that returns an ``nn.Module``.
        weights: a file (safetensors, or a state dict that PyTorch loads with ``weights_only``), a
            name of torchvision's weights ("DEFAULT", "IMAGENET1K_V1": downloaded by torchvision
            unless it has them), or ``"random"``.
        classifier: path of the final linear layer; None: the last ``nn.Linear``.

    Raises:
        FileNotFoundError, ValueError: saying what to pass instead.
    """
    file = weight_file(model, weights)
    named = file is None and weights != RANDOM
    network = _download(model, str(weights)) if named else build_network(model)
    path = classifier or last_linear(network)
    if not isinstance(_submodule(network, path), nn.Linear):
        raise ValueError(f"classifier={path!r} of {model!r} is no nn.Linear")
    if weights == RANDOM:
        warnings.warn(f"{model} has random weights: there is no knowledge to keep", stacklevel=2)
    elif file is not None:
        network = _load_file(model, network, path, file)
    return Pretrained(network.eval().requires_grad_(True), path)


def _plain(network: nn.Module) -> nn.Module:
    """Without GoogLeNet's and Inception's auxiliary classifiers, which run in training only."""
    for name, _ in list(network.named_children()):
        if name in AUXILIARY:
            setattr(network, name, None)
    return network


def input_size(model: str) -> int:
    """Side of the images that a network was made for, pixels."""
    return CIFAR_SIZE if model in CIFAR else IMAGENET_SIZE


def evaluation_resize(model: str, size: int) -> int:
    """Shorter side before the crop when the pretrained classes are evaluated, pixels.

    256 for 224 is how torchvision's ImageNet weights are evaluated, by the paper too.
    """
    return size if model in CIFAR else round(size * 256 / 224)


def last_linear(network: nn.Module) -> str:
    """Path of a network's last ``nn.Linear``, its classifier."""
    found = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError("the network has no nn.Linear to serve as its classifier")
    return found[-1]


def _submodule(network: nn.Module, path: str) -> nn.Module | None:
    try:
        return network.get_submodule(path)
    except AttributeError:
        return None


def weight_file(model: str, weights: str | os.PathLike[str]) -> Path | None:
    """The absolute path of the file that ``weights`` means; None: a name, or ``"random"``.

    A name of torchvision's weights for that model is one, whatever files there are; what only looks
    like one is a file where there is one.
    """
    if weights == RANDOM:
        return None
    path = Path(os.path.abspath(os.path.expanduser(weights)))
    if not (isinstance(weights, str) and re.fullmatch(NAME, weights)):
        return path
    if not path.is_file():
        return None
    if weights not in _weight_names(model):
        return path
    warnings.warn(
        f"weights={weights!r} are torchvision's; the file of that name here is './{weights}'",
        stacklevel=2,
    )
    return None


def _weight_names(model: str) -> list[str]:
    """Names of torchvision's weights for a model; none for other models."""
    if ":" in model or model in CIFAR:
        return []
    members = _torchvision(model).get_model_weights(model).__members__
    return list(dict.fromkeys(["DEFAULT", *members]))


def build_network(model: str, num_classes: int | None = None) -> nn.Module:
    """The architecture of a name, with random weights.

    Args:
        model: as of :func:`load_pretrained`.
        num_classes: outputs of its classifier; None, or a "module:factory": its own.
    """
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    with isolated_rng(0):
        if ":" in model:
            return _from_factory(model)
        if model in CIFAR:
            return CifarResNet(CIFAR[model], **options)
        if model in TRANSFORMED:
            options |= {"transform_input": True, "init_weights": False}
        return _plain(_torchvision(model).get_model(model, weights=None, **options))


def _from_factory(model: str) -> nn.Module:
    network = load_attribute(model, "model")()
    if not isinstance(network, nn.Module):
        raise ValueError(f"model={model!r} returned {type(network).__name__}, not an nn.Module")
    return network


def _torchvision(model: str) -> Any:
    """torchvision's models; ValueError if it has none of that name."""
    from torchvision import models  # slow to import

    if model not in (known := models.list_models(module=models)):
        raise ValueError(
            f"model={model!r}: expected one of {', '.join(CIFAR)}, 'module:factory', or one of "
            f"torchvision's: {', '.join(known)}"
        )
    return models


def _download(model: str, weights: str) -> nn.Module:
    """A network with torchvision's own weights."""
    if ":" in model or model in CIFAR:
        raise ValueError(
            f"weights={weights!r} are torchvision's, but model={model!r} is not: pass a file "
            "of weights, or 'random'"
        )
    models, known = _torchvision(model), _weight_names(model)
    if weights not in known:
        raise ValueError(f"weights={weights!r}: {model} has {', '.join(known)}, or a file")
    try:
        with isolated_rng(0):
            return _plain(models.get_model(model, weights=weights))
    except (OSError, RuntimeError, HTTPException) as error:  # no network, or a cut download
        raise ValueError(
            f"torchvision could not download weights={weights!r} of {model} ({error}): pass the "
            "path of a file with them, weights='/path/to/weights.pth'"
        ) from error


def _load_file(model: str, network: nn.Module, classifier: str, path: Path) -> nn.Module:
    """The network with a file's weights; rebuilt if they are for another number of classes."""
    own = network.state_dict()
    found = read_state(path, own)
    state = {k: v for k, v in found.items() if k in own or k.split(".")[0] not in AUXILIARY}
    rows = state.get(f"{classifier}.weight")
    wanted = own[f"{classifier}.weight"].shape
    other = rows is not None and rows.shape != wanted and rows.shape[1:] == wanted[1:]
    if rows is not None and other and len(rows) and ":" not in model:
        network = build_network(model, len(rows))
    network.load_state_dict(fitted(state, network.state_dict(), path, model))
    return network
