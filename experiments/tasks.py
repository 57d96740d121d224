"""The tasks that the experiments' ``--task`` knows, and how small ``--quick`` is."""

from __future__ import annotations

from typing import Literal

TaskName = Literal["digits", "visda", "image_folder"]
IDS: dict[str, str] = {
    "digits": "ASG-Digits-v0",
    "visda": "ASG-VisDA-v0",
    "image_folder": "ASG-ImageFolder-v0",
}
QUICK = {"budget": 4, "window": 2}  # optimizer steps
