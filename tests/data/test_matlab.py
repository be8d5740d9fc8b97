"""MATLAB files: what scipy reads is read the same, and what is damaged ends in a message."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from attack import tries
from scipy.io import loadmat, savemat

from convpose.data.reading.matlab import MatlabError, read_matlab

POINTS = [{"x": float(i), "y": 2.5 * i, "id": i, "is_visible": i % 2} for i in range(16)]
PERSON = {"scale": 1.5, "objpos": {"x": 3, "y": -4}, "annopoints": {"point": POINTS}}
VARIABLES = {
    "RELEASE": {
        "annolist": [
            {"image": {"name": f"{i:09d}.jpg"}, "annorect": i % 3 * [PERSON]} for i in range(6)
        ],
        "img_train": np.ones(6, np.uint8),
    },
    "joints": np.random.default_rng(0).normal(size=(3, 14, 7)),
    "cells": np.array([[1, "a", [1, 2]]], dtype=object),
    "words": np.array(["ab", "cd"]),
    "letters": "üñ",
    "nothing": np.zeros((0, 3)),
    "small": np.int16([[1, 2], [3, 4]]),
    "flags": np.array([True, False]),
}


def packed(compressed=False, **variables):
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=compressed)
    return buffer.getvalue()


def assert_same(ours, theirs):
    if hasattr(theirs, "_fieldnames"):
        assert list(vars(ours)) == theirs._fieldnames
        for name in theirs._fieldnames:
            assert_same(getattr(ours, name), getattr(theirs, name))
    elif np.size(theirs) == 0:
        assert np.size(ours) == 0
    elif isinstance(theirs, np.ndarray) and theirs.dtype == object:
        assert ours.shape == theirs.shape
        for one, other in zip(ours.flat, theirs.flat, strict=True):
            assert_same(one, other)
    else:
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("squeeze", [True, False])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("name", VARIABLES)
def test_it_reads_what_scipy_reads(name, compressed, squeeze):
    content = packed(compressed, **VARIABLES)
    theirs = loadmat(io.BytesIO(content), struct_as_record=False, squeeze_me=squeeze)[name]
    ours, names = read_matlab(content, name, squeeze)
    if name != "words" or squeeze:  # without it scipy has a row of texts where there is one axis
        assert_same(ours, theirs)
    assert names == list(VARIABLES)[: len(names)]


def test_a_variable_that_is_not_there():
    assert read_matlab(packed(a=1, b=2), "c") == (None, ["a", "b"])


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_bytes_never_end_the_process(compressed):
    """scipy's reader died of 3 in 40 such files."""
    content = packed(compressed, RELEASE=VARIABLES["RELEASE"])
    dice, refused = random.Random(0), 0
    number = tries(50, 1000)
    for _ in range(number):
        damaged = bytearray(content)
        for _ in range(dice.choice((1, 2, 4, 16))):
            damaged[dice.randrange(len(damaged))] = dice.choice((0, 1, 255, dice.randrange(256)))
        try:
            read_matlab(
                bytes(damaged[: dice.choice((None, dice.randrange(len(damaged))))]), "RELEASE"
            )
        except MatlabError:
            refused += 1
    assert refused > number / 2


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind, shape, *elements, flags=None):
    head = element(6, struct.pack("<II", kind if flags is None else flags, 0))
    head += element(5, struct.pack(f"<{len(shape)}i", *shape)) + element(1, b"a")
    return element(14, head + b"".join(elements))


def file(*variables):
    return bytes(124) + b"\x00\x01IM" + b"".join(variables)


NUMBERS = element(9, struct.pack("<d", 1.0))
NAMES = element(5, struct.pack("<i", 2)) + element(1, b"b\0")


def nested(depth):
    inside = array(6, (1, 1), NUMBERS)
    for _ in range(depth):
        inside = array(1, (1, 1), inside)
    return inside


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no header of version 5"),
        (b"MATLAB 7.3 MAT-file, Platform", "of version 7.3; save it in MATLAB with -v7"),
        (b"\x89HDF\r\n", "of version 7.3"),
        (file(array(6, (1, 1), NUMBERS)[:-8]), "it ends early"),
        (file(array(6, (2, 3), NUMBERS)), r"1 numbers for the shape \(2, 3\)"),
        (file(array(6, (2**31 - 1, 2**31 - 1), NUMBERS)), "1 numbers for the shape"),
        (file(array(6, (-1, 1), NUMBERS)), r"an array of shape \[-1, 1\]"),
        (file(array(6, (1,), NUMBERS)), "an array of shape"),
        (file(array(1, (2**31 - 1, 1))), "2,147,483,647 items in 0 bytes"),
        (file(array(2, (2**31 - 1, 1), NAMES)), "2,147,483,647 items in 0 bytes"),
        (
            file(array(2, (1, 1), element(5, struct.pack("<i", -3)), NUMBERS)),
            "fields of -3 letters",
        ),
        (file(array(6, (1, 1), element(99, b"12345678"))), "a number of type 99"),
        (file(array(6, (2, 1), element(99, b"12345678"))), "numbers of type 99"),
        (file(array(4, (1, 1), element(9, b"12345678"))), "a text of type 9"),
        (file(array(4, (1, 1), element(16, b"\xff\xfe"))), "can't decode"),
        (file(array(5, (1, 1), NUMBERS)), "an array of class 5, no numbers, text, cell or struct"),
        (file(array(1, (1, 1), NUMBERS)), "an element of type 9 where an array is expected"),
        (file(nested(40)), "32 in one another"),
        (file(element(15, zlib.compress(bytes(2**24)))), "unpacks to more than"),
        (file(element(15, b"no zlib")), "incorrect header"),
    ],
)
def test_what_is_refused(content, reason):
    with pytest.raises(MatlabError, match=reason):
        read_matlab(content, "a")
