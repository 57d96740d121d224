"""Pictures that are there several times: files of equal content, under whatever names."""

from __future__ import annotations

import hashlib
import os
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from asg_env.data.decode import is_image
from asg_env.data.files import FileList
from asg_env.data.names import shown

PROBE = 4096  # bytes from the middle of a file that are compared before the whole of it
BLOCK = 256  # files that a thread is given at once
READERS = 8  # threads: a probe waits for the disk
REMEMBERED = 4  # results of this process

_found: dict[tuple[str, ...], list[list[Place]]] = {}
_lock = threading.Lock()


class Place(NamedTuple):
    """A file: the number of its list, and its number there."""

    source: int
    number: int


def copies(lists: Sequence[FileList]) -> list[list[Place]]:
    """Groups of at least two pictures with equal content, in all the lists together.

    Only files of equal size are read: the middle of each, and the whole where that is equal. Empty,
    missing and unreadable files are no copies of each other.
    """
    key = tuple(f"{files.root} {files.content_key}" for files in lists)
    with _lock:
        groups = _found.pop(key, None)
        if groups is None:
            groups = _search(lists)
        _found[key] = groups
        while len(_found) > REMEMBERED:
            del _found[next(iter(_found))]
        return groups


def check_apart(lists: Mapping[str, FileList]) -> list[list[int]]:
    """Check that lists share no picture; the groups of copies within the first of them.

    Raises:
        ValueError: naming two lists that do, and one of the pictures.
    """
    names, given = list(lists), list(lists.values())
    groups = copies(given)
    shared = [group for group in groups if group[0].source != group[-1].source]
    if shared:
        one, other = shared[0][0], shared[0][-1]
        raise ValueError(
            f"{names[one.source]} and {names[other.source]} share images ({len(shared)} in all): "
            f"{shown(_path(given, one))} and {shown(_path(given, other))} have the same content; "
            "take such images out of one, or what is reported would have been trained on"
        )
    return [[place.number for place in group] for group in groups if group[0].source == 0]


def together(
    files: FileList, groups: Sequence[Sequence[int]], object_of: Callable[[str], str]
) -> Callable[[str], str]:
    """``object_of``, but objects that share a picture are one.

    Args:
        files: which pictures.
        groups: the copies among them.
        object_of: what a picture shows, by its path.
    """
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while name in parent:
            name = parent[name]
        return name

    for group in groups:
        first, *others = (object_of(files.paths[index]) for index in group)
        for other in others:
            if find(other) != find(first):
                parent[find(other)] = find(first)
    return lambda path: find(object_of(path))


def warn_of_two_labels(files: FileList, groups: Sequence[Sequence[int]]) -> None:
    """Warn if copies have different labels: they may be trained on and validated with."""
    torn = [group for group in groups if len(set(files.labels[list(group)].tolist())) > 1]
    if torn:
        paths = ", ".join(shown(files.paths[index]) for index in torn[0])
        warnings.warn(
            f"{shown(files.root)}: {len(torn)} images are in several classes under different "
            f"names, e.g. {paths}: at most one of the labels is right",
            stacklevel=3,
        )


def _search(lists: Sequence[FileList]) -> list[list[Place]]:
    sizes = defaultdict(list)
    for number, files in enumerate(lists):
        for index, (size, _) in enumerate(files.stamps):
            sizes[size].append(Place(number, index))
    groups = [places for size, places in sizes.items() if size > 0]

    def path(place: Place) -> str:
        return _path(lists, place)

    with ThreadPoolExecutor(READERS, "compare") as pool:
        for content in (_middle, _whole):
            groups = _split(groups, path, partial(_contents, pool, content))
    return sorted(group for group in groups if is_image(path(group[0])))


def _contents(
    pool: ThreadPoolExecutor, content: Callable[[str], bytes | None], paths: Iterable[str]
) -> list[bytes | None]:
    """What a function gives for each path, many at once."""
    found = list(paths)
    parts = [found[i : i + BLOCK] for i in range(0, len(found), BLOCK)]
    done = pool.map(lambda part: [content(path) for path in part], parts)
    return [value for part in done for value in part]


def _split(
    groups: Iterable[list[Place]],
    path: Callable[[Place], str],
    contents: Callable[[Iterable[str]], list[bytes | None]],
) -> list[list[Place]]:
    """The groups of several, parted by their content; what has none (None) is left out."""
    several = [group for group in groups if len(group) > 1]
    flat = [place for group in several for place in group]
    number = [n for n, group in enumerate(several) for _ in group]
    parts = defaultdict(list)
    for n, place, content in zip(number, flat, contents(map(path, flat)), strict=True):
        if content is not None:
            parts[n, content].append(place)
    return [part for part in parts.values() if len(part) > 1]


def _middle(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(max(0, (os.fstat(file.fileno()).st_size - PROBE) // 2))
            return hashlib.blake2b(file.read(PROBE), digest_size=16).digest()
    except OSError:
        return None


def _whole(path: str) -> bytes | None:
    total = hashlib.blake2b(digest_size=32)
    try:
        with open(path, "rb") as file:
            while part := file.read(1 << 20):
                total.update(part)
    except OSError:
        return None
    return total.digest()


def _path(lists: Sequence[FileList], place: Place) -> str:
    files = lists[place.source]
    return os.path.join(files.root, files.paths[place.number])
