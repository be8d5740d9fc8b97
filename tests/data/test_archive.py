import os
import pickle
import stat
import zipfile

import pytest
from fake_lsp import write_folder, write_zip

from convpose.data.reading import find_files
from convpose.data.reading.archive import MAX_FILE_BYTES, Archive, zip_problem
from convpose.errors import DataError

FILES = {"joints.mat": b"joints", "images/im0001.jpg": b"one", "images/im0002.jpg": b"two"}


@pytest.mark.parametrize("top", ["", "lsp_dataset/"])
@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_zip_and_folder_read_alike_with_or_without_a_top_folder(tmp_path, write, top):
    archive = Archive(write(tmp_path / "a", {top + name: c for name, c in FILES.items()}))
    assert archive.names() == sorted(FILES)
    assert {name: archive.read(name) for name in FILES} == FILES


def test_what_operating_systems_add_is_ignored(tmp_path):
    files = {f"lsp/{name}": content for name, content in FILES.items()}
    junk = {"__MACOSX/lsp/._joints.mat": b"x", "lsp/images/.DS_Store": b"x"}
    assert Archive(write_zip(tmp_path / "a.zip", files | junk)).names() == sorted(FILES)


HIDDEN = ("._people.csv", ".ipynb_checkpoints/people-checkpoint.csv", ".git/x.csv", "a/.x/b.csv")


@pytest.mark.parametrize("where", ["folder", "zip"])
def test_hidden_companions_are_passed_over(tmp_path, where):
    """Pass over those of macOS, Jupyter and git, which a ``*.csv`` would take for data."""
    files = {"people.csv": b"one", "a/a.jpg": b"two", **dict.fromkeys(HIDDEN, b"x")}
    path = (
        write_zip(tmp_path / "a.zip", files)
        if where == "zip"
        else write_folder(tmp_path / "a", files)
    )
    assert Archive(path).names() == ["a/a.jpg", "people.csv"]
    contents, _ = find_files("csv", str(path), "", (), ("*.csv",), None)
    assert list(contents.values()) == [b"one"]


def test_backslashes_of_windows_are_separators(tmp_path):
    archive = Archive(write_zip(tmp_path / "a.zip", {"images\\im0001.jpg": b"one", "b": b""}))
    assert archive.read("images/im0001.jpg") == b"one"


def member(name, mode=None):
    info = zipfile.ZipInfo(name)
    if mode is not None:
        info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (member("../joints.mat"), "path traversal"),
        (member("images/../../x.jpg"), "path traversal"),
        (member("..\\x.jpg"), "path traversal"),
        (member("/etc/passwd"), "absolute name"),
        (member("C:\\x.jpg"), "absolute name"),
        (member("images/im0001.jpg", stat.S_IFLNK | 0o777), "is a link"),
        (member("pipe", stat.S_IFIFO | 0o666), "or a device"),
    ],
)
def test_members_that_could_leave_the_archive_are_refused(tmp_path, info, problem):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("joints.mat", b"joints")
        file.writestr(info, b"target")
    with pytest.raises(DataError, match=rf"a\.zip: member .*{problem}.*use the official archive"):
        Archive(tmp_path / "a.zip")


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("joints.mat", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("joints.mat", b"two")
    with pytest.raises(DataError, match=r"'joints.mat' is there twice"):
        Archive(tmp_path / "a.zip")


def test_an_encrypted_member_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"joints.mat": b"joints"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # general purpose flags, central directory
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        Archive(path)


def test_a_packing_that_python_does_not_know_is_no_damage(tmp_path):
    """Windows packs more than 2 GB as Deflate64."""
    path = write_zip(tmp_path / "a.zip", {"joints.mat": b"joints"})
    content = bytearray(path.read_bytes())
    content[8] = content[content.index(b"PK\x01\x02") + 10] = 9
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"joints.mat is packed in a way .* unpack the zip yourself"
    ):
        Archive(path).read("joints.mat")


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"images/im0001.jpg": bytes(8 * 2**20), "b": b"b"})
    archive = Archive(path)
    assert archive.read("b") == b"b", "nobody has to open the other"
    for read in (archive.open, archive.read):
        with pytest.raises(DataError, match=r"unpacks from [\d,]+ to 8,388,608 bytes .*ratio 200"):
            read("images/im0001.jpg")


def test_size_bounds_hold_for_what_is_read(tmp_path):
    """Bound what is opened: large members of COCO's zips that nobody reads cost nothing."""
    path = write_zip(tmp_path / "a.zip", {"a": os.urandom(600), "b": os.urandom(400)})
    archive = Archive(path)
    assert len(archive.read("b", limit=500)) == 400
    with pytest.raises(
        DataError, match=r"a\.zip: a unpacks from 6\d\d to 600 bytes \(allowed: 500"
    ):
        archive.read("a", limit=500)
    folder = Archive(write_folder(tmp_path / "folder", {"a": bytes(600)}))
    with pytest.raises(DataError, match="folder: a is larger than"):
        folder.read("a", limit=500)


def test_annotations_may_be_larger_than_a_photograph(tmp_path):
    people, other = os.urandom(MAX_FILE_BYTES + 1), os.urandom(MAX_FILE_BYTES + 2)
    with zipfile.ZipFile(tmp_path / "coco.zip", "w") as file:  # stored
        file.writestr("annotations/people.json", people)
        file.writestr("annotations/instances.json", other)
    source = str(tmp_path / "coco.zip")
    contents, photos = find_files("coco", source, "", (), ("people*.json",), None)
    assert list(contents.values()) == [people]
    with pytest.raises(DataError, match=r"people\.json unpacks from 67,108,865 to 67,108,865 byt"):
        photos.read("people.json")


def test_a_wrong_size_or_a_flipped_bit_is_damage(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": bytes(5000)})
    content = path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.zip: a cannot be read .*CRC.*damaged.*again"):
        Archive(path).read("a")
    with zipfile.ZipFile(path, "w") as file:  # stored: one flipped bit changes nothing else
        file.writestr("a", b"pixels pixels pixels")
    path.write_bytes(path.read_bytes().replace(b"pixels pixels", b"pixels pixelt"))
    with pytest.raises(DataError, match=r"a cannot be read .*CRC"):
        Archive(path).read("a")


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (b"\n<!DOCTYPE html><html>404</html>", "an HTML page, not a zip"),
        (b"\xef\xbb\xbf<HTML>login</HTML>", "an HTML page, not a zip"),
        (b'<?xml version="1.0"?><Error/>', "an XML or JSON text"),
        (b'{"message": "Not Found"}', "an XML or JSON text"),
        (b"\x1f\x8b\x08 and so on", "a gzip file, not a zip"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive, not a zip"),
        (bytes(257) + b"ustar" + bytes(300), "a tar archive, not a zip"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"", "an empty file"),
        (b"anything else", "not a zip"),
    ],
)
def test_other_formats_under_the_name_of_a_zip_are_named(tmp_path, content, description):
    path = tmp_path / "lsp_dataset.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"lsp_dataset.zip is .*{description}") as caught:
        Archive(path)
    assert "data.source=" in str(caught.value)
    assert "delete" not in str(caught.value), "it may be a file of the user's own"


def test_a_truncated_zip_is_named_and_a_complete_one_has_no_problem(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"a": os.urandom(5000)})
    assert zip_problem(path) is None
    path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(DataError, match=r"a truncated zip \(its end is missing after 2,500 bytes"):
        Archive(path)


def test_missing_things_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.zip: no such file or folder; type data.source="):
        Archive(tmp_path / "nowhere.zip")
    archive = Archive(write_folder(tmp_path / "a", FILES))
    with pytest.raises(DataError, match=r"images/im0003.jpg is missing; unpack or download"):
        archive.read("images/im0003.jpg")


def test_an_archive_that_vanishes_between_two_reads(tmp_path):
    folder = Archive(write_folder(tmp_path / "a", FILES))
    packed = pickle.loads(pickle.dumps(Archive(write_zip(tmp_path / "a.zip", FILES))))
    assert packed.read("joints.mat") == b"joints"
    packed = pickle.loads(pickle.dumps(packed))
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a.zip").unlink()
    with pytest.raises(DataError, match=r"a: joints.mat has vanished; put it back, .* continues a"):
        folder.read("joints.mat")
    with pytest.raises(DataError, match=r"a.zip has vanished; put it back, then"):
        packed.read("joints.mat")


# Python 3.12 warns of a fork beside OpenCV's and torch's threads; the child only reads and exits
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_processes_read_at_the_same_time(tmp_path):
    """With a shared file position, the two would get each other's bytes."""
    files = {f"{i}.bin": bytes([i]) * 50_000 for i in range(50)}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    archive = Archive(tmp_path / "a.zip")

    def all_right():
        return all(archive.read(n) == c for _ in range(4) for n, c in files.items())

    pid = os.fork()
    if pid == 0:
        os._exit(0 if all_right() else 1)
    here = all_right()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert here
