"""Reading, writing and resampling: precision, invalid input, and no half-written files."""

import numpy as np
import pytest
import soundfile
from helpers import noise, one_line

from sepkit import audio
from sepkit.errors import AudioError, ParameterError
from sepkit.io import decoding, encoding

RATE = 44100


def tone(frequency, rate, seconds=1.0, *, level=0.5):
    time = np.arange(int(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[:, np.newaxis]


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("n_samples", [1, decoding.BLOCK, audio.BLOCK + 3])
def test_float_wav_keeps_every_sample(tmp_path, n_samples, channels):
    sound = 3 * noise(n_samples, channels)
    audio.write(tmp_path / "a.wav", sound, 48000)
    back, rate = audio.read(tmp_path / "a.wav")
    assert rate == 48000 and back.dtype == np.float32
    np.testing.assert_array_equal(back, sound)


def test_flac_keeps_sixteen_bits(tmp_path):
    sound = noise(5000)
    audio.write(tmp_path / "a.flac", sound, RATE)
    back, rate = audio.read(tmp_path / "a.flac")
    assert rate == RATE
    assert 0 < np.abs(back - sound).max() <= 2**-15


@pytest.mark.parametrize("suffix", [".ogg", ".mp3", ".MP3"])
def test_lossy_formats_keep_the_sound_and_each_channel(tmp_path, suffix):
    sound = np.hstack([tone(440, RATE), tone(1000, RATE, level=0.3)])
    audio.write(tmp_path / f"a{suffix}", sound, RATE)
    back, rate = audio.read(tmp_path / f"a{suffix}")
    assert rate == RATE and back.shape == sound.shape
    for channel in range(2):
        assert correlation(back[:, channel], sound[:, channel]) > 0.99


def test_one_axis_is_one_channel(tmp_path):
    audio.write(tmp_path / "a.wav", noise(100)[:, 0], RATE)
    assert audio.read(tmp_path / "a.wav")[0].shape == (100, 1)


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.m4a", "aac", 44100), ("a.mka", "pcm_s24le", 22050)]
)
def test_ffmpeg_reads_what_libsndfile_does_not(tmp_path, ffmpeg, name, codec, rate):
    sound = np.hstack([tone(440, rate, 7.0), tone(1000, rate, 7.0)])
    audio.write(tmp_path / "a.wav", sound, rate)
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", codec, tmp_path / name)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(tmp_path / name)
    back, found = audio.read(tmp_path / name)
    assert found == rate and back.dtype == np.float32 and back.shape[1] == 2
    assert 0 <= len(back) - len(sound) < 4096  # what an encoder pads
    assert correlation(back[: len(sound)], sound) > 0.99


def test_ffmpeg_takes_the_first_stream_and_leaves_the_rest(tmp_path, ffmpeg):
    audio.write(tmp_path / "a.wav", tone(440, RATE), RATE)
    # More channels: what ffmpeg would take if not told.
    audio.write(tmp_path / "b.wav", np.tile(tone(3000, RATE), 2), RATE)
    ffmpeg("-i", tmp_path / "a.wav", "-i", tmp_path / "b.wav", "-map", "0", "-map", "1",
           tmp_path / "two.mka")  # fmt: skip
    back, _ = audio.read(tmp_path / "two.mka")
    assert back.shape[1] == 1
    assert correlation(back[:RATE], tone(440, RATE)) > 0.99


@pytest.mark.parametrize("name", ["-i.mka", "file:a.mka", "http:a.mka", "%03d é.mka"])
def test_a_name_that_ffmpeg_could_take_for_something_else_is_a_name(
    tmp_path, ffmpeg, monkeypatch, name
):
    monkeypatch.chdir(tmp_path)
    audio.write("a.wav", noise(100), RATE)
    ffmpeg("-i", "a.wav", "-c:a", "pcm_f32le", "made.mka")
    (tmp_path / "made.mka").rename(name)
    np.testing.assert_array_equal(audio.read(name)[0], noise(100))


def test_reading_in_blocks_gives_the_file_and_may_stop_early(tmp_path, ffmpeg):
    sound = noise(2 * decoding.BLOCK + 7)
    audio.write(tmp_path / "a.wav", sound, RATE)
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", "pcm_f32le", tmp_path / "a.mka")
    for name in ("a.wav", "a.mka"):
        blocks = list(decoding.AudioFile(tmp_path / name).blocks())
        assert [len(block) for block in blocks] == [decoding.BLOCK, audio.BLOCK, 7]
        np.testing.assert_array_equal(np.concatenate(blocks), sound)
        started = decoding.AudioFile(tmp_path / name).blocks()
        next(started)
        started.close()


# Resampling.


@pytest.mark.parametrize("rate_in", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("n_samples", [1, 1000, 44101])
def test_resampling_keeps_the_duration(rate_in, n_samples):
    back = audio.resample(noise(n_samples), rate_in, 44100)
    assert back.shape == (-(-n_samples * 44100 // rate_in), 2)
    assert back.dtype == np.float32


@pytest.mark.parametrize(("rate_in", "rate_out"), [(22050, 44100), (48000, 44100), (44100, 8000)])
def test_resampling_keeps_pitch_level_and_time(rate_in, rate_out):
    back = audio.resample(tone(1000, rate_in), rate_in, rate_out)
    wanted = tone(1000, rate_out)
    inside = slice(rate_out // 10, -rate_out // 10)
    np.testing.assert_allclose(back[inside], wanted[inside], atol=1e-3)


def test_reading_at_a_rate_resamples(tmp_path):
    audio.write(tmp_path / "a.wav", tone(1000, 48000), 48000)
    back, rate = audio.read(tmp_path / "a.wav", rate=RATE)
    assert rate == RATE and back.shape == (RATE, 1)
    np.testing.assert_allclose(back[4410:-4410], tone(1000, RATE)[4410:-4410], atol=1e-3)
    assert audio.read(tmp_path / "a.wav", rate=48000)[0].shape == (48000, 1)


def test_rates_may_be_fractions(tmp_path):
    assert audio.resample(noise(1000), 44100.0, 48000.5).shape == (1089, 2)
    audio.write(tmp_path / "a.wav", noise(1000), 44100.0)
    assert audio.read(tmp_path / "a.wav", rate=22050.0)[0].shape == (500, 2)


def test_equal_rates_change_nothing():
    sound = noise(10)
    assert audio.resample(sound, RATE, RATE) is sound


@pytest.mark.parametrize(
    "rates",
    [(0, RATE), (RATE, 0), (-1, -1), (float("nan"), RATE), (float("inf"), RATE), (RATE, None),
     ("44100", RATE)],
)  # fmt: skip
def test_rates_that_are_not_positive_are_refused(rates):
    with pytest.raises(ParameterError, match="give a finite rate of 1000 Hz or more") as error:
        audio.resample(noise(10), *rates)
    one_line(error)


@pytest.mark.parametrize("shape", [(5,), (5, 2)])
def test_fix_length_trims_or_pads_the_end(shape):
    sound = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(audio.fix_length(sound, 3), sound[:3])
    longer = audio.fix_length(sound, 8)
    np.testing.assert_array_equal(longer[:5], sound)
    assert longer.shape == (8, *shape[1:]) and not longer[5:].any()


# Samples beyond full scale.


@pytest.fixture
def loud():
    sound = noise(1000)
    return sound * np.float32(2 / np.abs(sound).max())


def test_wav_keeps_samples_beyond_full_scale_unless_told(tmp_path, loud):
    for policy in (None, "none"):
        audio.write(tmp_path / "a.wav", loud, RATE, clip=policy)
        np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], loud)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_rescale_keeps_the_shape_and_clip_the_level(tmp_path, loud, suffix):
    path = tmp_path / f"a{suffix}"
    audio.write(path, loud, RATE, clip="rescale")
    np.testing.assert_allclose(audio.read(path)[0], loud / 2, atol=2**-15)
    audio.write(path, loud, RATE, clip="clip")
    np.testing.assert_allclose(audio.read(path)[0], np.clip(loud, -1, 1), atol=2**-15)


def test_formats_that_would_clip_rescale_by_default(tmp_path, loud):
    audio.write(tmp_path / "a.flac", loud, RATE)
    np.testing.assert_allclose(audio.read(tmp_path / "a.flac")[0], loud / 2, atol=2**-15)


def test_rescale_leaves_what_is_within_full_scale():
    sound = noise(100)
    np.testing.assert_array_equal(audio.apply_clip_policy(sound, "rescale"), sound)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_formats_that_would_clip_refuse_not_to(tmp_path, suffix):
    with pytest.raises(ParameterError) as error:
        audio.write(tmp_path / f"a{suffix}", noise(10), RATE, clip="none")
    one_line(error, suffix, "rescale")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "clip"), [(".aac", None), ("", None), (".wav", "limit")])
def test_unknown_formats_and_policies_are_refused(tmp_path, suffix, clip):
    with pytest.raises(ParameterError, match="use one of") as error:
        audio.write(tmp_path / f"a{suffix}", noise(10), RATE, clip=clip)
    one_line(error, clip or repr(suffix))
    with pytest.raises(ParameterError, match="unknown policy"):
        audio.apply_clip_policy(noise(10), "limit")
    assert list(tmp_path.iterdir()) == []


INTEGERS = [(np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.uint8, 2**7, 2**7), (np.int8, 2**7, 0),
            (np.uint16, 2**15, 2**15)]  # fmt: skip


@pytest.mark.parametrize(("kind", "scale", "middle"), INTEGERS)
def test_integers_are_scaled_by_the_range_of_their_type(tmp_path, kind, scale, middle):
    sound = np.round(128 * noise(1000)) / 128  # in steps that all of them have
    integers = (sound.astype(np.float64) * scale + middle).astype(kind)
    np.testing.assert_array_equal(audio.to_float(integers), sound.astype(np.float32))
    audio.write(tmp_path / "a.wav", integers, RATE)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], sound.astype(np.float32))
    extremes = audio.to_float(np.array([np.iinfo(kind).min, np.iinfo(kind).max], kind))
    assert extremes[0] == -1 and 0.99 < extremes[1] <= 1


@pytest.mark.parametrize(
    "values",
    [np.zeros(5, np.int64), np.zeros(5, bool), "a.wav", None, np.zeros(5, np.complex64), [["a"]],
     [[1.0], [2.0, 3.0]]],
)  # fmt: skip
def test_other_types_are_refused(tmp_path, values):
    with pytest.raises(ParameterError, match="give an array of float") as error:
        audio.write(tmp_path / "a.wav", values, RATE)
    one_line(error)
    assert list(tmp_path.iterdir()) == []


# Nothing half-written.


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    audio.write(tmp_path / "a.wav", noise(10), RATE)
    with pytest.raises(ZeroDivisionError), encoding.writer(tmp_path / "a.wav", RATE, 2) as file:
        file.write(noise(20, seed=1))
        1 / 0  # noqa: B018
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav")[0], noise(10))


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    with encoding.writer(tmp_path / "a.wav", RATE, 2) as file:
        file.write(noise(20))
        assert not (tmp_path / "a.wav").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_full_disk_leaves_nothing(tmp_path, python):
    code = (
        "import resource, sys, numpy; from sepkit import audio;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000));"
        "audio.write(sys.argv[1], numpy.ones((10000, 2), 'f4'), 44100)"
    )
    run = python("-c", code, tmp_path / "a.wav", check=False)
    assert "AudioError" in run.stderr and "a.wav: cannot be written" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("none/a.wav", "No such file"), ("file/a.wav", "Not a directory"), ("place.wav", "directory")],
)
def test_a_path_that_cannot_be_written_is_named_with_the_reason(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "place.wav").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AudioError) as error:
        audio.write(tmp_path / name, noise(10), RATE)
    one_line(error, tmp_path / name, reason)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("suffix", "rate", "channels"),
    [(".mp3", 96000, 2), (".mp3", 44100, 3), (".flac", 44100, 9), (".ogg", 44100, 300),
     (".ogg", 0, 2), (".wav", 0, 2), (".wav", -44100, 2), (".wav", 44100, 0)],
)  # fmt: skip
def test_what_a_format_cannot_hold_is_refused_before_a_file_is_made(
    tmp_path, suffix, rate, channels
):
    path = tmp_path / f"a{suffix}"
    with pytest.raises(AudioError) as error, encoding.writer(path, rate, channels):
        pass
    one_line(error, path, rate, channels, "choose another format")
    assert list(tmp_path.iterdir()) == []


# Invalid input.


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.wav", tmp_path):
        with pytest.raises(AudioError, match="no such file") as error:
            audio.read(path)
        one_line(error, path)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".m4a", ".raw", ".txt", ""])
def test_empty_and_text_files_are_refused(tmp_path, suffix, ffmpeg):
    path = tmp_path / f"a{suffix}"
    path.touch()
    with pytest.raises(AudioError, match="the file is empty") as error:
        audio.read(path)
    one_line(error, path)
    path.write_text("not a sound, but words\n" * 50)
    with pytest.raises(AudioError, match="not audio; give") as error:
        audio.read(path)
    one_line(error, path)


def test_a_video_without_sound_is_refused(tmp_path, ffmpeg):
    path = tmp_path / "a.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=duration=0.2:size=64x64", path)
    with pytest.raises(AudioError, match="not audio") as error:
        audio.read(path)
    one_line(error, path)


def test_without_ffmpeg_the_remedy_is_to_install_it(tmp_path, monkeypatch):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"something else")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="install ffmpeg") as error:
        audio.read(path)
    one_line(error, path)
    audio.write(tmp_path / "a.wav", noise(10), RATE)
    assert audio.read(tmp_path / "a.wav")[0].shape == (10, 2)


def test_a_wav_without_samples_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    audio.write(path, noise(0), RATE)
    with pytest.raises(AudioError, match="holds no samples") as error:
        audio.read(path)
    one_line(error, path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("place", [0, decoding.BLOCK + 5])
def test_nan_and_infinite_samples_are_refused(tmp_path, value, place):
    sound = noise(decoding.BLOCK + 10)
    sound[place, 1] = value
    path = tmp_path / "a.wav"
    audio.write(path, sound, RATE)
    with pytest.raises(AudioError, match="NaN, infinite") as error:
        audio.read(path)
    one_line(error, path)
