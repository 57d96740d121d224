"""What lies in class folders: pictures, each once; and what is left out, with a word about it."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from asg_env.data.decode import suffixes
from asg_env.data.names import shown

JUNK = {
    *("__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "@eadir", "$recycle.bin"),
    *("system volume information", "lost+found"),
}
"""Names, in lower case, that systems leave in folders; so are those that begin with a dot."""
NAMED = 3  # of what is left out, in a message


class Picture(NamedTuple):
    """``path`` (POSIX) below the root; ``real``: of the file itself, links followed."""

    path: str
    real: str


@dataclass
class _LeftOut:
    """What is no picture of its own."""

    hidden: list[str] = field(default_factory=list)
    suffixes: Counter[str] = field(default_factory=Counter)
    again: list[str] = field(default_factory=list)

    def note(self, root: Path) -> None:
        """Warn in one line, if there is something."""
        by_count = sorted(self.suffixes.items(), key=lambda kind: (-kind[1], kind[0]))
        kinds = ", ".join(f"{shown(s) or 'no suffix'} {n}" for s, n in by_count)
        parts = [
            (len(self.hidden), "hidden entry", "hidden entries", _some(self.hidden)),
            (self.suffixes.total(), "other file", "other files", f"by suffix: {kinds}"),
            (len(self.again), "link", "links", f"to what is read already: {_some(self.again)}"),
        ]
        told = [f"{n} {one if n == 1 else more} ({what})" for n, one, more, what in parts if n]
        if told:
            warnings.warn(f"{shown(root)}: left out {', '.join(told)}", stacklevel=4)


def class_pictures(root: Path) -> dict[str, list[str]]:
    """The pictures of each class folder, as POSIX paths below the root.

    They come in the order of torchvision's ImageFolder. Hidden entries, files of other kinds (by
    their suffix) and further ways to a file of the same class are left out, with one warning. Links
    are followed; a broken one counts as a picture, which cannot be read.

    Raises:
        ValueError: no class folder, one without pictures, or a file in two classes.
    """
    left, top = _LeftOut(), os.path.realpath(root)
    classes = [entry.name for entry in _entries(root, left) if _is_class(entry, top, left)]
    if not classes:
        raise ValueError(f"{shown(root)} is no tree of class folders: it has no sub-folders")
    found = {name: _pictures(root, name, left) for name in classes}
    if empty := [shown(name) for name, pictures in found.items() if not pictures]:
        raise ValueError(
            f"{shown(root)} is no tree of class folders: no image in {', '.join(empty)}; the names "
            f"of images end in {', '.join(suffixes())}, those of other files there in "
            f"{', '.join(map(shown, sorted(left.suffixes))) or 'nothing'}"
        )
    kept, again = once(os.fspath(root), found)
    left.again += again
    left.note(root)
    return kept


def once(
    root: str, classes: Mapping[str, Sequence[Picture]]
) -> tuple[dict[str, list[str]], list[str]]:
    """The paths of each class with each real file once, and the paths that are left out.

    Of several ways to a file, its own path is kept, or else the first.

    Raises:
        ValueError: a file is in two classes.
    """
    top = os.path.realpath(root)
    best: dict[str, tuple[str, str]] = {}
    for name, pictures in classes.items():
        for path, real in pictures:
            owner, first = best.setdefault(real, (name, path))
            if owner != name:
                raise ValueError(
                    f"{shown(root)}: {shown(first)} and {shown(path)} are the same file in two "
                    "classes: remove it from one of them"
                )
            if real == os.path.join(top, path):
                best[real] = name, path
    kept = {n: [path for path, real in ps if best[real][1] == path] for n, ps in classes.items()}
    again = [path for ps in classes.values() for path, real in ps if best[real][1] != path]
    return kept, again


def real_path(path: str, folders: dict[str, str]) -> str:
    """``os.path.realpath``, which asks about each folder once and notes it in ``folders``."""
    folder, name = os.path.split(path)
    if os.path.islink(path):
        return os.path.realpath(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _entries(folder: str | os.PathLike[str], left: _LeftOut) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, by name."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    left.hidden += [e.name for e in entries if _is_hidden(e.name)]
    return [e for e in entries if not _is_hidden(e.name)]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _is_class(entry: os.DirEntry[str], top: str, left: _LeftOut) -> bool:
    """Whether an entry of the root is a class folder."""
    if not _is_folder(entry):
        left.suffixes[_suffix(entry.name)] += 1
    elif _holds(os.path.realpath(entry.path), top):
        left.again.append(entry.name)
    else:
        return True
    return False


def _pictures(root: Path, name: str, left: _LeftOut) -> list[Picture]:
    """A class's pictures, sorted by folder and then by name."""
    start = len(os.path.join(root, ""))
    folders = sorted(_walk(os.path.join(root, name), left), key=lambda found: found[0])
    return [
        Picture(
            entry.path[start:].replace(os.sep, "/"),
            os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name),
        )
        for _, real, files in folders
        for entry in files
    ]


def _walk(top: str, left: _LeftOut) -> Iterator[tuple[str, str, list[os.DirEntry[str]]]]:
    """A class's folders, their real paths, their picture files.

    Each real folder comes once, those behind links last.
    """
    real_top, seen = os.path.realpath(top), set[str]()
    plain, linked = [top], list[str]()
    while plain or linked:
        folder = plain.pop() if plain else linked.pop(0)
        real = os.path.realpath(folder)
        if real in seen or (seen and _holds(real, real_top)):
            left.again.append(os.path.basename(folder))
            continue
        seen.add(real)
        files = []
        for entry in _entries(folder, left):
            if _is_folder(entry):
                (linked if entry.is_symlink() else plain).append(entry.path)
            elif _is_picture(entry):
                files.append(entry)
            else:
                left.suffixes[_suffix(entry.name)] += 1
        yield folder, real, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_picture(entry: os.DirEntry[str]) -> bool:
    """By its suffix; a pipe or a device is none, a broken link is one."""
    if _suffix(entry.name) not in suffixes():
        return False
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _holds(folder: str, other: str) -> bool:
    """Whether a real folder is the other, or holds it."""
    return other == folder or other.startswith(os.path.join(folder, ""))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return ", ".join(map(shown, names[:NAMED])) + more
