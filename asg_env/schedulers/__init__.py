"""A policy as a learning-rate scheduler in anyone's training loop.

For Lightning, transformers and timm: :mod:`asg_env.schedulers.lightning`, ``.transformers``,
``.timm``, each of which needs the extra of its name.
"""

from asg_env.schedulers.groups import param_groups
from asg_env.schedulers.picture import plot_rates
from asg_env.schedulers.policy_lr import PolicyLR

__all__ = ["PolicyLR", "param_groups", "plot_rates"]
