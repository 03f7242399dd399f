"""Pictures: what is drawn stands where it belongs, and says what it is."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import noise
from ipywidgets import IntSlider

from sepkit import stft
from sepkit.metrics import METRICS
from sepkit.notebook import plotting
from sepkit.study import statistics
from sepkit.tracks import RATE, SOURCES


@pytest.fixture(autouse=True)
def clean():
    """Draw every figure in full, then close it."""
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


def cell(ax, time, frequency):
    """The value drawn at a time and a frequency."""
    (image,) = ax.collections
    times, edges = image.get_coordinates()[0, :, 0], image.get_coordinates()[:, 0, 1]
    return image.get_array()[
        np.searchsorted(edges, frequency) - 1, np.searchsorted(times, time) - 1
    ]


def test_every_source_has_a_colour_of_its_own():
    assert set(plotting.COLOURS) == {*SOURCES, "mixture"}
    colours = {matplotlib.colors.to_hex(colour) for colour in plotting.COLOURS.values()}
    assert len(colours) == 5


def test_waveform_is_the_mean_of_the_channels_over_seconds():
    sound = noise(22050)
    ax = plotting.waveform(sound, 22050, colour="#009e73")
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), sound.mean(axis=1))
    np.testing.assert_allclose(line.get_xdata()[[0, -1]], [0, 1 - 1 / 22050])
    assert (line.get_color(), ax.get_xlim()) == ("#009e73", (0, 1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time [s]", "amplitude")


def test_all_draw_on_the_axes_they_are_given():
    spectrum = stft.stft(noise(4000))
    figure, axes = plt.subplots(3)
    assert plotting.waveform(noise(4000), ax=axes[0]) is axes[0]
    assert plotting.spectrogram(spectrum, ax=axes[1]) is axes[1]
    assert plotting.mask(np.abs(spectrum) * 0, ax=axes[2]) is axes[2]
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("frequency", [200, 1000, 9000])
def test_spectrogram_shows_a_tone_at_its_frequency(frequency):
    time = np.arange(RATE)[:, np.newaxis] / RATE
    ax = plotting.spectrogram(stft.stft(np.float32(np.sin(2 * np.pi * frequency * time))))
    assert cell(ax, 0.5, frequency) > -3
    assert cell(ax, 0.5, 1.8 * frequency) < -30
    assert ax.get_ylim() == (0, 16000)


def test_the_frequency_axis_is_that_of_mel():
    librosa = pytest.importorskip("librosa")
    ax = plotting.spectrogram(stft.stft(noise(4000)), highest=8000.0)
    hertz = np.array([0, 43, 200, 1000, 4000, 8000])
    mel = librosa.hz_to_mel(hertz, htk=True)
    heights = ax.transAxes.inverted().transform(ax.transData.transform([(0, f) for f in hertz]))
    np.testing.assert_allclose(heights[:, 1], mel / mel[-1], atol=1e-9)


@pytest.mark.parametrize("sample", [20000, 20100, 20255])
def test_spectrogram_shows_a_click_at_its_time(sample):
    sound = np.zeros((RATE, 1), np.float32)
    sound[sample] = 1
    ax = plotting.spectrogram(stft.stft(sound))
    (image,) = ax.collections
    times = image.get_coordinates()[0, :, 0]
    loudest = int(np.argmax(image.get_array()[100]))
    assert times[loudest] - 1e-9 <= sample / RATE <= times[loudest + 1] + 1e-9


def test_spectrogram_measures_levels_from_the_peak_or_a_reference():
    spectrum = np.zeros((10, 513, 1), np.complex64)
    spectrum[4, 100] = 2j
    levels = plotting.spectrogram(spectrum).collections[0].get_array()
    assert levels[100, 4] == pytest.approx(0, abs=1e-5)
    ax = plotting.spectrogram(spectrum, reference=20.0, dynamic=60.0, highest=5000.0)
    assert ax.collections[0].get_array()[100, 4] == pytest.approx(-20)
    assert ax.collections[0].get_clim() == (-60, 0) and ax.get_ylim()[1] == 5000
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time [s]", "frequency [Hz]")
    assert ax.collections[0].colorbar.ax.get_ylabel() == "level [dB]"


def test_spectrogram_of_silence_is_dark():
    levels = plotting.spectrogram(np.zeros((30, 513, 2), np.complex64)).collections[0].get_array()
    assert levels.max() <= -80


def test_frequencies_are_named_in_hertz_and_kilohertz():
    ax = plotting.spectrogram(stft.stft(noise(4000)), highest=8000.0)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["0", "200", "500", "1 k", "2 k", "5 k"]
    np.testing.assert_array_equal(ax.get_yticks(), [0, 200, 500, 1000, 2000, 5000])


def test_mask_is_drawn_from_nothing_to_everything():
    values = np.zeros((10, 513, 2), np.float32)
    values[3, 50, 0] = 1
    ax = plotting.mask(values, title="vocals")
    (image,) = ax.collections
    assert image.get_clim() == (0, 1) and image.get_array()[50, 3] == 0.5
    assert ax.get_title() == "vocals" and image.colorbar.ax.get_ylabel() == "mask"


def test_masks_of_all_sources_are_titled_in_order():
    masks = np.full((4, 30, 513, 1), 0.25, np.float32)
    masks[2] = 0.75
    figure = plotting.source_masks(masks)
    axes = [ax for ax in figure.axes if ax.get_title()]
    assert [ax.get_title() for ax in axes] == list(SOURCES)
    assert [ax.collections[0].get_array().mean() for ax in axes] == [0.25, 0.25, 0.75, 0.25]
    assert [ax.get_xlabel() for ax in axes] == ["", "", "", "time [s]"]
    assert {ax.get_ylabel() for ax in axes} == {"frequency [Hz]"}


def card_scores(offset, *, missing=None):
    """Scores of five songs in the form of the cards; of one source none, if asked."""
    songs = []
    for song in range(5):
        channel = {
            metric: [None if source == missing else offset + 10 * i + song for source in SOURCES]
            for i, metric in enumerate(METRICS)
        }
        museval = {metric: [-(value or 0) for value in channel[metric]] for metric in METRICS}
        songs.append({"name": str(song), "report": [channel], "museval": [museval]})
    return {"songs": songs}


def test_song_scores_are_those_of_one_metric_source_and_measure():
    scored = card_scores(1.0, missing="drums")
    assert plotting.song_scores(scored, "SIR", "vocals") == [11, 12, 13, 14, 15]
    assert plotting.song_scores(scored, "SDR", "drums") == []
    scored = card_scores(1.0)
    assert plotting.song_scores(scored, "SDR", "bass", measure="museval") == [-1, -2, -3, -4, -5]


def test_scores_are_a_panel_a_metric_and_a_box_a_source_and_label():
    figure = plotting.scores({"report": card_scores(0.0), "song": card_scores(2.0)})
    assert [ax.get_ylabel() for ax in figure.axes] == [f"{metric} [dB]" for metric in METRICS]
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == list(SOURCES)
    assert "report" in figure.get_suptitle() and "song" in figure.get_suptitle()
    for i, ax in enumerate(figure.axes):
        faces = [matplotlib.colors.to_hex(box.get_facecolor()) for box in ax.patches]
        assert faces == [plotting.COLOURS[source] for _ in range(2) for source in SOURCES]
        means = [line.get_ydata()[0] for line in ax.lines if line.get_marker() == "D"]
        assert means == [10 * i + 2.0] * 4 + [10 * i + 4.0] * 4


def test_scores_of_one_label_need_no_title_and_a_source_may_have_none():
    figure = plotting.scores({"song": card_scores(0.0, missing="drums")})
    assert figure.get_suptitle() == ""
    means = [line.get_ydata() for line in figure.axes[0].lines if line.get_marker() == "D"]
    assert [len(mean) and np.isfinite(mean).all() for mean in means].count(True) == 3


def test_timbre_filters_are_drawn_each_to_its_own_peak():
    kernel = np.zeros((513, 2, 3), np.float32)
    kernel[20, :, 0], kernel[40, :, 1] = 0.5, -8
    ax = plotting.timbre_filters(kernel)
    (image,) = ax.collections
    drawn = image.get_array()
    assert (drawn[20, 0], drawn[40, 1]) == (1, -1) and np.count_nonzero(drawn) == 2
    assert image.get_clim() == (-1, 1)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("filter", "frequency [Hz]")


def test_a_widget_shows_its_fallback_beside_itself():
    slider = IntSlider()
    bundle = plotting.with_fallback(slider, html="<p>not running</p>")._repr_mimebundle_()
    assert bundle["text/html"] == "<p>not running</p>"
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == slider.model_id


def test_a_forest_has_songs_the_mean_its_interval_and_a_mark_for_the_verdict():
    gains = {"first": np.zeros((4, 3, 4)), "second": np.zeros((4, 3, 4))}
    # Songs gain 1, 2, 3, 4 dB in SIR, whatever the source.
    gains["second"][:, 1] = np.arange(1, 5)[:, np.newaxis] + np.array([-1, 1, -2, 2])
    gains["first"][0] = 0.1
    scatter = statistics.SeedScatter(np.full((3, 5), 0.01), 4)
    changes = {
        name: statistics.Effect(name, "base", (3, 5), gain, scatter) for name, gain in gains.items()
    }
    judged = {"first": ("none", "none", "none"), "second": ("open", "effect", "likely")}
    figure = plotting.forest(changes, judged)
    sdr, sir, _ = figure.axes
    places = {text.get_text(): text.get_position()[1] for text in sdr.texts}
    assert 0 > places["first"] > -0.5 and 1 > places["second"] > 0.5  # above its own row
    lines = [line for line in sir.lines if set(line.get_ydata()) == {1.0}]
    songs, interval, mean = lines
    np.testing.assert_allclose(songs.get_xdata(), [1, 2, 3, 4])
    np.testing.assert_allclose(interval.get_xdata(), changes["second"].total.interval()[:, 1])
    np.testing.assert_allclose(mean.get_xdata(), 2.5)
    marks = {
        (metric, label): next(
            line
            for line in ax.lines
            if list(line.get_ydata()) == [row] and len(line.get_xdata()) == 1
        )
        for metric, ax in zip(("SDR", "SIR", "SAR"), figure.axes, strict=True)
        for row, label in enumerate(gains)
    }
    assert marks["SIR", "second"].get_fillstyle() == "full"
    assert marks["SIR", "second"].get_markerfacecolor() != "white"
    assert marks["SAR", "second"].get_fillstyle() == "left"
    assert marks["SDR", "second"].get_markerfacecolor() == "white"
    assert marks["SDR", "first"].get_marker() == "s"


def test_ladder_puts_the_highest_mean_on_top_and_a_system_without_scores_last():
    rows = {
        "low": {"mean": {"SDR": [-2.0, -1.0, -4.0, 1.0]}},
        "silent": {"mean": {"SDR": [None] * 4}},
        "high": {"mean": {"SDR": [2.0, 3.0, 1.0, 4.0]}},
    }
    figure = plotting.ladder(rows)
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["high", "low", "silent"]
    assert ax.get_ylim() == (2.5, -0.5)  # the first on top
    marks = {
        (line.get_color(), *line.get_xydata()[0])
        for line in ax.lines
        if len(line.get_xydata()) == 1
    }
    for row, label in enumerate(("high", "low")):
        values = rows[label]["mean"]["SDR"]
        wanted = {(plotting.COLOURS[s], v, row) for s, v in zip(SOURCES, values, strict=True)}
        assert wanted | {("black", np.mean(values), row)} <= marks
    assert not any(row == 2 for _, _, row in marks)
    assert [text.get_text() for text in ax.texts] == ["no score"]
