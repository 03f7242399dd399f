"""What pages are given: encoded sound, files named by content, whose sound it is."""

import base64
import io
import struct

import numpy as np
import pytest
import soundfile
from helpers import noise

from sepkit.errors import AudioError, ParameterError
from sepkit.notebook import media

RATE = 22050


@pytest.mark.parametrize("n_channels", [1, 2])
def test_flac_holds_the_sound_to_half_a_16_bit_step_and_clips_what_exceeds_it(n_channels):
    sound = noise(3000, n_channels)
    sound[100:110] = 1.5
    heard, rate = soundfile.read(io.BytesIO(media.flac(sound, RATE)), always_2d=True)
    assert rate == RATE
    np.testing.assert_allclose(heard, np.clip(sound, -1, 1 - 2**-15), rtol=0, atol=0.5 / 2**15)


def test_seek_table_names_the_start_of_every_frame():
    n_samples = RATE + 1
    flac = media.flac(noise(n_samples, 2), RATE)
    block, size = flac[42] & 0x7F, int.from_bytes(flac[43:46], "big")
    assert block == 3
    points = list(struct.iter_unpack(">QQH", flac[46 : 46 + size]))
    place, last = 46 + size, False
    while not last:
        last = bool(flac[place] & 0x80)
        place += 4 + int.from_bytes(flac[place + 1 : place + 4], "big")
    assert sum(length for _, _, length in points) == n_samples
    for index, (first, offset, _) in enumerate(points):
        assert first == sum(length for _, _, length in points[:index])
        # A frame's header: sync code, two bytes of format, its number.
        assert flac[place + offset : place + offset + 2] == b"\xff\xf8"
        assert flac[place + offset + 4] == index


def test_embedded_address_holds_the_file():
    address = media.embedded(b"content", "audio/flac")
    kind, _, content = address.partition(";base64,")
    assert (kind, base64.b64decode(content)) == ("data:audio/flac", b"content")


def test_saved_file_is_named_by_its_content_and_written_once(tmp_path):
    folder = tmp_path / "not" / "yet"
    name = media.saved(b"one", "image/webp", folder)
    assert name.endswith(".webp") and (folder / name).read_bytes() == b"one"
    written = (folder / name).stat().st_mtime_ns
    assert media.saved(b"one", "image/webp", folder) == name
    assert (folder / name).stat().st_mtime_ns == written
    assert media.saved(b"two", "image/webp", folder) != name


def test_the_environment_names_the_site_that_is_built(monkeypatch, tmp_path):
    monkeypatch.delenv(media.SITE_DIRECTORY, raising=False)
    assert media.site_directory() is None
    media.check_licence("Song", None, None)
    monkeypatch.setenv(media.SITE_DIRECTORY, str(tmp_path))
    assert media.site_directory() == tmp_path
    with pytest.raises(ParameterError, match="Song: .* licence"):
        media.check_licence("Song", None, None)


@pytest.mark.parametrize(
    ("sound", "rate", "error", "reason"),
    [
        (np.zeros(9, np.float32), RATE, ParameterError, r"x: float32 of shape \(9,\)"),
        (np.zeros((9, 1), np.int16), RATE, ParameterError, "x: int16"),
        (np.zeros((1, 9), np.float32), RATE, ParameterError, "x: 9 channels"),
        (np.zeros((0, 1), np.float32), RATE, ParameterError, "x: holds no samples"),
        (np.full((9, 1), np.inf), RATE, AudioError, "x: holds NaN"),
        (np.zeros((9, 1), np.float32), 2999, ParameterError, "rate=2999"),
    ],
)  # fmt: skip
def test_what_no_browser_plays_is_one_clear_line(sound, rate, error, reason):
    with pytest.raises(error, match=reason) as caught:
        media.check_sound("x", sound, rate)
    assert "\n" not in str(caught.value)


def test_foot_is_empty_when_there_is_nothing_to_say():
    assert media.foot(None, None, 1.0) == ""
    assert "CC0" in media.foot("CC0", None, 1.0) and "lowered" not in media.foot("CC0", None, 1.0)
    assert "lowered by 6.0 dB" in media.foot(None, None, 0.5)
