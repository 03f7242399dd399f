"""Files written completely or not at all, folders made for them, and files that are packaged."""

import errno
import tempfile

import numpy as np
import pytest
from helpers import one_line

from sepkit import files
from sepkit.errors import SepkitError


def test_an_error_while_writing_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.atomic_write(path) as beside:
        beside.write_text("half")
        assert path.read_text() == "old"
        1 / 0  # noqa: B018
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_finished_file_replaces_the_old_one_and_leaves_no_other(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with files.atomic_write(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_json_is_read_back_equal_with_every_letter(tmp_path):
    value = {"name": "ANiMAL – Café", "scores": [1.5, None, True]}
    files.write_json(value, tmp_path / "a.json")
    assert files.read_json(tmp_path / "a.json") == value
    assert "Café" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_without_a_number_for_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json({"score": np.nan}, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


def test_json_in_a_missing_folder_raises_one_line(tmp_path):
    with pytest.raises(SepkitError, match="No such file") as error:
        files.write_json(1, tmp_path / "none" / "a.json")
    one_line(error, tmp_path / "none" / "a.json")


def test_folders_stay_after_success_and_only_new_ones_go_after_an_error(tmp_path):
    old, new = tmp_path / "old", tmp_path / "old" / "new" / "newer"
    old.mkdir()
    with pytest.raises(ZeroDivisionError), files.make_folders([old, new]):
        assert new.is_dir()
        1 / 0  # noqa: B018
    assert list(tmp_path.rglob("*")) == [old]
    with files.make_folders([new]):
        pass
    assert new.is_dir()


def test_a_folder_that_cannot_be_made_raises_one_line_and_leaves_nothing(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(SepkitError, match="cannot be written to") as error,
        files.make_folders([tmp_path / "new", tmp_path / "file" / "a"]),
    ):
        pass
    one_line(error, tmp_path / "file" / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_error_inside_is_not_blamed_on_the_folders(tmp_path):
    with (
        pytest.raises(FileNotFoundError, match="elsewhere"),
        files.make_folders([tmp_path / "new"]),
    ):
        (tmp_path / "elsewhere" / "a").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named_with_reason_and_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path, reason in (
        (tmp_path / "none" / "a", "No such file or directory"),
        (tmp_path / "file" / "a", "Not a directory"),
        (tmp_path / "folder", "Is a directory"),
    ):
        with pytest.raises(SepkitError) as error:
            files.check_writable(path, "give another")
        assert str(error.value) == f"{path}: cannot be written to ({reason}); give another"

    class Full:
        """A file on a full disk: it can be made, but holds nothing."""

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, content):
            raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(SepkitError, match="No space left on device"):
        files.check_writable(tmp_path / "a")


def test_trying_a_place_leaves_it_as_it_was(tmp_path):
    (tmp_path / "old").write_text("old")
    files.check_writable(tmp_path / "old")
    files.check_writable(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_json_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SepkitError, match="not JSON" if content else "No such file") as error:
        files.read_json(path)
    one_line(error, path)


@pytest.mark.parametrize(
    "name",
    [
        "@eaDir", "#recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN", "$Recycle.Bin",
        "System Volume Information", "lost+found", ".AppleDouble", ".DS_Store", "._bass.wav",
    ],
)  # fmt: skip
def test_what_a_system_or_a_drive_leaves_is_a_leftover(tmp_path, name):
    assert files.is_leftover(name) and files.is_leftover(tmp_path / name)


@pytest.mark.parametrize("name", ["#1 Crush", "@home", "recycle", "a.b", "bass.wav"])
def test_songs_of_odd_names_are_no_leftovers(tmp_path, name):
    assert not files.is_leftover(name)
    assert not files.is_leftover(tmp_path / "@eaDir" / name)


@pytest.mark.parametrize(
    "name",
    [
        "weights",
        "book/results",
        "benchmarks/results.json",
        "tracks.csv",
        "band.toml",
        "open_stems.json",
        "published.json",
    ],
)
def test_all_that_travels_with_the_library_is_found(name):
    assert files.packaged(name).exists()


def test_a_wheels_own_copy_takes_precedence_over_a_checkouts(tmp_path, monkeypatch):
    package = tmp_path / "sepkit"
    monkeypatch.setattr(files, "__file__", str(package / "files.py"))
    (tmp_path / "weights").mkdir()
    assert files.packaged("weights") == tmp_path / "weights"
    (package / "data" / "weights").mkdir(parents=True)
    assert files.packaged("weights") == package / "data" / "weights"


def test_parts_that_a_killed_process_left_are_removed_and_nothing_else(tmp_path):
    kept = [".state.h5.part", "state.h5", ".other.1.part", "x.state.h5.1.part", ".state.h5.1.party"]
    for name in [*kept, ".state.h5.123.part", ".state.h5.9.part"]:
        (tmp_path / name).touch()
    files.remove_parts(tmp_path / "state.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
