"""The ids' entry points. Gymnasium's ``pprint_registry`` lists an id under its module's name."""

from asg_env.envs.factories import (
    make_digits,
    make_digits_context,
    make_image_folder,
    make_visda,
    make_visda_context,
)

__all__ = [
    "make_digits",
    "make_digits_context",
    "make_image_folder",
    "make_visda",
    "make_visda_context",
]
