"""Files are read to their end, or refused, or read with a warning: never shortened in silence."""

import subprocess
import warnings

import numpy as np
import pytest
import soundfile
from helpers import one_line

from sepkit import audio
from sepkit.errors import AudioError, AudioWarning, ParameterError
from sepkit.io import decoding

RATE = 44100

# How each is made by ffmpeg, and whether it declares its length.
FORMATS = {
    "pcm16.wav": [],
    "pcm24.wav": ["-c:a", "pcm_s24le"],
    "float.wav": ["-c:a", "pcm_f32le"],
    "rf64.wav": ["-rf64", "always"],
    "a.w64": [],
    "a.aiff": [],
    "a.au": [],
    "a.caf": [],
    "a.flac": [],
    "a.ogg": [],
    "a.opus": ["-c:a", "libopus"],
    "a.webm": ["-c:a", "libopus"],
    "a.mka": ["-c:a", "flac"],
    "aac.m4a": ["-c:a", "aac", "-movflags", "+faststart"],
    "alac.m4a": ["-c:a", "alac", "-movflags", "+faststart"],
    "cbr.mp3": ["-b:a", "128k"],
    "vbr.mp3": ["-q:a", "4"],
    "cbr-without-header.mp3": ["-b:a", "128k", "-write_xing", "0"],
    "vbr-without-header.mp3": ["-q:a", "9", "-write_xing", "0"],
    "a.aac": ["-c:a", "aac"],
    "a.ac3": [],
    "a.ts": ["-c:a", "aac"],
    "a.wma": [],
}
DECLARE_NOTHING = {"cbr-without-header.mp3", "vbr-without-header.mp3", "a.aac", "a.ac3", "a.ts",
                   "a.wma", "a.caf"}  # fmt: skip


@pytest.fixture(scope="module")
def formats(tmp_path_factory, ffmpeg):
    """The same 3 s of music-like noise in each format."""
    folder = tmp_path_factory.mktemp("formats")
    rng = np.random.default_rng(0)
    sound = 0.03 * rng.standard_normal((3 * RATE, 2)).cumsum(axis=0) / 10
    sound *= 1 + np.sin(np.arange(len(sound)) / 4000)[:, np.newaxis]
    soundfile.write(folder / "source.wav", np.clip(sound, -0.9, 0.9), RATE)
    for name, options in FORMATS.items():
        ffmpeg("-i", folder / "source.wav", *options, folder / name)
    return folder


def decoded_by_ffmpeg(path):
    run = subprocess.run(
        ["ffmpeg", "-v", "quiet", "-nostdin", "-i", path, "-map", "0:a:0", "-f", "f32le", "-"],
        capture_output=True, check=False)  # fmt: skip
    return len(run.stdout) // 8


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_file_is_as_long_as_ffmpeg_finds_it(formats, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound, rate = audio.read(formats / name)
    assert len(sound) == decoded_by_ffmpeg(formats / name)
    assert len(sound) >= 2.97 * rate and sound.shape[1] == 2


@pytest.mark.parametrize("share", [0.4, 0.95])
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in DECLARE_NOTHING])
def test_a_file_that_breaks_off_is_refused_with_what_is_there(formats, tmp_path, name, share):
    content = (formats / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: round(share * len(content))])
    with pytest.raises(AudioError, match="breaks off") as error:
        audio.read(path)
    one_line(error, path)
    _, found, seconds = str(error.value).partition("--duration ")
    if found:
        # What it offers can be had.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            sound, rate = audio.read(path, duration=float(seconds))
        assert len(sound) == round(float(seconds) * rate) > share * 2 * rate
    else:
        assert name.endswith(".flac")  # which breaks off within the first block


@pytest.mark.parametrize("name", ["a.aac", "a.ac3", "a.ts", "a.wma", "a.caf", "stream.flac"])
def test_what_declares_nothing_warns_when_it_breaks_off(formats, tmp_path, name):
    path = tmp_path / name
    if name == "stream.flac":  # as written to a pipe: of no stated length
        made = subprocess.run(
            ["ffmpeg", "-v", "error", "-i", formats / "source.wav", "-f", "flac", "-"],
            capture_output=True, check=True)  # fmt: skip
        content = made.stdout
    else:
        content = (formats / name).read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10 + 1])
    with pytest.warns(AudioWarning, match="listen for gaps") as found:
        sound, rate = audio.read(path)
    assert len(found) == 1 and str(path) in str(found[0].message)
    assert rate < len(sound) < 2 * rate


@pytest.mark.parametrize("name", ["a.ogg", "a.opus", "cbr.mp3", "vbr.mp3", "aac.m4a", "a.webm",
                                  "a.flac", "a.mka"])  # fmt: skip
def test_damage_in_the_middle_is_never_passed_over(formats, tmp_path, name):
    content = bytearray((formats / name).read_bytes())
    middle = len(content) // 2
    rng = np.random.default_rng(0)
    content[middle : middle + 3000] = rng.integers(0, 256, 3000, np.uint8).tobytes()
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.warns(AudioWarning) as found:
        try:
            audio.read(path)
        except AudioError as error:
            one_line(error, path)
            warnings.warn("refused", AudioWarning, stacklevel=1)
    assert len(found) == 1


@pytest.mark.parametrize("name", ["a.ogg", "cbr.mp3", "vbr-without-header.mp3", "a.aac", "a.ts"])
def test_joined_streams_are_read_to_the_end(formats, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(2 * (formats / name).read_bytes())
    with warnings.catch_warnings():
        # ffmpeg may complain of the joint.
        warnings.simplefilter("ignore", AudioWarning)
        sound, rate = audio.read(path)
    assert len(sound) == decoded_by_ffmpeg(path) > 5.9 * rate


@pytest.mark.parametrize("name", ["pcm16.wav", "rf64.wav", "a.w64", "a.aiff", "a.au", "a.caf",
                                  "a.flac", "aac.m4a", "alac.m4a", "a.wma"])  # fmt: skip
def test_a_second_file_behind_the_end_is_refused(formats, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(2 * (formats / name).read_bytes())
    with pytest.raises(AudioError, match="a second file is joined to it") as error:
        audio.read(path)
    one_line(error, path, (formats / name).stat().st_size // 1000)


@pytest.mark.parametrize("stated", [0, 2**31 - 1, 2**31, 0x7FFFF000, 2**32 - 1])
def test_a_recorder_that_did_not_know_the_length_is_read_to_the_end(formats, tmp_path, stated):
    content = bytearray((formats / "pcm16.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = stated.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert len(audio.read(tmp_path / "a.wav")[0]) == 3 * RATE


def test_a_part_is_the_part_of_the_whole(formats):
    for name in ("pcm16.wav", "a.flac", "cbr.mp3"):
        whole, _ = audio.read(formats / name)
        part, _ = audio.read(formats / name, start=0.5, duration=1.25)
        np.testing.assert_array_equal(part, whole[22050 : 22050 + 55125])
        rest, _ = audio.read(formats / name, start=2.5, duration=9)
        np.testing.assert_array_equal(rest, whole[110250:])
        with pytest.raises(AudioError, match="start earlier") as error:
            audio.read(formats / name, start=3.5)
        one_line(error, formats / name)
    for part in ({"start": -1}, {"duration": 0}, {"start": np.nan}, {"duration": np.inf}):
        with pytest.raises(ParameterError, match="start of 0 or more"):
            audio.read(formats / "pcm16.wav", **part)


def test_the_file_tells_its_length_bits_and_tags(formats, tmp_path, ffmpeg):
    for name, declared in [("pcm16.wav", 3 * RATE), ("a.flac", 3 * RATE), ("a.aac", None),
                           ("vbr-without-header.mp3", None)]:  # fmt: skip
        assert decoding.AudioFile(formats / name).n_samples == declared
    assert decoding.AudioFile(formats / "cbr.mp3").n_samples == pytest.approx(3 * RATE, abs=2000)
    longer = {name for name in FORMATS if decoding.AudioFile(formats / name).long_bits}
    assert longer == {"pcm24.wav", "float.wav"}
    ffmpeg("-i", formats / "source.wav", "-c:a", "pcm_f32le", tmp_path / "float.mka")
    assert decoding.AudioFile(tmp_path / "float.mka").long_bits
    for name in ("pcm16.wav", "a.flac", "cbr.mp3", "aac.m4a", "a.ogg"):
        tagged = tmp_path / name
        ffmpeg("-i", formats / name, "-c", "copy", "-metadata", "artist=someone", tagged)
        assert decoding.AudioFile(tagged).tagged
        assert not decoding.AudioFile(formats / name).tagged


def test_a_stream_that_changes_its_rate_keeps_the_form_of_its_beginning(formats, tmp_path, ffmpeg):
    ffmpeg("-i", formats / "source.wav", "-ar", 22050, "-ac", 1, tmp_path / "low.ogg")
    path = tmp_path / "both.ogg"
    path.write_bytes((formats / "a.ogg").read_bytes() + (tmp_path / "low.ogg").read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        sound, rate = audio.read(path)
    assert rate == RATE and sound.shape[1] == 2
    assert len(sound) == pytest.approx(6 * RATE, abs=3000)
