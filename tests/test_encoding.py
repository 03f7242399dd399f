"""Files are written whole, or an error says why not."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
from helpers import noise, one_line

from sepkit import audio
from sepkit.errors import AudioError, ParameterError
from sepkit.io import decoding, encoding, remuxing

RATE = 44100

WRITE = """
import resource, sys, numpy
from sepkit import audio
from sepkit.errors import AudioError
sound = numpy.load(sys.argv[1])
for limit in map(int, sys.argv[3:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        audio.write(sys.argv[2], sound, 44100)
    except AudioError as error:
        print("refused", error)
    else:
        print("written")
"""


@pytest.mark.parametrize("suffix", encoding.FORMATS)
def test_a_disk_that_fills_up_at_any_point_is_told(tmp_path, python, suffix):
    sound = noise(30000)
    np.save(tmp_path / "sound.npy", sound)
    audio.write(tmp_path / f"whole{suffix}", sound, RATE)
    size = (tmp_path / f"whole{suffix}").stat().st_size
    limits = [size // 2, size - 3000, size - 100, size - 1, size]
    run = python("-c", WRITE, tmp_path / "sound.npy", tmp_path / f"a{suffix}", *limits)
    *refused, last = run.stdout.splitlines()
    assert last == "written" and len(refused) == 4 and run.stderr == ""
    for line in refused:
        assert (
            line.startswith("refused") and f"a{suffix}: cannot be written (File too large)" in line
        )
    np.testing.assert_array_equal(audio.read(tmp_path / f"a{suffix}")[0],
                                  audio.read(tmp_path / f"whole{suffix}")[0])  # fmt: skip
    assert not [path.name for path in tmp_path.iterdir() if "part" in path.name]


def test_a_small_wav_is_an_ordinary_one(tmp_path):
    audio.write(tmp_path / "a.wav", noise(1000), RATE)
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFF"
    assert soundfile.info(tmp_path / "a.wav").format in ("WAV", "WAVEX")


def test_a_wav_of_more_than_4_gib_becomes_rf64(tmp_path, monkeypatch):
    if shutil.disk_usage(tmp_path).free < 12 << 30:
        pytest.skip("needs 12 GiB of disk")
    block = np.zeros((1 << 22, 64), np.float32)  # 1 GiB
    block[-1] = 0.5
    path = tmp_path / "a.wav"
    with encoding.writer(path, RATE, 64) as file:
        for _ in range(5):
            file.write(block)
    info = soundfile.info(path)
    assert (info.format, info.frames) == ("RF64", 5 << 22)
    with soundfile.SoundFile(path) as file:
        file.seek(-1, soundfile.SEEK_END)
        assert (file.read(1) == 0.5).all()
    assert decoding.AudioFile(path).n_samples == 5 << 22
    path.unlink()


@pytest.mark.parametrize(
    ("suffix", "depth", "bits"),
    [(".wav", "16", 16), (".wav", "24", 24), (".flac", "16", 16), (".flac", "24", 24)],
)
def test_samples_are_rounded_to_the_nearest_step_and_not_scaled(tmp_path, suffix, depth, bits):
    sound = np.concatenate([noise(10000), [[1, -1], [0.99999994, -0.99999994]]]).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    audio.write(path, sound, RATE, bit_depth=depth)
    back, _ = audio.read(path)
    steps = 2.0 ** (bits - 1)
    wanted = np.clip(np.rint(sound * steps), -steps, steps - 1) / steps
    np.testing.assert_allclose(back, wanted, atol=2**-24)


def test_nan_is_refused_where_it_cannot_be_held(tmp_path):
    sound = noise(1000)
    sound[500] = np.nan
    audio.write(tmp_path / "a.wav", sound, RATE)
    for name, options in [("a.flac", {}), ("b.wav", {"bit_depth": "16"}), ("a.ogg", {})]:
        with pytest.raises(AudioError, match="NaN") as error:
            audio.write(tmp_path / name, sound, RATE, clip="clip", **options)
        one_line(error, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize(
    ("name", "options", "needed"),
    [("a.mp3", {"bit_depth": "16"}, ["16", "leave it out"]),
     ("a.flac", {"bit_depth": "32f"}, ["32f", "16, 24"]),
     ("a.wav", {"bit_depth": "16", "clip": "none"}, ["16-bit .wav", "rescale"]),
     ("a.ogg", {"bitrate": 128}, ["128", "mp3"]), ("a.mp3", {"bitrate": 8}, ["8", "40 to 320"])],
)  # fmt: skip
def test_options_that_do_not_fit_the_format_are_refused(tmp_path, name, options, needed):
    with pytest.raises(ParameterError) as error:
        audio.write(tmp_path / name, noise(10), RATE, **options)
    one_line(error, *needed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rate", "bitrate"),
    [(RATE, 40), (RATE, 128), (48000, 192), (RATE, 320), (22050, 64), (16000, 160), (8000, 32)],
)
def test_bitrate_is_that_asked_for(tmp_path, ffmpeg, rate, bitrate):
    path = tmp_path / "a.mp3"
    audio.write(path, noise(20000), rate, bitrate=bitrate)
    found = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "stream=bit_rate", "-of", "csv=p=0", path],
        capture_output=True, text=True, check=True)  # fmt: skip
    assert int(found.stdout) == 1000 * bitrate


@pytest.mark.parametrize("suffix", encoding.FORMATS)
def test_copying_tags_leaves_every_sample(tmp_path, ffmpeg, suffix):
    path = tmp_path / f"a{suffix}"
    audio.write(path, noise(30000), RATE)
    before, _ = audio.read(path)
    ffmpeg("-i", path, "-metadata", "title=A Title", tmp_path / "song.mp3")
    remuxing.copy_tags(tmp_path / "song.mp3", path)
    assert decoding.AudioFile(path).tagged
    np.testing.assert_array_equal(audio.read(path)[0], before)
    assert sorted(found.name for found in tmp_path.iterdir()) == [path.name, "song.mp3"]


def test_what_ffmpeg_cannot_write_is_told_in_one_line(tmp_path, ffmpeg):
    audio.write(tmp_path / "a.wav", noise(1000, 1), 192000)
    parts = 5 * [tmp_path / "a.wav"]
    with pytest.raises(AudioError, match="ffmpeg cannot write it") as error:
        remuxing.write_stem_file(tmp_path / "none" / "a.stem.mp4", parts, None)
    one_line(error, tmp_path / "none" / "a.stem.mp4")
