"""Read MATLAB files (version 5, ``save -v7`` or older) without trusting a number in them.

scipy's reader follows what a damaged file says out of its memory, and the process dies. Here each
length is held against what is there. Numbers, texts, cells and structs are read, as the data sets
have them. Source: MathWorks, "MAT-File Format", version 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from convpose.bounded import MAX_BYTES
from convpose.data.reading.archive import HARMLESS_BYTES, MAX_RATIO

Order = Literal["<", ">"]  # of bytes, as `struct` has it
HEADER_BYTES = 128
MAX_ELEMENTS = 10_000_000  # MPII's file has about three
MAX_DEPTH = 32  # of structs in structs; MPII's file has 5
MATRIX, COMPRESSED = 14, 15
CODES = dict(zip((1, 2, 3, 4, 5, 6, 7, 9, 12, 13), "bBhHiIfdqQ", strict=True))
NUMBERS = {kind: np.dtype(code) for kind, code in CODES.items()}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CELL, STRUCT, OBJECT, CHAR, FIRST_NUMERIC, LAST_NUMERIC = 1, 2, 3, 4, 6, 15


class MatlabError(ValueError):
    """A file that is damaged, or holds what is not read here."""


def read_matlab(content: bytes, variable: str, squeeze: bool = True) -> tuple[Any, list[str]]:
    """Read a variable.

    Args:
        content: of the file.
        variable: its name.
        squeeze: drop axes of length 1, and turn arrays of one item into it.

    Returns:
        Its value, None if there is none of that name: numbers as arrays, texts as str, a struct as
        an object with its fields, cells and several structs as arrays of objects. The names of the
        variables up to it.

    Raises:
        MatlabError: damaged, or of another version.
    """
    if content.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise MatlabError("of version 7.3; save it in MATLAB with -v7")
    orders: dict[bytes, Order] = {b"IM": "<", b"MI": ">"}
    order = orders.get(content[126:128])
    if order is None:
        raise MatlabError("no header of version 5")
    names = []
    try:
        for part in _variables(content, order):
            reader = _Reader(part, order, squeeze)
            kind, start, stop, _ = reader.element(0, len(part))
            if kind != MATRIX:
                continue
            names.append(reader.head(start, stop)[2])
            if names[-1] == variable:
                return reader.matrix(start, stop), names
    except (struct.error, zlib.error, UnicodeError) as error:
        raise MatlabError(str(error)) from error
    return None, names


def _variables(content: bytes, order: Order) -> Iterator[bytes]:
    """Split a file into its elements, unpacked; each begins with its tag."""
    at = HEADER_BYTES
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        stop = at + 8 + size
        if stop > len(content):
            raise MatlabError("it ends early")
        if kind == COMPRESSED:
            most = min(MAX_BYTES, max(HARMLESS_BYTES, MAX_RATIO * size))
            part = zlib.decompressobj().decompress(content[at + 8 : stop], most + 1)
            if len(part) > most:
                raise MatlabError(f"a variable unpacks to more than {most:,} bytes")
            yield part
        else:
            yield content[at:stop]
        at = stop


class _Reader:
    """Read the matrix of one variable, whose parts are elements: a tag, then content.

    Args:
        content: of the element.
        order: of bytes.
        squeeze: see `read_matlab`.
    """

    def __init__(self, content: bytes, order: Order, squeeze: bool) -> None:
        self._content, self._order, self._squeeze = content, order, squeeze
        self._words = struct.Struct(f"{order}II")
        self._heads = struct.Struct(f"{order}4I4i2I")
        self._single = {kind: struct.Struct(order + code) for kind, code in CODES.items()}
        self._left = MAX_ELEMENTS

    def element(self, at: int, end: int) -> tuple[int, int, int, int]:
        """Read a tag: the kind, where the content starts and stops, and where the next tag is."""
        if at + 8 > end:
            raise MatlabError("an element ends early")
        kind, size = self._words.unpack_from(self._content, at)
        if kind >> 16:  # up to four bytes lie in the tag itself
            kind, size, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise MatlabError(f"an element of {size} bytes in its tag")
        else:
            start, following = at + 8, at + 8 + size + -size % 8
        if start + size > end:
            raise MatlabError("an element is larger than what holds it")
        return kind, start, start + size, min(following, end)

    def head(self, start: int, end: int) -> tuple[int, tuple[int, ...], str, int]:
        """Read the head of a matrix: class, shape, name, and where its content starts."""
        if start + 40 <= end:  # the usual head of a field, in one step: the files have millions
            words = self._heads.unpack_from(self._content, start)
            if words[:2] + words[4:6] + words[8:] == (6, 8, 5, 8, 1, 0) and min(words[6:8]) >= 0:
                return words[2] & 0xFF, words[6:8], "", start + 40
        flags, at = self._array(start, end)
        shape, at = self._array(at, end)
        if not len(flags) or not 2 <= len(shape) <= 32 or (shape < 0).any():
            raise MatlabError(f"an array of shape {shape.tolist()[:33]}")
        _, first, stop, at = self.element(at, end)
        name = self._content[first:stop].decode("utf-8")
        return int(flags[0]) & 0xFF, tuple(map(int, shape)), name, at

    def matrix(self, start: int, end: int, depth: int = 0) -> Any:
        """Read a matrix."""
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise MatlabError(f"more than {MAX_ELEMENTS:,} arrays, or {MAX_DEPTH} in one another")
        if start == end:
            return np.zeros(0)
        kind, shape, _, at = self.head(start, end)
        size = math.prod(shape)
        if kind in (STRUCT, OBJECT):
            return self._structs(kind, shape, size, at, end, depth)
        if kind == CHAR:
            return self._text(shape, at, end)
        if kind == CELL:
            self._check_count(size, at, end)
            cells = np.empty(size, dtype=object)
            for i in range(size):
                cells[i], at = self._next(at, end, depth)
            return self._shaped(cells, shape)
        if not FIRST_NUMERIC <= kind <= LAST_NUMERIC:
            raise MatlabError(f"an array of class {kind}, no numbers, text, cell or struct")
        if size == 1 and self._squeeze:
            kind, first, stop, _ = self.element(at, end)
            if kind not in NUMBERS or stop - first != self._single[kind].size:
                raise MatlabError(f"a number of type {kind} in {stop - first} bytes")
            return self._single[kind].unpack_from(self._content, first)[0]
        numbers, _ = self._array(at, end)
        if len(numbers) != size:
            raise MatlabError(f"{len(numbers)} numbers for the shape {shape}")
        return self._shaped(numbers, shape)

    def _structs(
        self, kind: int, shape: tuple[int, ...], size: int, at: int, end: int, depth: int
    ) -> Any:
        if kind == OBJECT:  # the name of its class
            at = self.element(at, end)[3]
        widths, at = self._array(at, end)
        _, first, stop, at = self.element(at, end)
        width = int(widths[0]) if len(widths) else 0
        if not 0 < width <= 4096:
            raise MatlabError(f"names of fields of {width} letters")
        names = [
            self._content[i : min(i + width, stop)].split(b"\0")[0].decode("utf-8")
            for i in range(first, stop, width)
        ]
        self._check_count(size * max(1, len(names)), at, end)
        structs = np.empty(size, dtype=object)
        for i in range(size):
            structs[i] = SimpleNamespace()
            for name in names:
                value, at = self._next(at, end, depth)
                vars(structs[i])[name] = value
        return self._shaped(structs, shape)

    def _text(self, shape: tuple[int, ...], at: int, end: int) -> Any:
        kind, first, stop, _ = self.element(at, end)
        if kind not in TEXTS:
            raise MatlabError(f"a text of type {kind}")
        encoding = TEXTS[kind]
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        text = self._content[first:stop].decode(encoding)
        if shape[0] <= 1:
            return text if self._squeeze else np.array([text] if text else [])
        return np.array([text[i :: shape[0]] for i in range(min(shape[0], len(text)))])

    def _next(self, at: int, end: int, depth: int) -> tuple[Any, int]:
        kind, start, stop, following = self.element(at, end)
        if kind != MATRIX:
            raise MatlabError(f"an element of type {kind} where an array is expected")
        return self.matrix(start, stop, depth + 1), following

    def _array(self, at: int, end: int) -> tuple[Any, int]:
        """Read an element of numbers, and where the next one is."""
        kind, start, stop, following = self.element(at, end)
        if kind not in NUMBERS:
            raise MatlabError(f"numbers of type {kind}")
        dtype = NUMBERS[kind].newbyteorder(self._order)
        if (stop - start) % dtype.itemsize:
            raise MatlabError(f"{stop - start} bytes of numbers of {dtype.itemsize}")
        count = (stop - start) // dtype.itemsize
        return np.frombuffer(self._content, dtype, count, start).astype(NUMBERS[kind]), following

    def _check_count(self, count: int, at: int, end: int) -> None:
        if count > max(1, (end - at) // 8):  # each has a tag of 8 bytes
            raise MatlabError(f"{count:,} items in {end - at:,} bytes")

    def _shaped(self, items: Any, shape: tuple[int, ...]) -> Any:
        array = items.reshape(shape, order="F")
        if not self._squeeze:
            return array
        array = array.squeeze()
        return array if array.shape else array.item()
