"""A plain loop: ResNet-18, and a learned policy sets the learning rate of each layer group.

    python examples/plain_torch.py --out runs/plain_torch

The images are generated. For your own, replace ``images()`` by your DataLoader, and take
``weights="DEFAULT"``. Nobody has to know a good learning rate: try ``--lr 10`` and ``--lr 0.001``.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from asg_env.schedulers import PolicyLR, param_groups, plot_rates

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--policy", default="asg-lr-1", help="a policy's name, or its folder")
parser.add_argument("--lr", type=float, default=0.1, help="learning rate that the policy starts of")
parser.add_argument("--steps", type=int, default=150, help="optimizer steps")
parser.add_argument("--batch", type=int, default=16, help="images of a step")
parser.add_argument("--size", type=int, default=64, help="side of the images, pixels")
parser.add_argument("--out", type=Path, default=Path("runs/plain_torch"), help="for the picture")
args = parser.parse_args()
torch.manual_seed(0)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Stripes of four directions in noise: (count, 3, size, size), and labels (count,)."""
    labels, line = torch.randint(4, (count,)), torch.linspace(0, 20, args.size)
    angle = labels.view(-1, 1, 1) * torch.pi / 4
    stripes = torch.sin(line.view(-1, 1) * angle.sin() + line * angle.cos() + 6 * torch.rand(1))
    return stripes.unsqueeze(1) + 1.5 * torch.randn(count, 3, args.size, args.size), labels


model = resnet18(weights=None, num_classes=4)
optimizer = torch.optim.SGD(param_groups(model), lr=args.lr, momentum=0.9)
scheduler = PolicyLR(optimizer, args.policy, total_steps=args.steps)

for step in range(args.steps):
    batch, labels = images(args.batch)
    loss = F.cross_entropy(model(batch), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step(loss)
    if step % 20 == 0:
        print(f"step {step}: loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    batch, labels = images(128)
    print(f"accuracy {(model(batch).argmax(1) == labels).float().mean():.0%}, chance 25%")
print(plot_rates(scheduler, args.out / "learning_rates.png"))
