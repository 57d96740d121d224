"""Names of files and folders, which may hold anything: as people may be shown them."""

from __future__ import annotations

import os


def shown(name: str | os.PathLike[str]) -> str:
    r"""A name in one line: what is not printable (line ends, bytes that are no UTF-8) as ``\x..``.

    >>> shown("a\nb")
    'a\\nb'
    """
    text = os.fspath(name)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
