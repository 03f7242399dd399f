"""The loaders: order, splits and licences, missing or broken data, downloads."""

import errno
import hashlib
import shutil
import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from helpers import check_track as check
from helpers import noise, one_line

from sepkit import audio, datasets
from sepkit.errors import DatasetError, MissingPackageError, ParameterError
from sepkit.tracks import RATE, SOURCES

# The example.


def test_example_is_falcon_69_with_its_licence(falcon):
    check(falcon, n_samples=258048)
    assert falcon.mixture.shape == (258048, 2)
    assert falcon.name == "The Easton Ellises - Falcon 69"
    assert falcon.artist == "The Easton Ellises" and falcon.licence == "CC BY-NC-SA 3.0"


def test_example_has_four_sources_that_sound(falcon):
    stems = np.stack([stem.ravel() for stem in falcon.stems.values()])
    assert (np.sqrt(np.mean(stems**2, axis=1)) > 0.01).all()
    assert np.abs(np.corrcoef(stems) - np.eye(4)).max() < 0.5


def test_example_has_no_clicks_at_its_ends(falcon):
    for stem in falcon.stems.values():
        steps = np.abs(np.diff(stem, axis=0)).max(axis=1)
        edges = max(steps[:2048].max(), steps[-2048:].max())
        assert edges <= 1.2 * steps[2048:-2048].max()


def test_example_without_its_package_or_ffmpeg_says_what_to_install(monkeypatch, python):
    monkeypatch.setitem(sys.modules, "stempeg", None)
    with pytest.raises(MissingPackageError, match="pip install 'sepkit") as error:
        datasets.example()
    one_line(error, "stempeg")
    code = "import sepkit; sepkit.example()"
    run = python("-c", code, check=False, PATH="")
    assert run.stderr.splitlines()[-1].startswith("sepkit.errors.MissingPackageError: stempeg")
    assert "ffmpeg" in run.stderr.splitlines()[-1]


# Folders of stems.


def test_folder_lists_songs_by_name_and_takes_any_format(stems_folder, tmp_path, ffmpeg):
    stems_folder("songs/b", suffix=".flac", seed=1)
    stems_folder("songs/Artist - A", rate=48000, channels=1)
    place = stems_folder("songs/c", seed=2)
    ffmpeg("-i", place / "vocals.wav", "-c:a", "pcm_f32le", place / "vocals.mka")
    ffmpeg("-i", place / "bass.wav", place / "bass.flac")
    (place / "vocals.wav").unlink()
    (place / "bass.wav").unlink()
    (tmp_path / "songs" / ".hidden").mkdir()
    (tmp_path / "songs" / "notes.txt").write_text("not a song")
    songs = datasets.folder(tmp_path / "songs")
    assert [song.name for song in songs] == ["Artist - A", "b", "c"]
    assert [song.artist for song in songs] == ["Artist", "b", "c"]
    check(songs[0], n_samples=4000, rate=48000)
    check(songs[1], n_samples=4000)
    check(songs[2], n_samples=4000)
    assert [path.suffix for path in songs[2].files] == [".flac", ".wav", ".wav", ".mka"]
    for i, source in enumerate(SOURCES):
        np.testing.assert_array_equal(songs[0].stems[source], noise(4000, 1, seed=i))
        np.testing.assert_allclose(songs[2].stems[source], noise(4000, seed=20 + i), atol=2**-14)


def test_folder_takes_the_folder_of_one_song_even_beside_others(stems_folder, tmp_path):
    place = stems_folder("song")
    (place / "backup").mkdir()
    (song,) = datasets.folder(place)
    assert song.name == "song"
    check(song, n_samples=4000)


def test_folder_prefers_sound_to_other_files_of_the_same_name(stems_folder):
    place = stems_folder("song")
    for suffix in (".mid", ".als", ".zip"):
        (place / f"bass{suffix}").write_text("not a sound")
    (song,) = datasets.folder(place)
    assert song.files[0] == place / "bass.wav"


def test_the_current_folder_is_named_after_itself(stems_folder, monkeypatch):
    monkeypatch.chdir(stems_folder("My song"))
    assert [song.name for song in datasets.folder(".")] == ["My song"]


def test_folder_reads_no_stem_before_it_is_asked(stems_folder):
    place = stems_folder("song")
    (place / "vocals.wav").write_bytes(b"broken later")
    (song,) = datasets.folder(place)
    with pytest.raises(DatasetError) as error:
        _ = song.stems
    one_line(error, place / "vocals.wav")


def test_folder_names_the_stems_that_are_missing(stems_folder, tmp_path):
    place = stems_folder("songs/a")
    (place / "drums.wav").unlink()
    (place / "vocals.wav").unlink()
    with pytest.raises(DatasetError, match="no drums, vocals;") as error:
        datasets.folder(tmp_path / "songs")
    one_line(error, place)


LEFTOVERS = ("@eaDir", "#recycle", "__MACOSX", "System Volume Information", ".AppleDouble")


def test_what_a_network_drive_leaves_is_no_song(stems_folder, tmp_path):
    place = stems_folder("songs/a")
    for name in LEFTOVERS:
        (tmp_path / "songs" / name).mkdir()
    (place / "._bass.wav").write_bytes(b"a resource fork")
    (place / "@eaDir").mkdir()
    (song,) = datasets.folder(tmp_path / "songs")
    assert song.name == "a" and song.files[0] == place / "bass.wav"
    # Any other folder without stems is refused by its name.
    (tmp_path / "songs" / "b").mkdir()
    with pytest.raises(DatasetError, match="no bass, drums, other, vocals") as error:
        datasets.folder(tmp_path / "songs")
    one_line(error, tmp_path / "songs" / "b")


def test_folder_counts_the_songs_that_cannot_be_used(stems_folder, tmp_path):
    (stems_folder("songs/a") / "drums.wav").unlink()
    stems_folder("songs/b")
    (stems_folder("songs/c") / "vocals.wav").unlink()
    (stems_folder("songs/d") / "bass.wav").write_bytes(b"no sound")
    with pytest.raises(DatasetError, match="no drums") as error:
        datasets.folder(tmp_path / "songs")
    one_line(error, tmp_path / "songs" / "a", "one of 3 songs")


def test_a_folder_that_cannot_be_read_is_named(stems_folder, monkeypatch):
    place = stems_folder("songs/a")

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(place), "iterdir", refuse)
    with pytest.raises(DatasetError, match="Permission denied") as error:
        datasets.folder(place)
    one_line(error, place)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"n_samples": 4001}, "4001 samples"), ({"rate": 48000}, "48000 Hz"),
     ({"channels": 1}, "1 channels")],
)  # fmt: skip
def test_folder_refuses_stems_that_are_not_alike(stems_folder, tmp_path, change, says):
    place, other = stems_folder("songs/a"), stems_folder("other", **change)
    shutil.copy(other / "drums.wav", place / "drums.wav")
    (song,) = datasets.folder(tmp_path / "songs")
    with pytest.raises(DatasetError, match="make the stems alike") as error:
        _ = song.stems
    one_line(error, place / "drums.wav", place / "bass.wav", says)


def test_folder_that_is_empty_or_missing_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        with pytest.raises(DatasetError, match="a song needs|a folder for each song") as error:
            datasets.folder(tmp_path / name)
        one_line(error, tmp_path / name)


# DSD100 and MUSDB18, as folders.


@pytest.fixture
def dsd100_root(tmp_path, stems_folder):
    """DSD100's layout, made out of order, with two songs a split and names of its own."""
    root = tmp_path / "DSD100"
    for split, name, seed in (
        ("Test", "010 - Z - Late", 1),
        ("Test", "009 - Y - Early", 2),
        ("Dev", "100 - A - Last", 3),
        ("Dev", "052 - ANiMAL - Easy Tiger", 4),
    ):
        stems_folder(f"DSD100/Sources/{split}/{name}", seed=seed)
        mixture = root / "Mixtures" / split / name
        mixture.mkdir(parents=True)
        audio.write(mixture / "mixture.wav", noise(4000), RATE)
    return root


def test_dsd100_root_gives_songs_in_order_of_number_with_their_genre(dsd100_root):
    test, dev = datasets.dsd100("test", dsd100_root), datasets.dsd100("Dev", dsd100_root)
    assert [song.name for song in test] == ["Y - Early", "Z - Late"]
    assert [song.name for song in dev] == ["ANiMAL - Easy Tiger", "A - Last"]
    genres = {int(row["dsd100_id"] or 0): row["genre"] for row in datasets.musdb_table()}
    assert [song.genre for song in test] == [genres[9], genres[10]]
    assert [song.genre for song in dev] == [genres[52], genres[100]] and dev[0].genre == "Rap"
    assert dev[0].artist == "ANiMAL" and "academic" in dev[0].licence
    check(dev[0], n_samples=4000)
    np.testing.assert_array_equal(dev[0].stems["drums"], noise(4000, seed=41))


def test_leftovers_in_a_root_are_no_songs(dsd100_root, stems_folder, tmp_path):
    stems_folder("MUSDB18/test/C - Song")
    for name in LEFTOVERS:
        (dsd100_root / "Sources" / "Dev" / name).mkdir()
        (tmp_path / "MUSDB18" / "test" / name).mkdir()
    (tmp_path / "MUSDB18" / "test" / "._D - Song.stem.mp4").touch()
    assert [song.name for song in datasets.dsd100("dev", dsd100_root)] == [
        "ANiMAL - Easy Tiger",
        "A - Last",
    ]
    assert [song.name for song in datasets.musdb18("test", tmp_path / "MUSDB18")] == ["C - Song"]


def test_dsd100_root_without_songs_or_sources_is_named(tmp_path, dsd100_root):
    shutil.rmtree(dsd100_root / "Sources" / "Test")
    with pytest.raises(DatasetError, match="no such folder") as error:
        datasets.dsd100("test", dsd100_root)
    one_line(error, dsd100_root / "Sources" / "Test")
    (dsd100_root / "Sources" / "Test").mkdir()
    with pytest.raises(DatasetError, match="holds no songs") as error:
        datasets.dsd100("test", dsd100_root)
    one_line(error, dsd100_root)
    stem = dsd100_root / "Sources" / "Dev" / "100 - A - Last" / "other.wav"
    stem.unlink()
    with pytest.raises(DatasetError, match="no other;") as error:
        datasets.dsd100("dev", dsd100_root)
    one_line(error, stem.parent)


def test_musdb18_root_of_wav_files(tmp_path, stems_folder):
    pytest.importorskip("musdb")
    for i, name in enumerate(["train/B - Song", "train/ANiMAL - Rockshow", "train/A - Song",
                              "test/C - Song"]):  # fmt: skip
        place = stems_folder(f"MUSDB18/{name}", seed=i)
        audio.write(place / "mixture.wav", noise(4000), RATE)
    root = tmp_path / "MUSDB18"
    train = datasets.musdb18("train", root)
    assert [song.name for song in train] == ["A - Song", "B - Song"]
    check(train[0], n_samples=4000)
    np.testing.assert_array_equal(train[0].stems["vocals"], noise(4000, seed=23))
    # One of those that the package musdb sets aside for validation, and that the table knows.
    (validation,) = datasets.musdb18("validation", root)
    assert validation.name == "ANiMAL - Rockshow" and validation.genre == "Rap"
    assert [song.name for song in datasets.musdb18("test", root)] == ["C - Song"]
    (root / "test" / "C - Song" / "bass.wav").unlink()
    with pytest.raises(DatasetError, match="no bass;") as error:
        datasets.musdb18("test", root)
    one_line(error, root / "test" / "C - Song")


def test_musdb18_root_of_stem_files(tmp_path, falcon):
    pytest.importorskip("musdb")
    (tmp_path / "test").mkdir()
    shutil.copy(falcon.files[0], tmp_path / "test" / f"{falcon.name}.stem.mp4")
    (song,) = datasets.musdb18("test", tmp_path)
    check(song)
    assert song.name == falcon.name and song.sha256() == falcon.sha256()
    for source in SOURCES:
        np.testing.assert_array_equal(song.stems[source][4096:262144], falcon.stems[source])
    with pytest.raises(DatasetError, match="holds no songs") as error:
        datasets.musdb18("train", tmp_path)
    one_line(error, tmp_path)


def test_stem_files_hold_mixture_drums_bass_other_vocals(tmp_path, ffmpeg):
    pytest.importorskip("musdb")
    (tmp_path / "test").mkdir()
    tones = {"mixture": 300, "drums": 500, "bass": 800, "other": 1300, "vocals": 2100}
    inputs = [["-f", "lavfi", "-i", f"sine={hertz}:d=1:r={RATE}"] for hertz in tones.values()]
    maps = [["-map", str(i)] for i in range(5)]
    path = tmp_path / "test" / "A - B.stem.mp4"
    ffmpeg(*sum(inputs + maps, []), "-ac", 2, "-c:a", "aac", path)
    (song,) = datasets.musdb18("test", tmp_path)
    for source, stem in song.stems.items():
        middle = np.abs(np.fft.rfft(stem[10000 : 10000 + RATE // 2, 0]))
        assert 2 * np.argmax(middle) == tones[source]
    assert song.name == "A - B" and song.artist == "A"


def test_a_file_that_is_not_a_stem_file_is_named(tmp_path, falcon, ffmpeg):
    pytest.importorskip("musdb")
    (tmp_path / "test").mkdir()
    path = tmp_path / "test" / "A - B.stem.mp4"
    path.write_text("no film")
    (song,) = datasets.musdb18("test", tmp_path)
    with pytest.raises(DatasetError) as error:
        _ = song.stems
    one_line(error, path)
    ffmpeg("-i", falcon.files[0], "-map", "0:a:0", "-map", "0:a:1", "-t", "0.5", path)
    with pytest.raises(DatasetError, match="2 streams instead of five") as error:
        _ = song.stems
    one_line(error, path)


@pytest.mark.parametrize("split", ["dev", "valid", "", "Train"])
def test_unknown_splits_of_musdb18_are_refused(split):
    with pytest.raises(ParameterError, match="use train, validation or test") as error:
        datasets.musdb18(split)
    one_line(error, repr(split))


@pytest.mark.parametrize("split", ["valid", "", "all"])
def test_unknown_splits_of_dsd100_are_refused(split):
    with pytest.raises(ParameterError, match="use dev, test, train or validation") as error:
        datasets.dsd100(split)
    one_line(error, repr(split))


@pytest.mark.parametrize("split", ["test+others", "validation+others", "dev+", "dev+more"])
def test_other_songs_are_never_added_to_validation_or_test(split):
    with pytest.raises(ParameterError, match="use dev.others or train.others") as error:
        datasets.dsd100(split)
    one_line(error, split)


def test_every_fifth_song_of_dev_is_for_validation_and_the_others_for_training(monkeypatch):
    rows = sorted(datasets.musdb_table(), key=lambda row: int(row["dsd100_id"] or 0))
    monkeypatch.setattr(datasets, "_sample", lambda rows: [row["track"] for row in rows])
    dev = [row["track"] for row in rows if row["dsd100_split"] == "Dev"]
    number = {row["track"]: int(row["dsd100_id"]) for row in rows if row["dsd100_id"]}
    held_out = datasets.dsd100("validation")
    assert [number[name] for name in held_out] == list(range(55, 101, 5))
    assert datasets.dsd100("train") == [name for name in dev if name not in held_out]
    assert datasets.dsd100("dev") == dev
    others = [row["track"] for row in rows if not row["dsd100_id"]]
    assert len(others) == 44
    assert datasets.dsd100("dev+others") == dev + others
    assert datasets.dsd100("train+others") == datasets.dsd100("train") + others


def test_a_root_without_musdb18_is_named(tmp_path):
    pytest.importorskip("musdb")
    with pytest.raises(DatasetError, match="no folder train or test") as error:
        datasets.musdb18("test", tmp_path / "none")
    one_line(error, tmp_path / "none")


# The packaged table, and the sample.


def test_the_table_holds_dsd100_with_its_split():
    rows = datasets.musdb_table()
    assert len(rows) == 144 == len({row["track"] for row in rows})
    dsd100 = {int(row["dsd100_id"]): row["dsd100_split"] for row in rows if row["dsd100_id"]}
    assert dsd100 == {n: "Test" if n <= 50 else "Dev" for n in range(1, 101)}
    assert {row["source"] for row in rows if row["dsd100_id"]} == {"DSD100"}
    assert all(row["genre"] for row in rows if row["dsd100_id"])
    assert all(row["licence"] and len(row["sha256"]) == 64 for row in rows)
    assert {row["musdb_split"] for row in rows} == {"train", "validation", "test"}


def test_dsd100_sample_is_the_songs_of_the_table_in_order_of_number(sample):
    rows = {row["track"]: row for row in datasets.musdb_table()}
    for split, first in (("test", 1), ("dev", 51)):
        songs = datasets.dsd100(split)
        numbers = [int(rows[song.name]["dsd100_id"]) for song in songs]
        assert numbers == list(range(first, first + 50))
        assert all(song.genre == rows[song.name]["genre"] for song in songs)
        assert all("academic" in song.licence for song in songs)
        for song in songs[::20]:
            assert song.sha256() == rows[song.name]["sha256"]
    check(songs[0], n_samples=300032)


def test_dsd100_sample_with_a_song_missing_names_it(sample, tmp_path, monkeypatch):
    absent = datasets.dsd100("test")[7]
    for split in ("train", "test"):
        (tmp_path / "musdb18-7" / split).mkdir(parents=True)
        for path in (sample / split).glob("*.stem.mp4"):
            if path != absent.files[0]:
                (tmp_path / "musdb18-7" / split / path.name).symlink_to(path)
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="1 of 50 songs are missing") as error:
        datasets.dsd100("test")
    one_line(error, tmp_path / "musdb18-7", absent.name)


def test_a_sample_that_is_not_whole_is_no_smaller_data_set(tmp_path, monkeypatch):
    rows = [row["track"] for row in datasets.musdb_table() if row["musdb_split"] == "test"]
    place = tmp_path / "musdb18-7"
    for split in ("train", "test"):
        (place / split).mkdir(parents=True)
    for name in rows[:-2]:
        (place / "test" / f"{name}.stem.mp4").touch()
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="2 of 50 songs are missing") as error:
        datasets.musdb18("test")
    one_line(error, place, rows[-2])


def test_missing_other_songs_are_named(sample):
    rows = [row["track"] for row in datasets.musdb_table() if not row["dsd100_id"]]
    if any((sample / "train" / f"{name}.stem.mp4").exists() for name in rows):
        pytest.skip("the sample is whole")
    with pytest.raises(DatasetError, match="44 of 44 songs are missing") as error:
        datasets.dsd100("dev+others")
    one_line(error, sample, rows[0])


def test_musdb18_sample_keeps_its_splits_apart(sample):
    rows = {row["track"]: row["musdb_split"] for row in datasets.musdb_table()}
    seen = set()
    for split in ("train", "validation", "test"):
        names = [song.name for song in datasets.musdb18(split)]
        assert names == sorted(names) and {rows[name] for name in names} == {split}
        assert seen.isdisjoint(names)
        seen.update(names)
    assert len(seen) >= 100


# Fetching.


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("gone"), EOFError("cut")])
def test_without_network_the_sample_says_so_and_leaves_no_folder(tmp_path, monkeypatch, error):
    musdb = pytest.importorskip("musdb")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(musdb, "urlopen", fail)
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    for load in (datasets.musdb18, datasets.dsd100):
        # Twice: what the first try has left must not be taken for the data.
        with pytest.raises(DatasetError, match="cannot be fetched") as caught:
            load("test")
        one_line(caught, tmp_path / "musdb18-7", "SEPKIT_DATA", str(error.args[0]))
    assert list(tmp_path.iterdir()) == []


def sample_in(place):
    """Make the sample, as empty files."""
    for row in datasets.musdb_table():
        part = place / ("test" if row["musdb_split"] == "test" else "train")
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{row['track']}.stem.mp4").touch()


def test_the_sample_appears_when_all_of_it_is_there(tmp_path, monkeypatch):
    musdb = pytest.importorskip("musdb")
    place = tmp_path / "data" / "musdb18-7"
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path / "data"))

    def break_off(root, **_):
        (Path(root) / "train").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(musdb, "DB", break_off)
    with pytest.raises(KeyboardInterrupt):
        datasets.musdb18("test")
    assert list(tmp_path.iterdir()) == []

    def fetch(root, **_):
        assert not place.exists()
        sample_in(Path(root))

    monkeypatch.setattr(musdb, "DB", fetch)
    assert len(datasets.musdb18("test")) == 50
    assert list((tmp_path / "data").iterdir()) == [place]


def test_of_two_that_fetch_the_sample_the_later_takes_the_others(tmp_path, monkeypatch):
    musdb = pytest.importorskip("musdb")
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))

    def fetch(root, **_):
        sample_in(tmp_path / "musdb18-7")  # the other's, meanwhile
        sample_in(Path(root))

    monkeypatch.setattr(musdb, "DB", fetch)
    assert len(datasets.musdb18("test")) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["musdb18-7"]


def test_the_cache_is_sepkit_data_or_else_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    assert datasets.cache_folder() == tmp_path
    for value in ("", None):
        monkeypatch.setenv("SEPKIT_DATA", "") if value == "" else monkeypatch.delenv("SEPKIT_DATA")
        assert datasets.cache_folder().is_absolute() and datasets.cache_folder().name == "sepkit"


def test_sepkit_data_must_be_absolute(monkeypatch):
    monkeypatch.setenv("SEPKIT_DATA", "data")
    with pytest.raises(DatasetError, match="not an absolute path") as error:
        datasets.open_stems()
    one_line(error, "SEPKIT_DATA=data")


# Songs under free licences.


def manifest():
    return datasets.read_json(datasets.packaged("open_stems.json"))["songs"]


def named(title):
    (song,) = [song for song in datasets.open_stems() if song.name.endswith(f" - {title}")]
    return song


def test_open_stems_have_licence_link_credit_addresses_and_hashes():
    songs = manifest()
    assert len(songs) == 14 == len({song["title"] for song in songs})
    assert [song["license"] for song in songs] == ["CC0-1.0"] + 13 * ["CC-BY-NC-SA-4.0"]
    for song, track in zip(songs, datasets.open_stems(), strict=True):
        assert track.name == f"{song['artist']} - {song['title']}"
        assert track.licence == song["license"]
        assert track.licence_url == song["license_url"] != ""
        # The credit names the artist, the song and where it comes from.
        repository = song["source_repository"].removeprefix("github ")
        for part in (song["artist"], song["title"], f"github.com/{repository}"):
            assert part in track.credit
        assert len(song["commit"]) == 40 and int(song["commit"], 16)
        assert tuple(song["sources"]) == SOURCES
        paths = sum(song["sources"].values(), [])
        # A song's files lie in the cache by name, beside those of others of its commit.
        assert len({path.rpartition("/")[2] for path in paths}) == len(paths)
        assert {source for source in SOURCES if song["sources"][source]} == {*song["sha256"]}
        assert all(len(value) == 64 and int(value, 16) for value in song["sha256"].values())


def test_open_stems_state_a_gain_or_levels_and_each_files_pan():
    for song in manifest():
        assert ("gain" in song) != ("level_db" in song)
        assert song.get("level_db", song["sha256"]).keys() == song["sha256"].keys()
        for source, paths in song["sources"].items():
            pans = song.get("pans", {source: [0.0] * len(paths)})[source]
            assert len(pans) == len(paths) and all(abs(pan) <= 0.4 for pan in pans)
        raw = any("_RAW_" in path for path in sum(song["sources"].values(), []))
        assert raw == ("pans" in song) == ("levels and pans set by sepkit" in song["credit"])


@pytest.mark.parametrize("i", range(14))
def test_open_stems_at_hand_match_their_hashes_and_are_stems_of_equal_length(i):
    song, track = manifest()[i], datasets.open_stems()[i]
    if not track.files:
        pytest.skip(f"SEPKIT_DATA names no folder that holds {song['folder']}")
    check(track, n_samples=round(song["duration"] * RATE))
    assert track.mixture.shape[1] == 2 and 0.3 < np.abs(track.mixture).max() < 1.02
    for source, stem in track.stems.items():
        assert stem.any() == (source in song["sha256"])
        if source in song.get("level_db", ()):
            level = 10 * np.log10(np.mean(stem.astype(float) ** 2))
            assert level == pytest.approx(song["level_db"][source], abs=0.01)


@pytest.mark.parametrize("title", ["Punk", "80sRock", "Rock"])
def test_open_stems_fetched_sound_as_those_at_hand(title, tmp_path, monkeypatch):
    """Levels and pans of the manifest are those of the stems: raw tracks, and stems as mixed."""
    pooch = pytest.importorskip("pooch")
    here = named(title)
    if not here.files:
        pytest.skip("SEPKIT_DATA names no folder that holds more-stems")
    (song,) = [song for song in manifest() if song["title"] == title]
    upstream = {}
    for source, paths in song["sources"].items():
        stem = here.stems[source][:, :1] if "pans" in song else here.stems[source]
        for i, path in enumerate(paths):
            # Of raw tracks each has a level of its own, of a mix all have the same.
            level = 0.1 * len(source) if "pans" in song else 1 / len(paths)
            upstream[Path(path).name] = tmp_path / f"{source}{i}.wav"
            audio.write(upstream[Path(path).name], level * stem, RATE, bit_depth="32f")

    monkeypatch.setattr(pooch, "retrieve", lambda url, fname, **_: str(upstream[fname]))
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    fetched = named(title)
    assert fetched.files == ()
    for source, stem in here.stems.items():
        error = np.sum((fetched.stems[source] - stem) ** 2) / np.sum(stem**2)
        assert 10 * np.log10(error) < -20  # Vorbis blurs pans a little


def test_open_stems_of_other_content_are_refused(tmp_path, monkeypatch, stems_folder):
    place = stems_folder("open-stems/Software-Entwicklungskit - Potassium", suffix=".ogg")
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="not the file of the manifest") as error:
        _ = named("Potassium").stems
    one_line(error, place / "bass.ogg")


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Addresses that were fetched; each gives other noise, one sample longer than the last."""
    pooch = pytest.importorskip("pooch")
    addresses = []

    def retrieve(url, **options):
        addresses.append(url)
        n = len(addresses)
        path = tmp_path / f"{n}.wav"
        channels = 1 if "_RAW_" in url else 2
        audio.write(path, noise(1000 + n, channels, seed=n), RATE)
        return str(path)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    return addresses


def test_open_stems_are_mixed_from_the_files_that_the_manifest_names(fetched):
    song = named("Potassium")
    assert fetched == [] and song.files == ()
    check(song, n_samples=1000 + 19)
    assert len(fetched) == 19 and all("%20" in url or " " not in url for url in fetched)
    assert all("6a6fbe3a634871fba7efe298dee048f394aa0f18" in url for url in fetched)
    # Two files make the bass, at the manifest's gain; the shorter one ends in silence.
    wanted = audio.fix_length(noise(1001, seed=1), 1019) + audio.fix_length(
        noise(1002, seed=2), 1019
    )
    np.testing.assert_allclose(song.stems["bass"], 0.781906 * wanted, atol=1e-6)


def test_a_source_that_an_open_song_lacks_is_silence(fetched):
    song = named("Zeppelin")
    check(song, n_samples=1000 + 4)
    assert len(fetched) == 4 and not song.stems["vocals"].any()
    assert all(song.stems[source].any() for source in ("bass", "drums", "other"))


def test_raw_tracks_sound_at_equal_power_in_their_places_at_the_manifests_level(fetched):
    (song,) = [song for song in manifest() if song["title"] == "SpeedMetal"]
    stems = named("SpeedMetal").stems
    for source, level in song["level_db"].items():
        power = np.mean(stems[source].astype(float) ** 2)
        assert 10 * np.log10(power) == pytest.approx(level, abs=1e-3)
    assert song["pans"]["other"] == [-0.4, 0.4]
    parts = [audio.fix_length(noise(1000 + n, 1, seed=n), 1004)[:, 0] for n in (3, 4)]
    left, right = (part / np.sqrt(np.mean(part**2)) for part in parts)
    wanted = np.stack(
        [np.sqrt(1.4) * left + np.sqrt(0.6) * right, np.sqrt(0.6) * left + np.sqrt(1.4) * right], 1
    )
    cosine = np.sum(wanted * stems["other"]) / np.sqrt(
        np.sum(wanted**2) * np.sum(stems["other"] ** 2)
    )
    assert cosine == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(stems["bass"][:, 0], stems["bass"][:, 1])


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """The artists' files, downloaded before, with their hashes in the manifest; no network."""
    pooch = pytest.importorskip("pooch")
    song = manifest()[0]
    place = tmp_path / "open-stems-upstream" / song["commit"]
    place.mkdir(parents=True)
    song["upstream_sha256"] = {}
    for path in sum(song["sources"].values(), []):
        file = place / path.rpartition("/")[2]
        audio.write(file.with_suffix(".wav"), noise(1000), RATE)
        file.with_suffix(".wav").rename(file)
        song["upstream_sha256"][path] = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(datasets, "read_json", lambda _: {"songs": [song]})
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch.downloaders.HTTPDownloader, "__call__", fail)
    return place


def test_open_stems_downloaded_before_need_no_network_if_their_hashes_match(upstream):
    (song,) = datasets.open_stems()
    check(song, n_samples=1000)


def test_an_upstream_file_of_another_hash_is_not_used(upstream, monkeypatch):
    import pooch

    place = upstream
    first = place / "4.Potassium_Stem_PAD + BASS_mobile.m4a"
    audio.write(place / "other.wav", noise(1000, seed=1), RATE)
    (place / "other.wav").rename(first)
    (song,) = datasets.open_stems()
    with pytest.raises(DatasetError, match="cannot be fetched") as error:
        _ = song.stems
    one_line(error, first.name)

    def download(_, url, file, *__, **___):
        with open(file, "wb") as stream:
            stream.write(b"changed upstream")

    monkeypatch.setattr(pooch.downloaders.HTTPDownloader, "__call__", download)
    with pytest.raises(DatasetError, match="not the file of the manifest") as error:
        _ = song.stems
    one_line(error, first.name, "SEPKIT_DATA")


def test_open_stems_without_network_name_what_is_missing(tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch")

    def fail(*_, **__):
        raise ConnectionError("long story\nof several lines")

    monkeypatch.setattr(pooch, "retrieve", fail)
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path))
    songs = datasets.open_stems()
    assert len(songs) == 14
    for song, entry in zip(songs, manifest(), strict=True):
        assert song.files == ()
        with pytest.raises(DatasetError, match="cannot be fetched") as error:
            _ = song.stems
        first = entry["sources"]["bass"][0]
        one_line(error, first, "ConnectionError", "go online", "SEPKIT_DATA", entry["folder"])
