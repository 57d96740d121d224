"""Names for things: what an argument may be called, and how a stranger adds to it.

Wherever an argument takes a name, it also takes the thing itself, or ``"module:attribute"``, which
any process can look up. A registered name is known to the process that registered it, and where an
:class:`~asg_env.envs.setup.EnvSetup` takes it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def check_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise ValueError, listing what is known, unless ``value`` is in ``known``."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")


def load_attribute(name: str, argument: str) -> Any:
    """What ``"module:attribute"`` names; the attribute may be dotted.

    Raises:
        ValueError: it is not written so, or cannot be imported.
    """
    module, colon, path = name.partition(":")
    try:
        if not colon:
            raise ImportError("no ':'")
        found = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
        return found
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{argument}={name!r}: expected 'module:function' that Python can import ({error}); "
            "is the module's folder on PYTHONPATH?"
        ) from error


def reference(argument: str, thing: Any) -> str:
    """``"module:attribute"`` of a thing that can be imported: a function, a class, or an object
    that a module holds.

    Raises:
        ValueError: there is no such name.
    """
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if module and path and _same(module, path, thing):
        return f"{module}:{path}"
    for name, loaded in list(sys.modules.items()):
        for attribute, value in list(vars(loaded).items()) if hasattr(loaded, "__dict__") else ():
            if value is thing and name != "__main__":
                return f"{name}:{attribute}"
    raise ValueError(
        f"{argument}={thing!r}: cannot be imported by a name, so no record could note it: put "
        f"it at the top level of a module file and pass {argument}='module:attribute'"
    )


def _same(module: str, path: str, thing: Any) -> bool:
    return module != "__main__" and getattr(sys.modules.get(module), path, None) is thing


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name, in the order in which they were registered.

    Args:
        argument: which takes such a name, for messages.
        needs: attributes that each thing has.
        instances: whether the things are objects; a class is then called without arguments.
        check: raises TypeError if a thing does not fit in some other way.
        none: a name that means that there is none, which :meth:`find` leaves to the caller.
    """

    def __init__(
        self,
        argument: str,
        needs: Iterable[str],
        instances: bool = True,
        check: Callable[[T], None] | None = None,
        none: str | None = None,
    ) -> None:
        self.argument, self.needs, self.instances = argument, tuple(needs), instances
        self.none = none
        self._check, self._things = check, dict[str, T]()

    def __getitem__(self, name: str) -> T:
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def register(self, name: str, thing: T) -> T:
        """Give a thing a name.

        Raises:
            ValueError: the name is taken, or is none.
            TypeError: the thing lacks something; the message says what.
        """
        if not isinstance(name, str) or not name or ":" in name:
            raise ValueError(f"{name!r}: expected a name without ':' for a {self.argument}")
        if name in self._things:
            raise ValueError(f"{self.argument} {name!r} is taken; known: {', '.join(self)}")
        self._things[name] = self._fitting(thing)
        return thing

    def find(self, value: Any) -> T:
        """The thing of a name, of ``"module:attribute"``, or the value itself.

        Raises:
            ValueError: an unknown name, or nothing to import; the message lists the known ones.
            TypeError: the thing lacks something.
        """
        if not isinstance(value, str):
            return self._fitting(value)
        if value in self._things:
            return self._things[value]
        if ":" in value:
            return self._fitting(load_attribute(value, self.argument))
        known = ", ".join([*([self.none] if self.none else []), *self])
        raise ValueError(
            f"{self.argument}={value!r}: expected one of {known}, 'module:attribute', or the "
            "object itself"
        )

    def label(self, value: Any) -> str:
        """How a value is called: its name, ``"module:attribute"``, or else its type's name."""
        if isinstance(value, str):
            return value
        for name, thing in self._things.items():
            if thing is value:
                return name
        try:
            return reference(self.argument, value)
        except ValueError:
            return type(value).__name__

    def _fitting(self, thing: Any) -> T:
        made = thing() if self.instances and isinstance(thing, type) else thing
        missing = [name for name in self.needs if not hasattr(made, name)]
        if missing:
            raise TypeError(
                f"{self.argument}={thing!r}: lacks {', '.join(missing)}; a {self.argument} has "
                f"{', '.join(self.needs)}"
            )
        if self._check is not None:
            self._check(made)
        return made
