"""Fine-tuning as a Gymnasium environment: learn how fast each layer may learn.

>>> import gymnasium, asg_env
>>> env = gymnasium.make("ASG-Digits-v0")
"""

from asg_env.interrupts import watch_script

watch_script()  # before the slow imports

from asg_env.registration import register_envs  # noqa: E402

__version__ = "0.1.0"

register_envs()
