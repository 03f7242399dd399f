"""Files written completely or not at all, folders made for them, and files that are packaged."""

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
