"""What a policy is, in 16 characters: records say by whom they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def digest(description: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> str:
    """Of all that decides what a policy does: SHA-256, the first 16 hexadecimal digits.

    Args:
        description: what JSON can say of it.
        tensors: its numbers, by name.
    """
    total = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for name, tensor in sorted((tensors or {}).items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]
