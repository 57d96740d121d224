"""Lightning: one callback, and a learned policy sets the learning rate of each layer group.

    pip install "asg_env[lightning]" && python examples/lightning_loop.py --out runs/lightning_loop

The images are generated. In your own module, leave out the scheduler and give the optimizer
``param_groups(self.model)``.
"""

import argparse
from pathlib import Path

import lightning as L
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18

from asg_env.schedulers import param_groups, plot_rates
from asg_env.schedulers.lightning import PolicyLRCallback

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--policy", default="asg-lr-1", help="a policy's name, or its folder")
parser.add_argument(
    "--lr", type=float, default=0.01, help="learning rate that the policy starts of"
)
parser.add_argument("--epochs", type=int, default=4, help="passes over the images")
parser.add_argument("--images", type=int, default=480, help="images for training")
parser.add_argument("--size", type=int, default=64, help="side of the images, pixels")
parser.add_argument("--out", type=Path, default=Path("runs/lightning_loop"), help="for all files")


def discs(count: int, size: int) -> TensorDataset:
    """Bright discs in noise, of three sizes, which are the classes."""
    labels, line = torch.randint(3, (count,)), torch.linspace(-1, 1, size)
    x, y = torch.rand(2, count, 1, 1) - 0.5
    inside = (line.view(-1, 1) - y) ** 2 + (line - x) ** 2 < (
        0.15 * (1 + labels.view(-1, 1, 1))
    ) ** 2
    return TensorDataset(inside.unsqueeze(1) + 0.7 * torch.randn(count, 3, size, size), labels)


class Classifier(L.LightningModule):
    """ResNet-18, trained with AdamW."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.model, self.lr = resnet18(weights=None, num_classes=3), lr

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """The loss of a batch."""
        return F.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """The accuracy."""
        hit = self.model(batch[0]).argmax(1) == batch[1]
        self.log("accuracy", hit.float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """A param group for each layer group, and no scheduler: the callback is it."""
        return torch.optim.AdamW(param_groups(self.model), lr=self.lr)


if __name__ == "__main__":
    args = parser.parse_args()
    L.seed_everything(0)
    policy = PolicyLRCallback(args.policy)
    trainer = L.Trainer(max_epochs=args.epochs, callbacks=[policy], default_root_dir=args.out)
    train = DataLoader(discs(args.images, args.size), batch_size=16, shuffle=True)
    trainer.fit(Classifier(args.lr), train, DataLoader(discs(96, args.size), batch_size=32))
    print(f"accuracy {float(trainer.callback_metrics['accuracy']):.0%}, chance 33%")
    assert policy.scheduler is not None
    print(plot_rates(policy.scheduler, args.out / "learning_rates.png"))
