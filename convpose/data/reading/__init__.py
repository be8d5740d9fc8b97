"""Annotation files of a data set: find them, read MATLAB's, and use the names in them.

A file names photographs, which `PhotoNames` finds in an archive, and joints.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np

from convpose.bounded import read_file
from convpose.data.reading.archive import (
    MAX_ANNOTATION_BYTES,
    Archive,
    ZipFolder,
    open_archive,
)
from convpose.data.reading.matlab import MatlabError, read_matlab
from convpose.errors import ConfigError, DataError
from convpose.skeleton import Skeleton, spelled

_ANNOTATIONS = (".json", ".mat", ".csv", ".yaml", ".yml")
_SUBSET = re.compile(r"(?<![a-z])(train|val|test)")
Form = Callable[[str], str]
Wanted = tuple[str, str | None]  # a file as annotations call it, and a subset


def find_files(
    name: str,
    source: str | None,
    folder: str,
    stems: Sequence[str],
    patterns: Sequence[str],
    images: str | None,
    others: Sequence[str] = (),
) -> tuple[dict[str, bytes], Archive]:
    """Find the annotation files of a data set and the archive of its photographs.

    Args:
        name: of the data set, for messages.
        source: an annotation file, or the folder or zip that holds files and photographs; None
            looks for the stems, as folder or zip, in `folder`.
        folder: the data folder.
        stems: names that the folder or zip may have.
        patterns: of the annotation files in a folder or zip, at any depth.
        images: folder or zip of the photographs; None: where the annotation files are, which for
            a single file is the folder above one that is called ``annot…``.
        others: patterns that are tried one after the other where no file is like `patterns`.

    Returns:
        Contents by path, in the order of the names; the archive.

    Raises:
        DataError: there are none; the message lists what was looked for and what to type.
    """
    path = None if source is None else Path(source).expanduser()
    if path is not None and path.suffix in _ANNOTATIONS:
        if not path.is_file():
            raise DataError(f"data.source={source}: no such file; type the path of one that exists")
        above = path.parent.parent if path.parent.name.startswith("annot") else path.parent
        return {str(path): read_file(path)}, open_archive(Path(images or above).expanduser())
    archive = open_archive(path or find_folder(name, Path(folder), stems))
    members = next(
        filter(None, (_like(archive, p) for p in (patterns, *([o] for o in others)))), []
    )
    if not members:
        kind = PurePosixPath(patterns[0]).suffix
        there = [f for f in archive.names() if f.endswith(kind)][:8]
        raise DataError(
            f"{archive.path}: no {' or '.join(patterns)} in it ({kind} files there: "
            f"{', '.join(there) or 'none'}); type data.source= with the path of the annotation "
            f"file itself, or its name with data.sources.{name}.annotations=[NAME]"
        )
    files = {f"{archive.path / m}": archive.read(m, MAX_ANNOTATION_BYTES) for m in members}
    return files, open_archive(Path(images).expanduser()) if images else archive


def _like(archive: Archive, patterns: Sequence[str]) -> list[str]:
    """List the files of an archive that are like patterns; those in its zips if no other is."""
    found = [f for f in archive.names() if any(fnmatch(f"/{f}", f"*/{p}") for p in patterns)]
    packed = archive.packed if isinstance(archive, ZipFolder) else {}
    return [f for f in found if f not in packed] or found


def find_folder(name: str, folder: Path, stems: Sequence[str]) -> Path:
    """Find the folder or zip of a data set in the data folder."""
    candidates = [folder / f"{stem}{ending}" for stem in stems for ending in ("", ".zip")]
    for candidate in candidates:
        if candidate.is_dir() or candidate.is_file():
            return candidate
    if not stems:
        raise DataError(f"{name}: type data.source= with the path of the annotation file")
    raise DataError(
        f"{name} not found: looked in {folder.absolute()} for "
        f"{' or '.join(candidate.name for candidate in candidates)}; type "
        f"data.source=/path/to/{stems[0]}, or put it into the folder that the environment variable "
        "CONVPOSE_DATA names"
    )


def read_variable(
    file: str, content: bytes, variable: str, remedy: str, squeeze: bool = True
) -> Any:
    """Read a variable of a ``.mat`` file; its structs have their fields as attributes.

    A struct array of one element is that struct if it is squeezed, and empty means missing: `many`,
    `field` and `number` read the values.

    Raises:
        DataError: no MATLAB file, or no such variable in it.
    """
    try:
        found, names = read_matlab(content, variable, squeeze)
    except MatlabError as error:
        raise DataError(f"{file}: not a MATLAB file, or damaged ({error}); {remedy}") from error
    if found is None:
        there = ", ".join(names) or "nothing"
        raise DataError(f"{file}: expected the variable {variable}, found {there}; {remedy}")
    return found


def many(value: Any) -> list[Any]:
    """Return a struct array of none, one or several elements as a list."""
    return list(value.flat) if isinstance(value, np.ndarray) else [] if value is None else [value]


def field(struct: Any, *names: str) -> Any:
    """Return a nested field; None where it or one on the way is missing or empty."""
    for name in names:
        struct = getattr(struct, name, None)
        empty = struct == "" if isinstance(struct, str) else np.size(struct) == 0
        if empty:
            return None
    return struct


def number(struct: Any, *names: str) -> float:
    """Return a nested field as a number, also if it is text; NaN where it is missing."""
    value = field(struct, *names)
    return float("nan") if value is None else float(value)


def subset_of(file: str) -> str | None:
    """Return the subset that a file's name tells, if any: ``valid.json`` is ``val``.

    Roboflow calls all its files the same, and their folders by the subset.
    """
    path = PurePosixPath(file.lower())
    match = _SUBSET.search(path.parent.name if path.name.startswith("_annotations") else path.name)
    return match[0] if match else None


def stem_of(file: str) -> str:
    """Join a photograph's path without its ending by hyphens: ``a/b.jpg`` is ``a-b``."""
    return str(PurePosixPath(file.replace("\\", "/")).with_suffix("")).strip("/").replace("/", "-")


def composed(name: str) -> str:
    """Write letters with accents as one character; a Mac writes them as two (NFD)."""
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """Forget capitals, and write out ``%20`` and the like, as Label Studio has them."""
    return composed(unquote(name)).casefold()


def _windows(name: str) -> str:
    """Read a name of a zip without its UTF-8 flag, which came as cp437, in Windows' own letters."""
    try:
        return folded(name.encode("cp437").decode("cp1252"))
    except UnicodeError:
        return folded(name)


class PhotoNames:
    """Names of an archive, looked up by the end of their path.

    ``val2017/1.jpg`` may be called ``1.jpg`` in the annotations or ``/home/me/coco/val2017/1.jpg``.
    If several match, the exact name counts, then one whose folder names the person's subset. Where
    no name is the same, one that is written another way counts if there is only one.

    Args:
        names: of the photographs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._by_end: dict[Form, dict[str, list[tuple[str, str]]]] = {}

    def find(self, file: str, subset: str | None = None) -> str | None:
        """Find the one photograph that annotations call `file`; None if there is none."""
        file = file.replace("\\", "/")
        for given, there in (
            (str, str),
            (composed, composed),
            (folded, folded),
            (folded, _windows),
        ):
            if found := self._matching(given(file), there):
                exact = [name for name, written in found if written == given(file)]
                ends = [name for name, _ in found]
                own = [n for n in ends if subset and subset_of(n.rpartition("/")[0]) == subset]
                return next((names[0] for names in (exact, own, ends) if len(names) == 1), None)
        return None

    def find_all(self, wanted: Iterable[Wanted]) -> dict[Wanted, str | None]:
        """Find the photographs of files and subsets; None also where other files are the same one.

        ``cam1/1.jpg`` and ``cam2/1.jpg`` are not both ``1.jpg``. Of several names that end as the
        photograph's own path does all count, as they name no folder that is not there.
        """
        found = {each: self.find(*each) for each in dict.fromkeys(wanted)}
        paths = {each: str(PurePosixPath(composed(each[0].replace("\\", "/")))) for each in found}
        names: dict[str | None, set[str]] = defaultdict(set)
        for each, there in found.items():
            names[there].add(paths[each])
        return {
            each: there
            if len(names[there]) == 1 or f"/{composed(there or '')}".endswith(f"/{paths[each]}")
            else None
            for each, there in found.items()
        }

    def hint(self, file: str, subset: str | None = None) -> str:
        """Say why `find_all` finds no `file`: it is not the only one, or is called differently."""
        if there := self.find(file, subset):
            return (
                f" (the labels have another name, too, that would be {there}; put the photographs "
                "into the folders that the labels name)"
            )
        numbers = re.findall(r"\d+", file.rpartition("/")[2])
        ends = {
            folded(end): name
            for name in self._names
            if re.findall(r"\d+", end := name.rpartition("/")[2]) == numbers
        }
        close = get_close_matches(folded(file.rpartition("/")[2]), ends, 1, 0.8)
        return f" (is it {ends[close[0]]}?)" if close else ""

    def _matching(self, file: str, there: Form) -> list[tuple[str, str]]:
        """List the names, and how they are written in a form, whose path ends as `file` does."""
        if there not in self._by_end:
            by_end = self._by_end[there] = defaultdict(list)
            for name in self._names:
                written = there(name)
                by_end[written.rpartition("/")[2]].append((name, written))
        return [
            (name, written)
            for name, written in self._by_end[there].get(file.rpartition("/")[2], ())
            if f"/{written}".endswith(f"/{file}") or f"/{file}".endswith(f"/{written}")
        ]


def renamed(joints: Sequence[str], names: Mapping[str, str], target: Skeleton) -> list[str]:
    """Give the joints of a file the names of keypoints, as ``data.names`` says.

    Args:
        joints: names in the file.
        names: keypoints of `target` by joint.
        target: the skeleton.

    Raises:
        ConfigError: a joint that the file lacks, or a keypoint that the skeleton lacks.
    """
    given = {spelled(joint): keypoint for joint, keypoint in names.items()}
    for words, known, whose in (
        (list(names), joints, "the joints of the file are"),
        (list(names.values()), target.keypoints, f"the keypoints of {target.name} are"),
    ):
        there = {spelled(name) for name in known}
        if lost := [word for word in words if spelled(word) not in there]:
            raise ConfigError(f"data.names: there is no {lost[0]}; {whose} {', '.join(known)}")
    return [given.get(spelled(joint), joint) for joint in joints]
