"""transformers: a small ViT; one line, and a learned policy sets the rate of each layer group.

    pip install "asg_env[transformers]" && python examples/transformers_vit.py --out runs/vit

The images are generated. With your own model and data, everything else about the Trainer stays.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from asg_env.schedulers import plot_rates
from asg_env.schedulers.transformers import PolicyLRCallback

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--policy", default="asg-lr-1", help="a policy's name, or its folder")
parser.add_argument(
    "--lr", type=float, default=0.01, help="learning rate that the policy starts of"
)
parser.add_argument("--steps", type=int, default=300, help="optimizer steps")
parser.add_argument("--layers", type=int, default=6, help="blocks of the ViT")
parser.add_argument("--out", type=Path, default=Path("runs/transformers_vit"), help="for all files")


COLORS = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]]).view(4, 3, 1, 1)


class Squares(torch.utils.data.Dataset[dict[str, Any]]):
    """A square somewhere in noise, 32 x 32 pixels; its color is the class."""

    def __init__(self, count: int, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(4, (count,), generator=self.random)
        self.places = torch.randint(24, (count, 2), generator=self.random)
        self.noise = torch.randn(count, 3, 32, 32, generator=self.random)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, (y, x) = self.noise[index].clone(), self.places[index].tolist()
        image[:, y : y + 8, x : x + 8] += 1.5 * COLORS[self.labels[index]]
        return {"pixel_values": image, "labels": self.labels[index]}


if __name__ == "__main__":
    args = parser.parse_args()
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
        num_hidden_layers=args.layers,
        image_size=32,
        patch_size=8,
    )
    config.num_labels = 4
    training = TrainingArguments(
        output_dir=str(args.out),
        max_steps=args.steps,
        learning_rate=args.lr,
        per_device_train_batch_size=16,
        logging_steps=20,
        save_strategy="no",
        report_to="none",
    )
    model = ViTForImageClassification(config)
    trainer = Trainer(model=model, args=training, train_dataset=Squares(2000, seed=0))
    policy = PolicyLRCallback(args.policy).attach(trainer)  # the one line
    trainer.train()
    found = trainer.predict(Squares(200, seed=1))
    hits = np.asarray(found.predictions).argmax(1) == np.asarray(found.label_ids)
    print(f"accuracy {hits.mean():.0%}, chance 25%")
    assert policy.scheduler is not None
    print(plot_rates(policy.scheduler, args.out / "learning_rates.png"))
