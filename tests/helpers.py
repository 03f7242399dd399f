"""Small things that several tests need."""

from functools import partial

import numpy as np
import pytest

from sepkit import stft, tracks, weights


def noise(n_samples, channels=2, *, seed=0):
    """Quiet noise, another for each seed: float32 (n_samples, channels)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 0.2, (n_samples, channels)).astype(np.float32)


def random_network(sizes, channels=1, n_sources=4):
    """A network of random values, none of them zero."""
    rng = np.random.default_rng(8)
    shapes = weights.shapes(channels=channels, n_sources=n_sources, sizes=sizes)
    return {
        name: (0.05 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def one_line(error, *needed):
    """Check that an error is one line and names what it must."""
    text = str(getattr(error, "value", error))
    assert len(text.splitlines()) == 1, text
    for word in needed:
        assert str(word) in text


def check_track(song, *, n_samples=None, rate=tracks.RATE):
    """Check the contract of a track."""
    assert tuple(song.stems) == tracks.SOURCES
    shapes = {stem.shape for stem in song.stems.values()}
    assert len(shapes) == 1 and len(shapes.pop()) == 2
    assert {stem.dtype for stem in song.stems.values()} == {np.dtype(np.float32)}
    assert song.mixture.dtype == np.float32 and song.rate == rate
    assert n_samples in (None, len(song.mixture))
    np.testing.assert_allclose(song.mixture, sum(song.stems.values()), atol=1e-6)
    assert song.name and song.artist and song.licence


def noise_stems(seed, n_samples, n_channels=2):
    """Stems that differ in colour, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    bands = [(1, 12), (12, 80), (80, 200), (200, 480)]
    stems = {}
    for source, (low, high) in zip(tracks.SOURCES, bands, strict=True):
        spectrum = np.fft.rfft(rng.standard_normal((n_samples, n_channels)), axis=0)
        keep = np.zeros(len(spectrum))
        keep[len(keep) * low // 513 : len(keep) * high // 513] = 1
        sound = np.fft.irfft(spectrum * keep[:, None], n_samples, axis=0)
        stems[source] = (0.1 * sound / sound.std()).astype(np.float32)
    return stems


def noise_track(seed, n_segments=20, n_channels=2):
    reader = partial(noise_stems, seed, n_segments * stft.SEGMENT_LENGTH - 100, n_channels)
    return tracks.Track(f"noise {seed}", "noise", "MIT", 44100, reader)


def set_theme(page, theme):
    """Give an explorer's page the book's light or dark theme."""
    page.evaluate("(theme) => (document.documentElement.dataset.theme = theme)", theme)
    if theme == "dark":
        page.add_style_tag(content="html, body { background: #121212; color: #ddd }")


def assert_usable_on_a_phone(page, element):
    """Check a page 375 pixels wide: axe, no sideways scroll, targets of 36 pixels and more."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    assert [f["id"] for f in found if f["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    small = page.locator(f"{element} :is(button, select):visible").evaluate_all(
        "all => all.filter((e) => e.getBoundingClientRect().height < 36).map((e) => e.outerHTML)"
    )
    assert small == []
