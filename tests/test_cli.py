"""The command line end to end: files in, files out, one line when something is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from helpers import noise

import sepkit
from sepkit import audio, cli, files, weights
from sepkit.cli import stems
from sepkit.engine import compiler, native
from sepkit.errors import DatasetError
from sepkit.io import decoding
from sepkit.study import commands, evaluation, experiments, results
from sepkit.study.experiments import Experiment
from sepkit.tracks import SOURCES

RATE = 44100
STEMS = [f"{source}.wav" for source in SOURCES]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; give its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return start


@pytest.fixture
def python_bytes(tmp_path):
    """Run Python on this library with bytes as its input and output."""

    def start(*arguments, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True,
            **options,
        )  # fmt: skip

    return start


@pytest.fixture
def song(tmp_path):
    """A short song of noise."""
    path = tmp_path / "song.wav"
    audio.write(path, noise(6000), RATE)
    return path


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def stems_of(folder, stems=STEMS):
    return {name.partition(".")[0]: audio.read(folder / name) for name in stems}


def assert_stems_of(folder, song, rate, stems=STEMS):
    """Check that a folder holds these stems of a song and nothing else."""
    assert names(folder) == sorted(stems)
    found = stems_of(folder, stems)
    assert {found_rate for _, found_rate in found.values()} == {rate}
    assert {stem.shape for stem, _ in found.values()} == {song.shape}
    total = sum(stem for stem, _ in found.values())
    assert np.abs(total - song).max() <= 1e-4 * np.abs(song).max()


# separate


def test_separate_writes_four_stems_that_sum_to_falcon_69(run, falcon, tmp_path):
    audio.write(tmp_path / "falcon.wav", falcon.mixture, falcon.rate)
    code, out, err = run("separate", "falcon.wav", "--output", "stems")
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"stems/{name}" for name in STEMS]
    assert_stems_of(tmp_path / "stems", falcon.mixture, RATE)
    # As the library does it, and no two alike.
    stems = stems_of(tmp_path / "stems")
    wanted = sepkit.separate(falcon.mixture, RATE)
    for source in SOURCES:
        np.testing.assert_allclose(stems[source][0], wanted[source], atol=1e-6)
    alike = np.corrcoef(np.stack([stem.ravel() for stem, _ in stems.values()]))
    assert alike[np.triu_indices(4, 1)].max() < 0.99


@pytest.mark.parametrize(
    ("name", "rate", "channels", "seconds"),
    [("song.mp3", 48000, 2, 2), ("song.wav", 22050, 1, 2), ("song.wav", 44100, 2, 0.1),
     ("song.flac", 96000, 1, 0.1), ("song.ogg", 8000, 2, 0.1), ("song.wav", 44100, 3, 0.1)],
)  # fmt: skip
def test_separate_keeps_length_rate_and_channels(
    run, falcon, tmp_path, name, rate, channels, seconds
):
    mixture = audio.resample(falcon.excerpt(1, 1 + seconds).mixture, RATE, rate)
    audio.write(tmp_path / name, np.tile(mixture, 2)[:, :channels], rate)
    song, _ = audio.read(tmp_path / name)
    assert run("separate", name, "--hop", 25, "--output", "stems")[0] == 0
    assert_stems_of(tmp_path / "stems", song, rate)


def test_separate_reads_m4a(run, tmp_path, song, ffmpeg):
    ffmpeg("-i", song, tmp_path / "song.m4a")
    assert run("separate", "song.m4a", "--output", "stems")[0] == 0
    assert_stems_of(tmp_path / "stems", audio.read(tmp_path / "song.m4a")[0], RATE)


def test_separate_never_replaces_stems_unless_told_to(run, tmp_path, song):
    assert run("separate", song)[0] == 0
    audio.write(song, noise(5000, seed=1), RATE)
    assert_refused(run("separate", song), "separated/bass.wav", "--overwrite")
    assert_stems_of(tmp_path / "separated", noise(6000), RATE)
    assert run("separate", song, "--overwrite")[0] == 0
    assert_stems_of(tmp_path / "separated", noise(5000, seed=1), RATE)


@pytest.mark.parametrize("stem", SOURCES)
def test_two_stems_are_one_and_the_rest(run, tmp_path, song, stem):
    assert run("separate", song, "--two-stems", stem, "-o", "two")[0] == 0
    assert run("separate", song, "-o", "four")[0] == 0
    two = [f"{stem}.wav", f"no_{stem}.wav"]
    assert_stems_of(tmp_path / "two", noise(6000), RATE, two)
    alone, _ = audio.read(tmp_path / "two" / f"{stem}.wav")
    np.testing.assert_array_equal(alone, audio.read(tmp_path / "four" / f"{stem}.wav")[0])


@pytest.mark.parametrize("ext", ["flac", "ogg", "mp3"])
def test_other_formats_are_written_on_request(run, tmp_path, falcon, ext):
    mixture = falcon.excerpt(1, 2).mixture
    audio.write(tmp_path / "song.wav", mixture, RATE)
    code, out, _ = run("separate", "song.wav", "--ext", ext, "-o", "stems")
    stems = [f"{source}.{ext}" for source in SOURCES]
    assert code == 0 and out.splitlines() == [f"stems/{name}" for name in stems]
    assert names(tmp_path / "stems") == stems
    total = sum(stem for stem, _ in stems_of(tmp_path / "stems", stems).values())
    assert total.shape == mixture.shape
    assert np.corrcoef(total.ravel(), mixture.ravel())[0, 1] > 0.99


def test_clip_modes_keep_rescale_or_cut_what_is_beyond_full_scale(run, tmp_path):
    loud = 20 * noise(6000)
    audio.write(tmp_path / "loud.wav", loud, RATE)
    stems = {}
    for mode in ("none", "rescale", "clip"):
        assert run("separate", "loud.wav", "--clip-mode", mode, "-o", mode)[0] == 0
        stems[mode] = {name: stem for name, (stem, _) in stems_of(tmp_path / mode).items()}
    assert run("separate", "loud.wav", "-o", "default")[0] == 0
    assert_stems_of(tmp_path / "default", loud, RATE)
    peak = max(np.abs(stem).max() for stem in stems["none"].values())
    assert peak > 1
    for source in SOURCES:
        kept = stems["none"][source]
        np.testing.assert_allclose(stems["rescale"][source], kept / peak, atol=1e-6)
        np.testing.assert_allclose(stems["clip"][source], np.clip(kept, -1, 1), atol=1e-6)


def test_listening_formats_rescale_by_default(run, tmp_path):
    audio.write(tmp_path / "loud.wav", 20 * noise(6000), RATE)
    assert run("separate", "loud.wav", "-o", "wav")[0] == 0
    assert run("separate", "loud.wav", "--ext", "flac", "-o", "flac")[0] == 0
    kept = {name: stem for name, (stem, _) in stems_of(tmp_path / "wav").items()}
    peak = max(np.abs(stem).max() for stem in kept.values())
    for source in SOURCES:
        back, _ = audio.read(tmp_path / "flac" / f"{source}.flac")
        np.testing.assert_allclose(back, kept[source] / peak, atol=2**-14)


def test_several_songs_go_into_a_folder_each(run, tmp_path, song):
    audio.write(tmp_path / "other song.flac", noise(3000, 1), 22050)
    code, out, err = run("separate", song, "other song.flac", "-o", "new/stems")
    assert (code, err) == (0, "") and len(out.splitlines()) == 8
    assert_stems_of(tmp_path / "new/stems/song", noise(6000), RATE)
    kept, _ = audio.read(tmp_path / "other song.flac")
    assert_stems_of(tmp_path / "new/stems/other song", kept, 22050)


def test_filename_names_what_is_written(run, tmp_path, song):
    pattern = "{stem}/of {track}.{ext}"
    assert run("separate", song, "--filename", pattern, "--ext", "flac", "-o", ".")[0] == 0
    for source in SOURCES:
        assert names(tmp_path / source) == ["of song.flac"]


def test_a_model_may_be_a_weight_file(run, tmp_path, song, untrained):
    weights.save(untrained, tmp_path / "mine.weights.h5")
    assert run("separate", song, "--model", "mine.weights.h5", "--hop", 7, "-o", "stems")[0] == 0
    wanted = sepkit.separate(noise(6000), RATE, model=untrained, hop=7)
    for source, (stem, _) in stems_of(tmp_path / "stems").items():
        np.testing.assert_allclose(stem, wanted[source], atol=1e-6)


def test_the_compiled_engine_writes_the_stems_of_numpy(run, tmp_path, song):
    for engine in ("numpy", "compiled"):
        assert run("separate", song, "--engine", engine, "-o", engine)[0] == 0
    compiled = stems_of(tmp_path / "compiled")
    for source, (stem, _) in stems_of(tmp_path / "numpy").items():
        np.testing.assert_allclose(compiled[source][0], stem, atol=1e-6 * np.abs(noise(6000)).max())


def test_an_engine_without_its_compiler_is_refused(run, tmp_path, song, monkeypatch):
    monkeypatch.setitem(sys.modules, "ziglang", None)
    monkeypatch.setattr(compiler, "SOURCE", tmp_path / "engine.c")
    (tmp_path / "engine.c").touch()
    native.load.cache_clear()
    assert_refused(
        run("separate", song, "--engine", "compiled", "-o", "stems"), "ziglang", "sepkit[engine]"
    )
    assert not (tmp_path / "stems").exists()


def test_progress_goes_to_the_terminal_by_standard_error(run, song, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, out, err = run("separate", song, "-o", "stems")
    assert code == 0 and "song.wav: 100%" in err and "of 0 s" in err
    assert out.splitlines() == [f"stems/{name}" for name in STEMS]


def test_an_interruption_gives_130_and_leaves_nothing(run, tmp_path, song, monkeypatch):
    def interrupt(*_, **__):
        yield np.zeros((4, 10, 2), np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(stems, "separate_stream", interrupt)
    assert run("separate", song, "-o", "new/stems") == (130, "", "sepkit: interrupted\n")
    assert names(tmp_path) == ["song.wav"]


def test_a_batch_goes_on_past_bad_songs_and_names_them(run, tmp_path, song):
    holds_nan = tmp_path / "nan.wav"
    audio.write(holds_nan, np.full((6000, 2), np.nan, np.float32), RATE)
    text(tmp_path / "text.wav")
    audio.write(tmp_path / "last.wav", noise(3000, 1), RATE)
    code, out, err = run("separate", "none.wav", holds_nan, song, "text.wav", "last.wav", "-o", "s")
    assert code == 1 and len(out.splitlines()) == 8
    *each, total = err.splitlines()
    assert total == "sepkit: 3 of 5 songs failed"
    # What shows on opening comes first.
    for line, name in zip(each, ["none.wav", "text.wav", "nan.wav"], strict=True):
        assert line.startswith("sepkit: ") and name in line
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["last", "song"]
    assert_stems_of(tmp_path / "s" / "song", noise(6000), RATE)


def test_a_second_run_makes_only_what_is_missing(run, tmp_path, song):
    audio.write(tmp_path / "other.wav", noise(3000, 1), RATE)
    assert run("separate", song, "other.wav", "-o", "s")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "s").rglob("*.wav")}
    (tmp_path / "s" / "song" / "drums.wav").unlink()
    for source in SOURCES:
        (tmp_path / "s" / "other" / f"{source}.wav").unlink()
    audio.write(tmp_path / "third.wav", noise(2000, 1), RATE)
    third = run("separate", song, "other.wav", "third.wav", "-o", "s")
    assert third[0] == 0 and third[2] == ""
    after = {path: path.stat().st_mtime_ns for path in before}
    same = {path for path in before if before[path] == after[path]}
    assert {path.name for path in same} == {"bass.wav", "other.wav", "vocals.wav"}
    assert_stems_of(tmp_path / "s" / "song", noise(6000), RATE)
    fourth = run("separate", song, "other.wav", "third.wav", "-o", "s")
    assert fourth[:2] == (0, "") and fourth[2].startswith("sepkit: 3 of 3 songs had their stems")
    assert {path: path.stat().st_mtime_ns for path in before} == after


def test_a_missing_stem_has_the_gain_of_those_that_are_there(run, tmp_path):
    audio.write(tmp_path / "loud.wav", 20 * noise(6000), RATE)
    audio.write(tmp_path / "other.wav", noise(100), RATE)
    for name in ("whole", "again"):
        assert run("separate", "loud.wav", "other.wav", "--ext", "flac", "-o", name)[0] == 0
    loudest = max(STEMS, key=lambda stem: np.abs(audio.read(
        tmp_path / "whole/loud" / stem.replace("wav", "flac"))[0]).max())  # fmt: skip
    for stem in STEMS:
        path = tmp_path / "again/loud" / stem.replace("wav", "flac")
        if stem != loudest:
            path.unlink()
    assert run("separate", "loud.wav", "other.wav", "--ext", "flac", "-o", "again")[0] == 0
    for stem in STEMS:
        name = f"loud/{stem.replace('wav', 'flac')}"
        np.testing.assert_array_equal(audio.read(tmp_path / "whole" / name)[0],
                                      audio.read(tmp_path / "again" / name)[0])  # fmt: skip


def test_a_folder_is_searched_below_but_not_among_stems(run, tmp_path, song):
    (tmp_path / "music" / "album").mkdir(parents=True)
    song.rename(tmp_path / "music" / "album" / "one.wav")
    audio.write(tmp_path / "music" / "two.flac", noise(3000), RATE)
    for leftover in ("._two.flac", "@eaDir/x.wav", "__MACOSX/y.mp3", ".hidden/z.wav"):
        path = tmp_path / "music" / leftover
        path.parent.mkdir(exist_ok=True)
        path.write_text("no sound")
    (tmp_path / "music" / "cover.jpg").write_text("no sound")
    for _ in range(2):
        assert run("separate", "music", "-o", "music/stems", "--hop", 25)[0] == 0
        assert sorted(path.name for path in (tmp_path / "music" / "stems").iterdir()) == [
            "album", "two"]  # fmt: skip
        assert_stems_of(tmp_path / "music" / "stems" / "album" / "one", noise(6000), RATE)
    (tmp_path / "empty").mkdir()
    assert_refused(run("separate", "empty"), "empty", "no sound files")


def test_a_folder_that_is_the_output_too_is_refused(run, tmp_path, song):
    assert_refused(run("separate", tmp_path, "-o", tmp_path), "among the songs", "--output")
    assert names(tmp_path) == ["song.wav"]


def test_a_folder_behind_a_link_is_searched_once(run, tmp_path, song):
    (tmp_path / "music").mkdir()
    (tmp_path / "elsewhere").mkdir()
    song.rename(tmp_path / "elsewhere" / "one.wav")
    (tmp_path / "music" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "ring").symlink_to(tmp_path / "music")
    code, out, _ = run("separate", "music", "-o", "s", "--hop", 25)
    assert code == 0 and len(out.splitlines()) == 4
    assert_stems_of(tmp_path / "s" / "link" / "one", noise(6000), RATE)


def test_a_name_that_is_too_long_costs_only_itself(run, tmp_path, song):
    code, out, err = run("separate", "x" * 300 + ".wav", song, "-o", "s")
    assert code == 1 and len(out.splitlines()) == 4 and "name too long" in err


def test_a_list_may_be_utf_16(run, tmp_path, song):
    (tmp_path / "all.txt").write_text("song.wav\n", encoding="utf-16")
    assert run("separate", "all.txt", "-o", "s")[0] == 0
    assert names(tmp_path / "s")[0] == "song"


def test_json_has_an_object_for_every_song(run, tmp_path, song):
    code, out, _ = run("separate", "none.wav", "--json")
    assert code == 2 and "no such file" in json.loads(out)["error"]
    for kept in (False, True):
        audio.write(tmp_path / "other.wav", noise(100), RATE)
        code, out, _ = run("separate", song, "other.wav", "-o", "s", "--json")
        objects = [json.loads(line) for line in out.splitlines()]
        assert [Path(made["song"]).name for made in objects] == ["song.wav", "other.wav"]
        assert [made.get("kept", False) for made in objects] == [kept, kept]
        assert all(list(made["stems"]) == list(SOURCES) for made in objects)


@pytest.mark.parametrize(("ext", "rate"), [("ogg", 352800), ("stem.mp4", 37800), ("mp3", 37800)])
def test_a_rate_that_the_format_does_not_have_is_refused(run, tmp_path, ffmpeg, ext, rate):
    audio.write(tmp_path / "high.wav", noise(1000), rate)
    assert_refused(run("separate", "high.wav", "--ext", ext, "-o", "s"), f"{rate} Hz")


def test_the_film_of_a_video_is_no_cover(run, tmp_path, ffmpeg, song):
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-i", song, "-metadata", "title=A Title",
           tmp_path / "video.mp4")  # fmt: skip
    for ext in ("mp3", "flac"):
        assert run("separate", "video.mp4", "--ext", ext, "-o", ext, "--stems", "bass")[0] == 0
        assert decoding.AudioFile(tmp_path / ext / f"bass.{ext}").n_channels == 2


def test_chapters_of_the_whole_song_are_not_those_of_its_stems(run, tmp_path, ffmpeg, song):
    (tmp_path / "chapters").write_text(
        ";FFMETADATA1\ntitle=A Title\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=60000\n"
    )
    ffmpeg("-i", song, "-i", tmp_path / "chapters", "-map_metadata", 1, tmp_path / "book.m4a")
    for ext, made in (("mp3", "bass.mp3"), ("stem.mp4", "book.stem.mp4")):
        options = ["--duration", "0.1", "--ext", ext, "-o", "s"]
        assert run("separate", "book.m4a", *options)[0] == 0
        found = subprocess.run(
            ["ffprobe", "-v", "error", "-show_chapters", "-show_entries", "format_tags=title",
             "-of", "csv", tmp_path / "s" / made],
            capture_output=True, text=True, check=True)  # fmt: skip
        assert "chapter" not in found.stdout and "A Title" in found.stdout


def test_a_closed_standard_stream_is_told_before_the_work(run, song, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", None)
    assert_refused(run("separate", "-"), "standard input is closed")
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["separate", str(song), "--stems", "bass", "-o", "-"]) == 2
    assert "standard output is closed" in capsys.readouterr().err


def test_a_list_names_songs_beside_it(run, tmp_path, song):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "all.m3u").write_text(f"#EXTM3U\n../song.wav\n\n{song}.none\n")
    code, out, err = run("separate", "lists/all.m3u", "-o", "s")
    assert code == 1 and len(out.splitlines()) == 4 and "song.wav.none: no such file" in err
    assert_stems_of(tmp_path / "s" / "song", noise(6000), RATE)


def test_stems_of_songs_with_one_name_have_places_by_folder_and_file(run, tmp_path):
    for name in ("a/01.wav", "b/01.wav", "b/01.flac"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        audio.write(tmp_path / name, noise(1000, 1), RATE)
    inputs = ["a/01.wav", "b/01.wav", "b/01.flac"]
    result = run("separate", *inputs)
    assert_refused(result, "separated/01/bass.wav", "a/01.wav and b/01.wav")
    (pattern,) = re.findall(r'--filename, such as "(.+)"', result[2])
    assert run("separate", *inputs, "--filename", pattern)[0] == 0
    assert len(names(tmp_path / "separated")) == 2 + 3 + 12


@pytest.mark.parametrize("stems", ["drums", "vocals,bass"])
def test_only_the_stems_asked_for_are_written(run, tmp_path, song, stems):
    assert run("separate", song, "--stems", stems, "-o", "some")[0] == 0
    wanted = sepkit.separate(noise(6000), RATE)
    assert names(tmp_path / "some") == sorted(f"{stem}.wav" for stem in stems.split(","))
    for stem in stems.split(","):
        found, _ = audio.read(tmp_path / "some" / f"{stem}.wav")
        np.testing.assert_allclose(found, wanted[stem], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "part"),
    [(["--start", "0.05"], slice(2205, None)), (["--duration", "0.05"], slice(0, 2205)),
     (["--start", "0.05", "--duration", "0.01"], slice(2205, 2646)),
     (["--duration", "100"], slice(None))],
)  # fmt: skip
def test_a_part_of_the_song_is_separated_as_if_it_were_the_song(run, tmp_path, song, options, part):
    assert run("separate", song, *options, "-o", "part")[0] == 0
    assert_stems_of(tmp_path / "part", noise(6000)[part], RATE)


def test_what_is_there_of_a_broken_song_is_separated_as_its_refusal_says(run, tmp_path):
    path = tmp_path / "song.wav"
    audio.write(path, noise(6000), RATE)
    path.write_bytes(path.read_bytes()[:30000])
    code, _, err = run("separate", "song.wav", "-o", "s")
    assert code == 2
    (remedy,) = re.findall(r"--duration [\d.]+", err)
    assert run("separate", "song.wav", "-o", "s", *remedy.split())[0] == 0
    kept, _ = audio.read(tmp_path / "s" / "bass.wav")
    assert 3000 < len(kept) < 3750


@pytest.mark.parametrize(
    ("ext", "depth", "subtype"),
    [("wav", None, "FLOAT"), ("wav", "32f", "FLOAT"), ("wav", "24", "PCM_24"),
     ("wav", "16", "PCM_16"), ("flac", "16", "PCM_16"), ("flac", "24", "PCM_24")],
)  # fmt: skip
def test_bit_depth_is_that_asked_for(run, tmp_path, song, ext, depth, subtype):
    options = ["--ext", ext] + (["--bit-depth", depth] if depth else [])
    assert run("separate", song, *options, "-o", "s")[0] == 0
    found = {soundfile.info(path).subtype for path in (tmp_path / "s").iterdir()}
    assert found == {subtype}
    stems = [f"{source}.{ext}" for source in SOURCES]
    total = sum(stem for stem, _ in stems_of(tmp_path / "s", stems).values())
    np.testing.assert_allclose(total, noise(6000), atol=5 * 2**-16)


@pytest.mark.parametrize(
    ("name", "options", "subtype"),
    [("a.flac", {}, "PCM_16"), ("a.flac", {"bit_depth": "24"}, "PCM_24"),
     ("a.wav", {"bit_depth": "16"}, "PCM_16"), ("a.wav", {}, "PCM_24"), ("a.mp3", {}, "PCM_16")],
)  # fmt: skip
def test_flac_has_the_bits_of_the_song(run, tmp_path, name, options, subtype):
    audio.write(tmp_path / name, noise(6000), RATE, **options)
    assert run("separate", name, "--ext", "flac", "-o", "s")[0] == 0
    assert {soundfile.info(path).subtype for path in (tmp_path / "s").iterdir()} == {subtype}


def test_bitrate_is_that_asked_for(run, tmp_path, falcon):
    audio.write(tmp_path / "song.wav", falcon.excerpt(1, 3).mixture, RATE)
    sizes = {}
    for bitrate in (64, 320):
        options = ["--ext", "mp3", "--bitrate", bitrate, "--stems", "other", "-o", str(bitrate)]
        assert run("separate", "song.wav", *options)[0] == 0
        sizes[bitrate] = (tmp_path / str(bitrate) / "other.mp3").stat().st_size
        assert sizes[bitrate] == pytest.approx(2 * bitrate * 1000 / 8, rel=0.1)


def test_json_tells_a_script_what_was_made_and_what_was_not(run, tmp_path, song):
    text(tmp_path / "bad.wav")
    code, out, _ = run("separate", "bad.wav", song, "-o", "s", "--json")
    bad, good = map(json.loads, out.splitlines())
    assert code == 1 and bad["song"] == "bad.wav" and "not audio" in bad["error"]
    assert good["song"] == str(song) and good["rate"] == RATE and good["channels"] == 2
    assert good["stems"] == {source: f"s/song/{source}.wav" for source in SOURCES}
    assert all((tmp_path / path).is_file() for path in good["stems"].values())
    code, out, _ = run("models", "--json")
    models = {model["name"]: model for model in map(json.loads, out.splitlines())}
    assert code == 0 and list(models) == sepkit.list_models()
    assert models["experiment1"]["parameters"] == 489_142
    assert models["experiment1"]["bytes"] == weights.find_weights("experiment1").stat().st_size


def test_tags_and_cover_are_kept(run, tmp_path, ffmpeg, falcon):
    audio.write(tmp_path / "a.wav", falcon.excerpt(1, 2).mixture, RATE)
    ffmpeg("-f", "lavfi", "-i", "color=red:s=16x16", "-frames:v", 1, tmp_path / "cover.png")
    ffmpeg("-i", tmp_path / "a.wav", "-i", tmp_path / "cover.png", "-map", "0", "-map", "1",
           "-c:v", "copy", "-disposition:v", "attached_pic", "-metadata", "title=A Title",
           "-metadata", "artist=Sömeone", tmp_path / "song.mp3")  # fmt: skip
    for ext, has_cover in (("flac", True), ("mp3", True), ("wav", False), ("ogg", False)):
        assert run("separate", "song.mp3", "--ext", ext, "-o", f"plain-{ext}")[0] == 0
        for source in SOURCES:
            path = tmp_path / f"plain-{ext}" / f"{source}.{ext}"
            found = subprocess.run(
                ["ffprobe", "-v", "error", "-show_entries",
                 "stream=codec_type:stream_tags:format_tags", "-of", "json", path],
                capture_output=True, check=True)  # fmt: skip
            shown = found.stdout.decode()
            assert "A Title" in shown and "Sömeone" in shown
            assert ('"video"' in shown) == has_cover
            # The sound itself is as long as the song, which mp3 decodes to.
            assert len(audio.read(path)[0]) == len(audio.read(tmp_path / "song.mp3")[0])
        assert len(names(tmp_path / f"plain-{ext}")) == 4


def test_a_stem_file_is_read_as_musdb_reads_its_songs(run, tmp_path, falcon):
    stempeg = pytest.importorskip("stempeg")
    song = falcon.excerpt(1, 4)
    audio.write(tmp_path / "song.wav", 3 * song.mixture, RATE)
    assert run("separate", "song.wav", "--ext", "stem.mp4", "-o", "s")[:2] == (
        0, "s/song.stem.mp4\n")  # fmt: skip
    assert names(tmp_path / "s") == ["song.stem.mp4"]
    streams, rate = stempeg.read_stems(str(tmp_path / "s" / "song.stem.mp4"))
    assert rate == RATE and len(streams) == 5
    wanted = sepkit.separate(3 * song.mixture, RATE)
    mixture, *stems = (stream[: len(song.mixture)] for stream in streams)
    for stem, source in zip(stems, ("drums", "bass", "other", "vocals"), strict=True):
        assert np.corrcoef(stem.ravel(), wanted[source].ravel())[0, 1] > 0.95
    # AAC changes the waveform: the sum holds to its noise.
    assert np.std(mixture - sum(stems)) < 0.1 * np.std(mixture)
    # And such a file is a song again: its mixture is separated.
    assert run("separate", "s/song.stem.mp4", "-o", "again", "--stems", "bass")[0] == 0
    again, _ = audio.read(tmp_path / "again" / "bass.wav")
    assert len(again) == len(streams[0])


def test_standard_input_and_output_hold_a_song_and_a_stem(tmp_path, song, python_bytes):
    made = python_bytes("-m", "sepkit", "separate", "-", "-o", "-", "--stems", "drums",
                        input=song.read_bytes())  # fmt: skip
    assert (made.returncode, made.stderr) == (0, b"")
    (tmp_path / "drums.wav").write_bytes(made.stdout)
    found, _ = audio.read(tmp_path / "drums.wav")
    np.testing.assert_allclose(found, sepkit.separate(noise(6000), RATE)["drums"], atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_work_and_leaves_nothing(tmp_path, number):
    audio.write(tmp_path / "song.wav", noise(600 * RATE, 1), RATE)
    process = subprocess.Popen(
        [sys.executable, "-m", "sepkit", "separate", "song.wav", "-o", "new/stems"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
        # What runs in a shell's background is started deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )  # fmt: skip
    while not list(tmp_path.glob("new/stems/.sepkit-*/*part")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    said = process.communicate()[1].decode()
    assert process.returncode == 128 + number and len(said.splitlines()) == 1
    assert names(tmp_path) == ["song.wav"]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_may_be_any_bytes(run, tmp_path, song):
    # Latin-1, from an old disk, where names are UTF-8.
    name = os.fsdecode(b"caf\xe9.wav")
    song.rename(tmp_path / name)
    code, out, err = run("separate", name, "--filename", "{track}-{stem}.{ext}", "-o", "s")
    assert (code, err) == (0, "") and len(out.splitlines()) == 4
    assert sorted(os.listdir(os.fsencode(tmp_path / "s")))[0] == b"caf\xe9-bass.wav"


def test_errors_of_the_operating_system_are_one_line(run, tmp_path):
    assert_refused(run("separate", "x" * 300 + ".wav"), "xxx.wav", "name too long")
    (tmp_path / "ring").symlink_to("ring")
    assert_refused(run("separate", "ring"), "ring", "symbolic links")
    assert names(tmp_path) == ["ring"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_that_nobody_reads_never_stops_the_work(tmp_path, stream):
    for name in ("a", "b", "c"):
        audio.write(tmp_path / f"{name}.wav", noise(1000, 1), RATE)
    text(tmp_path / "bad.wav")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sepkit", "separate", "bad.wav", "a.wav", "b.wav", "c.wav"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, **{stream: write}, check=False,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 1
    assert sorted(path.name for path in (tmp_path / "separated").iterdir()) == ["a", "b", "c"]


def test_output_may_have_another_encoding_or_be_missing(run, tmp_path, song, monkeypatch, python):
    song.rename(tmp_path / "söng 日本.wav")
    made = python("-m", "sepkit", "separate", tmp_path / "söng 日本.wav", "--filename",
                  "{track}-{stem}.{ext}", PYTHONIOENCODING="ascii:strict")  # fmt: skip
    assert "s\\xf6ng" in made.stdout
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["separate", str(tmp_path / "söng 日本.wav"), "-o", str(tmp_path / "s")]) == 0
    assert cli.main(["separate", str(tmp_path / "none.wav")]) == 2
    assert len(names(tmp_path / "s")) == 4


def test_separate_imports_nothing_heavy(python, song):
    code = (
        "import sys; from sepkit.cli import main;"
        "code = main(['separate', sys.argv[1]]);"
        "print(code, *{name.partition('.')[0] for name in sys.modules})"
    )
    *_, line = python("-c", code, song).stdout.splitlines()
    code, *loaded = line.split()
    assert code == "0" and "sepkit" in loaded
    assert {"tensorflow", "keras", "librosa", "numba", "matplotlib", "museval"}.isdisjoint(loaded)


# Bad input: two, one line, nothing left.


def assert_refused(result, *needed):
    code, out, err = result
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("sepkit: ")
    for word in needed:
        assert str(word) in err


def text(path):
    path.write_text("words, no sound\n" * 100)


def zero_samples(path):
    audio.write(path, noise(0), RATE)


def nan_at_the_end(path):
    sound = noise(decoding.BLOCK + 100, 1)
    sound[-1] = np.nan
    audio.write(path, sound, RATE)


def broken_off(path):
    audio.write(path, noise(decoding.BLOCK + 100000, 1), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [("a.wav", text, "not audio"), ("a.txt", text, "not audio"),
     ("a.mp3", lambda path: path.touch(), "empty"), ("a.wav", zero_samples, "no samples"),
     ("a.wav", nan_at_the_end, "NaN"), ("a.flac", broken_off, "breaks off"),
     ("a.wav", broken_off, "--duration"),
     ("a.wav", lambda path: None, "no such file"),
     ("a.wav", lambda path: path.mkdir(), "no sound files")],
)  # fmt: skip
def test_separate_refuses_what_is_no_song(run, tmp_path, name, make, reason, ffmpeg):
    make(tmp_path / name)
    before = names(tmp_path)
    assert_refused(run("separate", name, "-o", "new/stems"), name, reason)
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (["--model", "experiment9"], ["experiment9", "use one of"]),
        (["--model", "none.h5"], ["none.h5", "no such weight file"]),
        (["--model", "song.wav.h5"], ["song.wav.h5", "not an HDF5"]),
        (["--two-stems", "piano"], ["--two-stems piano", "use one of bass"]),
        (["--ext", "aac"], ["--ext", "aac", "flac", "sepkit separate --help"]),
        (["--ext", "flac", "--clip-mode", "none"], [".flac", "rescale"]),
        (["--clip-mode", "limit"], ["--clip-mode", "limit", "rescale"]),
        (["--clip-mode", "none", "--bit-depth", "16"], ["16-bit .wav", "rescale"]),
        (["--bit-depth", "8"], ["--bit-depth", "8"]),
        (["--bit-depth", "32f", "--ext", "flac"], ["32f", "16, 24"]),
        (["--bit-depth", "16", "--ext", "mp3"], ["16", "leave it out"]),
        (["--bitrate", "128"], ["128", "mp3"]),
        (["--bitrate", "321", "--ext", "mp3"], ["321", "40 to 320"]),
        (["--stems", "piano"], ["--stems piano", "use one of bass"]),
        (["--stems", "bass", "--two-stems", "bass"], ["--stems", "--two-stems"]),
        (["--stems", "bass", "--ext", "stem.mp4"], ["stem.mp4", "--stems"]),
        (["--start", "-1"], ["-1", "0 or more"]),
        (["--start", "9"], ["song.wav", "start earlier"]),
        (["--start", "1e305"], ["1e+305", "0 or more"]),
        (["--stems", ""], ["--stems", "use one of bass"]),
        (["--ext", "stem.mp4", "--bitrate", "0"], ["--bitrate 0", "16 to 512"]),
        (["--filename", "{stem}/../x.wav"], ["x.wav", "several stems"]),
        (["--duration", "0"], ["0.0 s", "above 0"]),
        (["--duration", "nan"], ["nan", "above 0"]),
        (["--output", "-"], ["-o -", "--stems vocals"]),
        (["song.wav", "--output", "-", "--stems", "bass"], ["-o -", "one song"]),
        (["--output", "-", "--stems", "bass", "--json"], ["-o -", "--json"]),
        (["--hop", "0"], ["--hop", "0", "25"]),
        (["--hop", "26"], ["--hop", "26", "25"]),
        (["--engine", "jax"], ["--engine", "numpy", "compiled"]),
        (["--hop", "fast"], ["--hop", "fast", "sepkit separate --help"]),
        (["--shifts", "2"], ["--shifts", "--help"]),
        (["--output"], ["--output", "sepkit separate --help"]),
        (["--filename", "{song}.wav"], ["--filename", "{track}"]),
        (["--filename", "{stem.wav"], ["--filename", "{track}"]),
        (["--filename", "{stem.x}.wav"], ["--filename", "{track}"]),
        (["--filename", "{stem[x]}.wav"], ["--filename", "{track}"]),
        (["--filename", "{stem}"], ["--filename", ".{ext}"]),
        (["--filename", "{stem}.mp3"], ["--filename", ".{ext}"]),
        (["--filename", "all.wav"], ["all.wav", "several stems", "{track}/{stem}.{ext}"]),
        (["--output", "song.wav"], ["song.wav", "choose another folder"]),
        (["--output", "song.wav/below"], ["song.wav/below", "choose another folder"]),
        (["--filename", "song{stem:.0}.wav", "--two-stems", "bass"], ["several stems"]),
        (["--filename", "{stem}/x.wav", "--output", "song.wav"], ["choose another folder"]),
    ],
)
def test_separate_refuses_options_by_name_and_leaves_nothing(run, tmp_path, song, options, needed):
    (tmp_path / "song.wav.h5").write_text("no weights")
    before = names(tmp_path)
    assert_refused(run("separate", song, *options), *needed)
    assert names(tmp_path) == before


def test_separate_never_writes_over_a_song_or_a_folder(run, tmp_path):
    audio.write(tmp_path / "bass.wav", noise(1000), RATE)
    assert_refused(run("separate", "bass.wav", "-o", "."), "bass.wav", "the song itself")
    np.testing.assert_array_equal(audio.read(tmp_path / "bass.wav")[0], noise(1000))
    (tmp_path / "stems" / "vocals.wav").mkdir(parents=True)
    assert_refused(run("separate", "bass.wav", "-o", "stems"), "stems/vocals.wav", "a folder")
    assert names(tmp_path / "stems") == ["vocals.wav"]


def test_separate_refuses_songs_whose_stems_would_have_one_name(run, tmp_path, song):
    (tmp_path / "other").mkdir()
    audio.write(tmp_path / "other" / "song.flac", noise(1000), RATE)
    before = names(tmp_path)
    result = run("separate", song, "other/song.flac")
    assert_refused(result, "separated/song/bass.wav", "--filename")
    assert names(tmp_path) == before


def test_a_song_that_is_named_twice_is_separated_once(run, tmp_path, song):
    code, out, err = run("separate", song, "song.wav", tmp_path, "-o", "stems")
    assert (code, err) == (0, "") and len(out.splitlines()) == 4
    assert_stems_of(tmp_path / "stems" / "song", noise(6000), RATE)


def test_separate_refuses_a_format_that_cannot_hold_the_song(run, tmp_path):
    audio.write(tmp_path / "high.wav", noise(1000), 96000)
    result = run("separate", "high.wav", "--ext", "mp3", "-o", "new")
    assert_refused(result, "new/bass.mp3", "96000 Hz", "another format")
    assert names(tmp_path) == ["high.wav"]


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [([], ["COMMAND", "sepkit --help"]), (["split"], ["split", "separate", "sepkit --help"]),
     (["separate"], ["SONG", "sepkit separate --help"]), (["--loud"], ["sepkit --help"]),
     (["train"], ["--experiment", "sepkit train --help"])],
)  # fmt: skip
def test_a_command_that_is_none_is_refused(run, arguments, needed):
    assert_refused(run(*arguments), *needed)


# evaluate


def test_evaluate_prints_a_table_and_writes_json(run, falcon, tmp_path):
    options = ["--dataset", "example", "--model", "experiment1", "--jobs", 1]
    code, out, _ = run("evaluate", *options)
    assert code == 0
    assert names(tmp_path) == ["scores-experiment1-example.json"]
    written = json.loads((tmp_path / "scores-experiment1-example.json").read_text())
    assert written["model"] == "experiment1" and written["dataset"] == "example"
    assert list(written["scores"]) == ["report", "song"]
    for mode, scores in written["scores"].items():
        assert scores["mode"] == mode and scores["sources"] == list(SOURCES)
        (song,) = scores["songs"]
        assert song["name"] == falcon.name
        for measure in ("report", "bsseval"):
            for metric in ("SDR", "SIR", "SAR"):
                mean = scores[measure]["mean"][metric]
                assert len(mean) == 4 and all(-30 < value < 30 for value in mean)
                assert mean == song[measure][0][metric]
                # The table shows what the file holds.
                row = rf"^{metric} +" + r" +".join(f"{value:.2f} ± +0.00" for value in mean) + "$"
                assert re.search(row, out, flags=re.MULTILINE), row
    assert [line.split() for line in out.splitlines()].count(list(SOURCES)) == 4
    # Fading every segment's edges costs artifacts.
    sar = {mode: written["scores"][mode]["report"]["mean"]["SAR"] for mode in ("report", "song")}
    assert all(a < b for a, b in zip(sar["report"], sar["song"], strict=True))


def test_evaluate_takes_a_folder_of_stems(run, tmp_path, stems_folder):
    stems_folder("songs/b", n_samples=50000)
    stems_folder("songs/a", n_samples=50000, seed=1)
    code, out, _ = run(
        "evaluate", "--dataset", "songs", "--mode", "song", "--hop", 25, "-j", 1, "-o", "s.json"
    )
    assert code == 0 and "songs, 2 songs, whole song, hop 25" in out
    written = json.loads((tmp_path / "s.json").read_text())
    assert list(written["scores"]) == ["song"]
    assert [song["name"] for song in written["scores"]["song"]["songs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (["--dataset", "dsd1000"], ["dsd1000", "example"]),
        (["--dataset", "song.wav"], ["song.wav", "unknown"]),
        (["--dataset", "empty"], ["empty", "bass, drums, other, vocals"]),
        (["--dataset", "songs"], ["songs/a", "no vocals"]),
        (["--dataset", "dsd100", "--split", "all"], ["'all'", "dev, test, train"]),
        (["--dataset", "dsd100", "--root", "empty"], ["empty", "Sources"]),
        (["--dataset", "musdb18", "--root", "empty"], ["empty", "train or test"]),
        (["--model", "experiment9"], ["experiment9", "use one of"]),
        (["--mode", "fast"], ["--mode", "fast", "sepkit evaluate --help"]),
        (["--hop", "26"], ["--hop", "26"]),
        (["--jobs", "0"], ["--jobs 0", "or -1"]),
        (["--output", "none/s.json"], ["none/s.json", "--output"]),
        (["--output", "song.wav/s.json"], ["song.wav/s.json", "--output"]),
        (["--output", "empty"], ["empty", "--output"]),
        (["--card", "none.json"], ["none.json", "no such card"]),
    ],
)
def test_evaluate_refuses_options_by_name(
    run, tmp_path, song, falcon, stems_folder, options, needed
):
    (tmp_path / "empty").mkdir()
    (stems_folder("songs/a") / "vocals.wav").unlink()
    before = names(tmp_path)
    assert_refused(run("evaluate", *options), *needed)
    assert names(tmp_path) == before


def test_evaluate_without_network_says_what_is_missing(run, tmp_path, monkeypatch):
    musdb = pytest.importorskip("musdb")

    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(musdb, "urlopen", fail)
    monkeypatch.setenv("SEPKIT_DATA", str(tmp_path / "data"))
    code, _, err = run("evaluate", "--dataset", "dsd100")
    assert code == 2 and len(err.splitlines()) == 1
    assert "musdb18-7" in err and "no route to host" in err and "SEPKIT_DATA" in err


@pytest.mark.parametrize(
    ("change", "says"),
    [({"n_samples": 50001}, "50001 samples"), ({"rate": 48000}, "48000 Hz")],
)
def test_evaluate_names_the_stem_that_differs(run, tmp_path, stems_folder, change, says):
    place = stems_folder("songs/a", n_samples=50000)
    other = stems_folder("other", **{"n_samples": 50000, **change})
    (other / "drums.wav").rename(place / "drums.wav")
    before = names(tmp_path)
    code, out, err = run("evaluate", "--dataset", "songs", "--mode", "song", "-j", 1)
    *_, line = err.splitlines()
    assert code == 2 and out == "" and "Traceback" not in err
    assert line.startswith("sepkit: ") and says in line and "songs/a/drums.wav" in line
    assert names(tmp_path) == before


def test_evaluate_names_bad_songs_before_it_scores_the_good_ones(
    run, tmp_path, stems_folder, monkeypatch
):
    def score(*_, **__):
        raise AssertionError("a song is scored before the others are looked at")

    monkeypatch.setattr(evaluation, "score_each", score)
    stems_folder("songs/a", n_samples=50000)
    for name, suffix, change in (
        ("b", "wav", {"n_samples": 50001}), ("c", "flac", {"n_samples": 50001}),
        ("d", "ogg", {"rate": 48000}), ("e", "ogg", {"channels": 1}),
    ):  # fmt: skip
        options = {"n_samples": 50000, "suffix": f".{suffix}"}
        place = stems_folder(f"songs/{name}", **options)
        other = stems_folder(f"other/{name}", **{**options, **change})
        (other / f"drums.{suffix}").rename(place / f"drums.{suffix}")
    (stems_folder("songs/f") / "vocals.wav").write_bytes(b"no sound")
    before = names(tmp_path)
    result = run("evaluate", "--dataset", "songs")
    assert_refused(result, "songs/b/drums.wav", "50001 samples", "one of 5 songs")
    assert_refused(run("train", "--experiment", "experiment1", "--dataset", "songs"), "songs/b")
    assert names(tmp_path) == before


def test_stems_are_compared_by_what_their_headers_tell(run, stems_folder, ffmpeg, monkeypatch):
    """Lengths of compressed stems, and of a flac written to a pipe, are not known beforehand."""
    monkeypatch.setattr(evaluation, "score_each", lambda *_, **__: iter([DatasetError("reached")]))
    place = stems_folder("songs/a", n_samples=50000)
    ffmpeg("-i", place / "bass.wav", place / "bass.mp3")
    with open(place / "drums.flac", "wb") as file:
        command = ["ffmpeg", "-v", "error", "-i", place / "drums.wav", "-f", "flac", "-"]
        subprocess.run(command, stdout=file, check=True)
    for name in ("bass", "drums"):
        (place / f"{name}.wav").unlink()
    assert_refused(run("evaluate", "--dataset", "songs", "--mode", "song"), "reached")


def test_a_song_that_fails_while_scoring_costs_no_other_its_scores(run, tmp_path, stems_folder):
    for i, name in enumerate("abc"):
        stems_folder(f"songs/{name}", n_samples=50000, suffix=".flac", seed=i)
    path = tmp_path / "songs/b/drums.flac"
    path.write_bytes(path.read_bytes()[:50000])
    (tmp_path / "card.json").write_text('{"scores": {}}')
    code, out, err = run(
        "evaluate", "--dataset", "songs", "--hop", 25, "-j", 1, "-o", "s.json", "--card",
        "card.json",
    )  # fmt: skip
    lines = [line for line in err.splitlines() if line.startswith("sepkit: ")]
    assert code == 1 and "Traceback" not in err
    # In the report's mode all are too short; in the other one is broken.
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == [
        "a", "songs/b/drums.flac", "c", "card.json",
    ]  # fmt: skip
    assert "songs, 2 of 3 songs, whole song" in out and "segments" not in out
    written = json.loads((tmp_path / "s.json").read_text())
    assert written["n_songs"] == 3 and len(written["errors"]) == 3
    assert [song["name"] for song in written["scores"]["song"]["songs"]] == ["a", "c"]
    # A card holds the scores of all songs or none.
    assert (tmp_path / "card.json").read_text() == '{"scores": {}}'


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_what_stops_evaluate_costs_no_scores(
    run, tmp_path, stems_folder, monkeypatch, stop, earlier
):
    for i, name in enumerate("ab"):
        stems_folder(f"songs/{name}", n_samples=50000, seed=i)
    if earlier:
        (tmp_path / "s.json").write_text("earlier")
    score = evaluation.score_song

    def score_first(track, *arguments, **options):
        if track.name == "b":
            raise stop
        return score(track, *arguments, **options)

    monkeypatch.setattr(evaluation, "score_song", score_first)
    command = ["evaluate", "--dataset", "songs", "--mode", "song", "-j", 1, "-o", "s.json"]
    if stop is KeyboardInterrupt:
        code, _, err = run(*command)
        assert code == 130 and "holds the songs scored so far" in err
    else:
        with pytest.raises(stop):
            run(*command)
    # An earlier result stays until there is a whole one.
    written = json.loads((tmp_path / ("s.partial.json" if earlier else "s.json")).read_text())
    assert [song["name"] for song in written["scores"]["song"]["songs"]] == ["a"]
    assert written["n_songs"] == 2
    assert not earlier or (tmp_path / "s.json").read_text() == "earlier"
    monkeypatch.setattr(evaluation, "score_song", score)
    assert run(*command)[0] == 0
    written = json.loads((tmp_path / "s.json").read_text())
    assert [song["name"] for song in written["scores"]["song"]["songs"]] == ["a", "b"]
    assert not (tmp_path / "s.partial.json").exists()


def test_evaluate_of_broken_songs_alone_is_refused_and_leaves_nothing(run, tmp_path, stems_folder):
    for name in "ab":
        path = stems_folder(f"songs/{name}", n_samples=50000, suffix=".flac") / "bass.flac"
        path.write_bytes(path.read_bytes()[:50000])
    before = names(tmp_path)
    code, out, err = run("evaluate", "--dataset", "songs", "-j", 1)
    *_, line = err.splitlines()
    assert code == 2 and out == "" and names(tmp_path) == before
    assert line.startswith("sepkit: songs/a/bass.flac") and line.endswith("(one of 2 errors)")


def test_evaluate_refuses_a_file_that_is_no_card_before_it_scores(run, tmp_path, stems_folder):
    stems_folder("songs/a", n_samples=50000)
    (tmp_path / "card.json").write_text("{}")
    command = ["evaluate", "--dataset", "songs", "--card", "card.json"]
    assert_refused(run(*command), "card.json", "not a card")


# train


def test_train_writes_weights_and_card_that_the_other_commands_take(
    run, tmp_path, stems_folder, song, monkeypatch
):
    pytest.importorskip("tensorflow")
    tiny = Experiment("tiny", "Two songs.", block_size=2, epochs=1, repetitions=1, batch_size=4)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"tiny": tiny})
    for i, name in enumerate("ab"):
        stems_folder(f"songs/{name}", n_samples=50000, seed=i)
    code, out, err = run("train", "--experiment", "tiny", "--dataset", "songs", "-o", "new/made")
    assert (code, out) == (0, "new/made/tiny.weights.h5\n"), err
    assert names(tmp_path / "new/made") == ["tiny.json", "tiny.weights.h5"]
    card = json.loads((tmp_path / "new/made/tiny.json").read_text())
    assert card["experiment"]["epochs"] == 1 and card["steps"] == 14 // 4
    assert [song["name"] for song in card["data"]["songs"]] == ["a", "b"]
    assert all(len(song["sha256"]) == 64 for song in card["data"]["songs"])

    file = "new/made/tiny.weights.h5"
    trained, first = weights.load(tmp_path / file), weights.initialize(seed=0)
    assert any(np.abs(trained[name] - first[name]).max() > 0 for name in first)
    assert run("separate", song, "-n", file, "-o", "stems")[0] == 0
    assert_stems_of(tmp_path / "stems", noise(6000), RATE)
    options = ["--dataset", "songs", "--mode", "song", "-j", 1, "--card", "new/made/tiny.json"]
    assert run("evaluate", "-n", file, *options)[0] == 0
    card = json.loads((tmp_path / "new/made/tiny.json").read_text())
    assert [song["name"] for song in card["scores"]["song"]["songs"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "needed"),
    [
        (["--experiment", "experiment9", "--dataset", "songs"], ["experiment9", "experiment1"]),
        (["--experiment", "experiment1", "--dataset", "none"], ["none", "unknown"]),
        (["--experiment", "experiment1", "--dataset", "songs"], ["songs/a", "no drums"]),
        (["--experiment", "experiment1", "--dataset", "musdb18"], ["'dev'", "train"]),
        (["--experiment", "experiment1", "--seed", "x"], ["--seed", "x"]),
        (["--experiment", "experiment3", "--epochs", "0"], ["0 epochs"]),
    ],
)
def test_train_refuses_options_by_name_and_leaves_nothing(
    run, tmp_path, stems_folder, options, needed
):
    (stems_folder("songs/a") / "drums.wav").unlink()
    before = names(tmp_path)
    assert_refused(run("train", *options, "-o", "new/made"), *needed)
    assert names(tmp_path) == before


def test_train_takes_another_number_of_epochs(run, monkeypatch):
    trained = []
    monkeypatch.setattr(commands, "load_tracks", lambda *_, **__: [])
    monkeypatch.setattr(experiments, "train", lambda chosen, *_, **__: trained.append(chosen))
    for name in ("experiment1", "experiment3"):
        assert run("train", "--experiment", name, "--epochs", 2)[0] == 0
        assert run("train", "--experiment", name)[0] == 0
    first, whole_first, third, whole_third = trained
    assert (first.epochs, third.remix.epochs) == (2, 2)
    assert [whole_first, whole_third] == [
        experiments.EXPERIMENTS["experiment1"],
        experiments.EXPERIMENTS["experiment3"],
    ]
    assert replace(first, epochs=whole_first.epochs) == whole_first
    assert replace(third, remix=whole_third.remix) == whole_third


def test_train_into_a_file_and_on_broken_songs_leaves_nothing(run, tmp_path, stems_folder, song):
    pytest.importorskip("tensorflow")
    place = stems_folder("songs/a", n_samples=50000)
    before = names(tmp_path)
    options = ["--experiment", "experiment1", "--dataset", "songs"]
    assert_refused(run("train", *options, "-o", song), song, "choose another folder")
    audio.write(place / "drums.wav", noise(50001), RATE)
    code, out, err = run("train", *options, "-o", "new/made")
    assert code == 2 and out == ""
    assert "songs/a/drums.wav" in err.splitlines()[-1] and "50001" in err.splitlines()[-1]
    assert names(tmp_path) == before


def test_train_names_the_place_that_cannot_be_written_and_leaves_nothing(
    run, tmp_path, stems_folder, monkeypatch
):
    pytest.importorskip("tensorflow")
    stems_folder("songs/a", n_samples=50000)
    before = names(tmp_path)
    command = ["train", "--experiment", "experiment1", "--dataset", "songs", "-o", "new"]
    assert_refused(run(*command, "--checkpoint", "none/state.h5"), "sepkit: none/state.h5: ")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    assert_refused(run(*command), f"sepkit: {tmp_path / 'none'}: ", "set TMPDIR")
    assert names(tmp_path) == before


# ablate


def test_ablate_prints_the_table_of_the_folder_that_is_named(run, tmp_path):
    pytest.importorskip("tabulate")
    (tmp_path / "again").mkdir()
    assert_refused(run("ablate", "--table", "-o", "again"), "again", "holds no results")
    files.write_json(results.read_results()["adam", 0], tmp_path / "again" / "adam-0.json")
    code, out, err = run("ablate", "--table", "--output", "again")
    assert (code, err) == (0, "")
    rows = [line.split("|") for line in out.splitlines() if line.startswith("| ")]
    arms = [row[2].strip() for row in rows]
    assert arms == ["arm", "adam"] * 2  # in both modes, with the base that comes along
    assert "| baseline |" in re.sub(" +", " ", out)
    code, out, _ = run("ablate", "--table")
    assert code == 0 and out.count("\n") > 80


def test_ablate_keeps_results_and_says_how_to_compare_them(run, tmp_path):
    (tmp_path / "adam-0.json").write_text("kept")
    code, out, _ = run("ablate", "adam", "-o", ".")
    assert code == 0 and out.splitlines() == [
        "adam-0.json",
        "to compare: sepkit ablate --table --output .",
    ]
    assert (tmp_path / "adam-0.json").read_text() == "kept"


def test_evaluate_takes_the_measures_asked_for(run, falcon, tmp_path):
    pytest.importorskip("museval")
    options = ["--mode", "song", "--hop", 25, "-j", 1, "-o", "s.json"]
    code, out, _ = run("evaluate", "--measure", "museval", "--measure", "bsseval", *options)
    assert code == 0 and "by museval" in out
    (song,) = json.loads((tmp_path / "s.json").read_text())["scores"]["song"]["songs"]
    assert song.keys() == {"name", "museval", "bsseval"}
    for metric, values in song["museval"][0].items():
        np.testing.assert_allclose(song["bsseval"][0][metric], values, atol=2e-4)
    assert_refused(run("evaluate", "--measure", "ears"), "--measure", "ears", "bsseval")


# models, help, and the program itself


def test_models_lists_what_separate_takes(run):
    code, out, err = run("models")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    for name in sepkit.list_models():
        card = weights.read_card(name)
        (line,) = [line for line in lines if line.startswith(f"{name}: ")]
        assert card["experiment"]["description"] in line and card["weights_licence"] in line
        assert f"{card['parameters']:,} parameters" in line and " MB" in line
    assert "experiment1" in sepkit.list_models()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ([], ["separate", "train", "evaluate", "models", "--version"]),
        (["separate"], ["SONG", "-o", "--output", "-n", "--model", "--two-stems", "--ext",
                        "--clip-mode", "--filename", "--hop", "--overwrite", "--stems", "--start",
                        "--duration", "--bit-depth", "--bitrate", "--json"]),
        (["train"], ["--experiment", "--dataset", "--split", "--root", "--seed", "--output",
                     "--checkpoint"]),
        (["evaluate"], ["--dataset", "--split", "--root", "--model", "--mode", "--hop",
                        "--output", "--card", "--jobs", "--measure"]),
        (["models"], ["--help"]),
    ],
)  # fmt: skip
def test_help_explains_every_option(capsys, command, options):
    with pytest.raises(SystemExit) as exit:
        cli.main([*command, "--help"])
    assert exit.value.code == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith(f"usage: {' '.join(['sepkit', *command])} ")
    for option in options:
        # Each stands in the list with words after it, not only in the usage.
        assert re.search(rf"^ +(-\w[^\n]*)?{option}\b.*\n? +\w+", out, flags=re.MULTILINE), option


def test_python_m_sepkit_is_the_program(python):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert scripts["scripts"] == {"sepkit": "sepkit.cli:main"}
    assert python("-m", "sepkit", "--version").stdout == f"sepkit {sepkit.__version__}\n"
    bad = python("-m", "sepkit", "separate", "none.wav", check=False)
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr == "sepkit: none.wav: no such file; check the path\n"
