"""Where the annotation files and the photographs of a data set lie, and what their names tell."""

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from convpose.data.reading.archive import Archive
from convpose.errors import DataError

_ANNOTATIONS = (".json", ".mat", ".csv")
_PART = re.compile(r"(?<![a-z])(train|val|test)")


def find_files(
    name: str,
    source: str | None,
    folder: str,
    stems: Sequence[str],
    patterns: Sequence[str],
    images: str | None,
) -> tuple[dict[str, bytes], Archive]:
    """The annotation files of a data set and the archive of its photographs.

    Args:
        name: of the data set, for messages.
        source: an annotation file, or the folder or zip that holds files and photographs; None
            looks for the stems, as folder or zip, in `folder`.
        folder: the data folder.
        stems: what the archive is called.
        patterns: of the annotation files in a folder or zip, at any depth.
        images: folder or zip of the photographs; None: where the annotation files are, which for
            a single file is the folder above one that is called ``annot…``.

    Returns:
        Contents by path, in the order of the names; the archive.

    Raises:
        DataError: there are none; what was looked for and what to type.
    """
    path = None if source is None else Path(source).expanduser()
    if path is not None and path.suffix in _ANNOTATIONS:
        if not path.is_file():
            raise DataError(f"data.source={source}: no such file; type the path of one that exists")
        above = path.parent.parent if path.parent.name.startswith("annot") else path.parent
        return {str(path): path.read_bytes()}, Archive(Path(images or above).expanduser())
    archive = Archive(path or _locate(name, Path(folder), stems))
    members = [f for f in archive.names() if any(fnmatch(f"/{f}", f"*/{p}") for p in patterns)]
    if not members:
        kind = PurePosixPath(patterns[0]).suffix
        there = [f for f in archive.names() if f.endswith(kind)][:8]
        raise DataError(
            f"{archive.path}: no {' or '.join(patterns)} in it ({kind} files there: "
            f"{', '.join(there) or 'none'}); type data.source= with the path of the annotation "
            f"file itself, or its name with data.sources.{name}.annotations=[NAME]"
        )
    files = {}
    for member in members:
        with archive.open(member) as file:  # whole: COCO's largest has 240 MB
            files[f"{archive.path / member}"] = file.read()
    return files, Archive(Path(images).expanduser()) if images else archive


def _locate(name: str, folder: Path, stems: Sequence[str]) -> Path:
    places = [folder / f"{stem}{ending}" for stem in stems for ending in ("", ".zip")]
    for place in places:
        if place.is_dir() or place.is_file():
            return place
    if not stems:
        raise DataError(f"{name}: type data.source= with the path of the annotation file")
    raise DataError(
        f"{name} not found: looked in {folder.absolute()} for "
        f"{' or '.join(place.name for place in places)}; type data.source=/path/to/{stems[0]}, or "
        "put it into the folder that the environment variable CONVPOSE_DATA names"
    )


def parse_json(file: str, text: bytes, remedy: str) -> Any:
    """What a JSON file holds; DataError with the remedy if it is none."""
    try:
        return json.loads(text)
    except ValueError as error:  # no JSON, or not UTF-8
        raise DataError(f"{file}: not a JSON file ({error}); {remedy}") from error


def part_of(file: str) -> str | None:
    """The part that a name tells: ``person_keypoints_val2017.json`` and ``valid.json`` are val."""
    match = _PART.search(PurePosixPath(file).name.lower())
    return match[0] if match else None


def stem_of(file: str) -> str:
    """A photograph's path without its ending, in one piece: ``a/b.jpg`` is ``a-b``."""
    return str(PurePosixPath(file.replace("\\", "/")).with_suffix("")).strip("/").replace("/", "-")
