"""Lists of image files: the VisDA-17 layout and class folders."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from asg_env.data.cache import digest
from asg_env.data.folders import Picture, class_pictures, once, real_path
from asg_env.data.names import shown


@dataclass(frozen=True, eq=False)
class FileList:
    """Labelled image files below a root.

    Attributes:
        root: the folder that ``paths`` are relative to; made absolute.
        paths: (N) POSIX paths.
        labels: (N,) int64, 0..len(classes)-1.
        classes: names; ``classes[k]`` is label k.
    """

    root: Path
    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, indices: np.ndarray) -> FileList:
        """Some of the files, in the order of ``indices``."""
        paths = tuple(self.paths[i] for i in indices)
        return FileList(self.root, paths, self.labels[indices], self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """A name for the list itself: which paths, with which labels, in which order."""
        return digest([*self.paths, self.labels.tobytes(), *self.classes])

    @cached_property
    def stamps(self) -> tuple[tuple[int, int], ...]:
        """Each file's size, bytes, and time of change, ns; (-1, 0) where there is none."""
        return tuple(_stamp(os.path.join(self.root, path)) for path in self.paths)

    @cached_property
    def content_key(self) -> str:
        """A name for the files' content: the list, and each file's size and time of change."""
        return digest([self.fingerprint, *(f"{size} {changed}" for size, changed in self.stamps)])

    def check_present(self) -> None:
        """Raise FileNotFoundError, naming some, if files are missing.

        A broken link is there: an image that cannot be read.
        """
        missing = [p for p in self.paths if not _is_there(os.path.join(self.root, p))]
        if missing:
            some = ", ".join(map(shown, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise FileNotFoundError(
                f"{len(missing)} of {len(self)} listed images are not in {shown(self.root)}: "
                f"{some}; unpack the archive there again, or take their lines out of the list"
            )


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _is_there(path: str) -> bool:
    return os.path.isfile(path) or (os.path.islink(path) and not os.path.exists(path))


def read_image_list(root: Path, classes: Sequence[str]) -> FileList:
    """Read ``root/image_list.txt``: one ``relative/path label`` a line (VisDA-17).

    Raises:
        FileNotFoundError: no such file, or a listed image is missing.
        ValueError: naming file and line, if a line is malformed, a label out of range, a path
            leaves the root or is listed twice, or the list is empty.
    """
    source = root / "image_list.txt"
    if not source.is_file():
        raise FileNotFoundError(
            f"no list {source}: expected lines 'relative/path label', as in the VisDA-17 archive"
        )
    entries: dict[str, int] = {}
    for number, line in enumerate(source.read_text("utf-8-sig", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        try:
            path, label = _entry(line, len(classes))
            if path in entries:
                raise ValueError(f"{path!r} is listed twice")
        except ValueError as error:
            raise ValueError(f"{source}, line {number}: {error}") from error
        entries[path] = label
    if not entries:
        raise ValueError(f"{source} lists no image; expected lines 'relative/path label'")
    labels = np.array(list(entries.values()), dtype=np.int64)
    found = FileList(root, tuple(entries), labels, tuple(classes))
    found.check_present()
    return _once(found)


def _once(files: FileList) -> FileList:
    """The list without further ways to a file of the same class; it warns of those.

    Raises:
        ValueError: a file is in two classes.
    """
    folders: dict[str, str] = {}
    pictures: dict[str, list[Picture]] = {}
    for path, label in zip(files.paths, files.labels.tolist(), strict=True):
        real = real_path(os.path.join(files.root, path), folders)
        pictures.setdefault(str(label), []).append(Picture(path, real))
    again = set(once(os.fspath(files.root), pictures)[1])
    if not again:
        return files
    warnings.warn(
        f"{shown(files.root)}: left out {len(again)} links to images that are listed already, "
        f"e.g. {shown(min(again))}",
        stacklevel=3,
    )
    return files.subset(np.array([i for i, p in enumerate(files.paths) if p not in again]))


def _entry(line: str, classes: int) -> tuple[str, int]:
    """The path and label of a line."""
    parts = re.fullmatch(r"[ \t\r]*(.*[^ \t\r])[ \t]+(\S+)[ \t\r]*", line, re.DOTALL)
    if parts is None:
        raise ValueError(f"{line!r}: expected 'relative/path label'")
    path, label = PurePosixPath(parts[1]), parts[2]
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{str(path)!r} leaves the folder of the list; only paths below it count")
    if not label.isascii() or not label.isdigit():
        raise ValueError(f"label {label!r} is not an integer 0..{classes - 1}")
    if int(label) >= classes:
        raise ValueError(f"label {label} is out of range 0..{classes - 1}")
    return str(path), int(label)


def read_class_folders(root: str | os.PathLike[str]) -> FileList:
    """Read ``root/CLASS/**/*``: one folder for each class (torchvision's ImageFolder layout).

    What is no picture is left out with a warning, see
    :func:`~asg_env.data.folders.class_pictures`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class folders, a class folder has no image in it, or a file is in two
            of them.
    """
    root = Path(os.path.abspath(os.path.expanduser(root)))
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: expected one sub-folder of images a class")
    classes = class_pictures(root)
    labels = [label for label, paths in enumerate(classes.values()) for _ in paths]
    paths = tuple(path for paths in classes.values() for path in paths)
    return FileList(root, paths, np.array(labels, dtype=np.int64), tuple(classes))


def held_out(
    files: FileList, share: float, seed: int, object_of: Callable[[str], str] = str
) -> tuple[np.ndarray, ...]:
    """Split a list into (train, inner_valid, outer_valid), each index once, every class in each.

    Of each class, at least ``share`` of the images go to either held-out part. Images of one object
    stay together.

    Args:
        files: what to split.
        share: in (0, 1/3).
        seed: of the choice.
        object_of: what an image shows, by its path; by default each shows something of its own.

    Raises:
        ValueError: a class has too few images (or models) to be in all three.
    """
    if not 0 < share < 1 / 3:
        raise ValueError(f"held_out={share}: expected a share in (0, 1/3)")
    rng = np.random.default_rng(seed)
    parts: tuple[list[int], ...] = ([], [], [])
    for label, name in enumerate(files.classes):
        members = np.flatnonzero(files.labels == label)
        models = _objects(files, members, object_of)
        if len(models) < 3:
            raise ValueError(
                f"class {name!r} in {files.root} has {len(members)} images of {len(models)} "
                "objects: three are needed at least, for train, inner_valid and outer_valid; add "
                "images, or remove the class from source and target"
            )
        order = [models[i] for i in rng.permutation(len(models))]
        for part in parts[1:]:
            _take(order, part, share * len(members))
        parts[0].extend(i for model in order for i in model)
    return tuple(rng.permutation(np.array(sorted(part))) for part in parts)


def _objects(
    files: FileList, members: np.ndarray, object_of: Callable[[str], str]
) -> list[list[int]]:
    """Indices of a class, images of one object together."""
    objects: dict[str, list[int]] = {}
    for i in members.tolist():
        objects.setdefault(object_of(files.paths[i]), []).append(i)
    return list(objects.values())


def _take(models: list[list[int]], part: list[int], wanted: float) -> None:
    """Move models to a part until it has enough images; leave enough models for the others."""
    taken = 0
    while taken < wanted and (not taken or len(models) > 2):
        taken += len(models[-1])
        part.extend(models.pop())
