"""Files of strangers are parsed within bounds, or refused with a reason."""

import pytest

from convpose import bounded
from convpose.bounded import parse_csv, parse_json, parse_yaml, read_file
from convpose.errors import DataError


def test_what_is_well_formed_is_read():
    assert parse_json("a", b'{"a": [1, 2.5, "[[[["]}') == {"a": [1, 2.5, "[[[["]}
    assert parse_json("a", "[" * 64 + "]" * 64)
    assert parse_json("a", f'["{"[" * 999}"]') == ["[" * 999]
    assert parse_yaml("a", "a: [1, 2.5]\nb: text\n") == {"a": [1, 2.5], "b": "text"}
    rows = [{"a": "1", "b": "2"}, {"a": "3", "b": None}, {"a": "4", "b": "5", None: ["6"]}]
    assert parse_csv("a", b"\xef\xbb\xbfa,b\n1,2\n3\n4,5,6\n") == (["a", "b"], rows)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not a JSON file (Expecting property name"),
        (b"\xff\xfe\x00", "not a JSON file ("),
        (b"", "not a JSON file (Expecting value"),
        (b"[" * 65 + b"]" * 65, "brackets more than 64 deep"),
        (b"[" * 99_999 + b"]" * 99_999, "not a JSON file ("),
        (b'{"a":' * 99_999, "not a JSON file ("),
        (b"[" + b"9" * 400 + b"]", "a number of 300 digits"),
        (b"[-" + b"9" * 5000 + b"e9]", "a number of 300 digits"),
    ],
)
def test_json_that_is_refused(content, reason):
    with pytest.raises(DataError) as error:
        parse_json("a.json", content, "use another")
    assert str(error.value).startswith("a.json: not a JSON file (")
    assert reason in str(error.value)
    assert str(error.value).endswith("; use another")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\n\xff\n", "not a CSV file in UTF-8"),
        (b'a\n"1', "line 2 is not CSV (unexpected end of data)"),
        (b"a\n" + b"1" * 200_000, "line 2 is not CSV (field larger than field limit (131072))"),
    ],
)
def test_csv_that_is_refused(content, reason):
    with pytest.raises(DataError) as error:
        parse_csv("a.csv", content)
    assert reason in str(error.value)


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"1" * (2**20 + 1))
    with pytest.raises(DataError, match=r"a: larger than 1 MiB, no such file needs to be"):
        read_file(tmp_path / "a", 2**20)
    monkeypatch.setattr(bounded, "MAX_FACTS", 2**20)
    with pytest.raises(DataError, match=r"b: larger than 1 MiB"):
        parse_yaml("b", "1" * (2**20 + 1))
