"""A song in, stems out: the sum, the shape, every hop and every way through the blocks."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl
from helpers import noise, one_line
from hypothesis import given, settings
from hypothesis import strategies as st

import sepkit
from sepkit import audio, masks, network, stft, streaming, weights
from sepkit.errors import AudioError, ModelError, ParameterError
from sepkit.tracks import RATE, SOURCES

SEGMENT_LENGTH = 7168


def sum_error(stems, song):
    """Largest deviation of the stems' sum from the song, in parts of its peak."""
    return np.abs(sum(stems.values()) - song).max() / np.abs(song).max()


def assert_alike(stems, wanted, tolerance=1e-5):
    assert list(stems) == list(wanted)
    peak = max(np.abs(stem).max() for stem in wanted.values())
    for source in wanted:
        np.testing.assert_allclose(stems[source], wanted[source], rtol=0, atol=tolerance * peak)


def whole_song(song, values, hop):
    """The definition, written plainly: masks of all contexts, averaged where they overlap."""
    spectrum = stft.stft(song)
    n_frames = len(spectrum)
    context = len(values["global_dense/kernel"]) // 30 + 11
    magnitudes = np.pad(np.abs(spectrum), [(0, 2 * context), (0, 0), (0, 0)])
    starts = [0]
    while starts[-1] + context < n_frames:
        starts.append(starts[-1] + hop)
    contexts = np.stack([magnitudes[start : start + context] for start in starts])
    each = network.masks(values, contexts)
    total = np.zeros((4, *magnitudes.shape))
    count = np.zeros(len(magnitudes))
    for i, start in enumerate(starts):
        total[:, start : start + context] += each[:, i]
        count[start : start + context] += 1
    masks = total[:, :n_frames] / count[:n_frames, np.newaxis, np.newaxis]
    return {
        source: stft.istft(mask * spectrum, len(song))
        for source, mask in zip(SOURCES, masks, strict=True)
    }


def report_procedure(song, values):
    """The report's procedure for one channel, segment by segment and frame by frame."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    context = len(values["global_dense/kernel"]) // 30 + 11
    length = 256 * (context + 3)
    n_segments = -(-len(song) // length) // 32 * 32
    spectra = np.zeros((n_segments, context, 513), complex)
    for segment in range(n_segments):
        for n in range(context):
            start = segment * length + 256 * n
            piece = song[start : min(start + 1024, (segment + 1) * length), 0]
            frame = np.append(piece, np.zeros(1024 - len(piece)))
            spectra[segment, n] = np.fft.rfft(frame * window)
    masks = network.masks(values, np.abs(spectra)[..., np.newaxis].astype(np.float32))[..., 0]
    estimates = np.zeros((4, n_segments * length))
    for segment in range(n_segments):
        for n in range(context):
            start = segment * length + 256 * n
            frames = np.fft.irfft(masks[:, segment, n] * spectra[segment, n]) * window / 1.5
            estimates[:, start : start + 1024] += frames
    return {source: estimates[i][:, np.newaxis] for i, source in enumerate(SOURCES)}


# What goes in comes out.


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("n_samples", [1, 255, 4410, 12345])
def test_stems_have_the_songs_shape_and_sum(untrained, rate, n_samples):
    for channels in (1, 2, 3):
        song = noise(n_samples, channels)
        before = song.copy()
        stems = sepkit.separate(song, rate, model=untrained, hop=25)
        assert tuple(stems) == SOURCES
        assert {stem.shape for stem in stems.values()} == {song.shape}
        assert {stem.dtype for stem in stems.values()} == {np.dtype(np.float32)}
        assert sum_error(stems, song) < 1e-5
        np.testing.assert_array_equal(song, before)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_one_axis_in_is_one_axis_out(untrained, rate):
    song = noise(5000, 1)
    flat = sepkit.separate(song[:, 0].astype(np.float64), rate, model=untrained)
    stems = sepkit.separate(song, rate, model=untrained)
    for source in SOURCES:
        assert flat[source].shape == (5000,) and flat[source].dtype == np.float32
        np.testing.assert_array_equal(flat[source], stems[source][:, 0])


def test_a_mono_model_runs_on_each_channel_by_itself(untrained):
    song = noise(20000, 2)
    both = sepkit.separate(song, RATE, model=untrained)
    for channel in range(2):
        alone = sepkit.separate(song[:, channel], RATE, model=untrained)
        for source in SOURCES:
            np.testing.assert_allclose(both[source][:, channel], alone[source], atol=1e-6)


def test_the_song_goes_in_at_its_own_level(untrained):
    song = noise(20000, 1)
    soft = sepkit.separate(song, RATE, model=untrained)
    loud = sepkit.separate(10 * song, RATE, model=untrained)
    assert_alike(loud, whole_song(10 * song, untrained, 5))
    assert np.abs(loud["bass"] / 10 - soft["bass"]).max() > 1e-3 * np.abs(soft["bass"]).max()


@pytest.mark.parametrize("rate", [44100, 48000])
def test_silence_gives_silence(untrained, rate):
    song = np.zeros((20000, 2), np.float32)
    for model in (untrained, "experiment1"):
        for stem in sepkit.separate(song, rate, model=model, hop=25).values():
            assert not stem.any()
    song[:10000] = noise(10000)
    stems = sepkit.separate(song, rate, model=untrained, hop=25)
    assert all(np.isfinite(stem).all() for stem in stems.values())
    assert sum_error(stems, song) < 1e-5


def test_resampling_there_and_back_keeps_each_stem(untrained):
    """At another rate the stems are those of the resampled song, not only their sum."""
    low = audio.resample(noise(11025, 1), 11025, RATE)  # nothing above 5.5 kHz to be lost
    wanted = sepkit.separate(low, RATE, model=untrained, hop=25)
    stems = sepkit.separate(audio.resample(low, RATE, 48000), 48000, model=untrained, hop=25)
    for source in SOURCES:
        back = audio.resample(stems[source], 48000, RATE)[2000:-2000]
        error = back - wanted[source][2000:-2000]
        assert np.sum(error**2) < 1e-4 * np.sum(wanted[source] ** 2)


def test_what_resampling_loses_goes_to_other(untrained):
    time = np.arange(48000)[:, np.newaxis] / 48000
    song = np.float32(0.5 * np.sin(2 * np.pi * 23000 * time))  # the network hears to 22 kHz
    stems = sepkit.separate(song, 48000, model=untrained, hop=25)
    inside = slice(4000, -4000)
    np.testing.assert_allclose(stems["other"][inside], song[inside], atol=1e-3)
    assert all(np.abs(stems[s][inside]).max() < 1e-3 for s in ("bass", "drums", "vocals"))


# The result is its definition, however the song is cut.


@pytest.mark.parametrize("hop", [25, 7, 5, 1])
@pytest.mark.parametrize("n_samples", [100, 6000, 12345])
def test_separation_is_the_mean_of_all_contexts(untrained, hop, n_samples):
    song = noise(n_samples, 1)
    stems = sepkit.separate(song, RATE, model=untrained, hop=hop)
    assert_alike(stems, whole_song(song, untrained, hop))


@pytest.mark.parametrize("hop", [25, 7, 3])
@pytest.mark.parametrize(("n_frames", "n_samples"), [(1, 3000), (10, 15000), (33, 25000)])
def test_the_length_of_a_stretch_does_not_matter(untrained, monkeypatch, hop, n_frames, n_samples):
    monkeypatch.setattr(streaming, "_STRETCH", 256 * n_frames)
    song = noise(n_samples, 1)
    stems = sepkit.separate(song, RATE, model=untrained, hop=hop)
    assert_alike(stems, whole_song(song, untrained, hop))


@pytest.mark.parametrize("hop", [30, 25, 7, 5])
@pytest.mark.parametrize(("n_frames", "n_samples"), [(33, 25000), (1024, 12345)])
def test_a_network_of_longer_contexts_separates(
    untrained_30, monkeypatch, hop, n_frames, n_samples
):
    monkeypatch.setattr(streaming, "_STRETCH", 256 * n_frames)
    song = noise(n_samples, 1)
    stems = sepkit.separate(song, RATE, model=untrained_30, hop=hop)
    assert_alike(stems, whole_song(song, untrained_30, hop))
    assert sum_error(stems, song) < 1e-5


def test_songs_of_several_stretches_have_no_seams(untrained):
    song = noise(streaming._STRETCH + 15000, 1)
    stems = sepkit.separate(song, RATE, model=untrained, hop=25)
    assert_alike(stems, whole_song(song, untrained, 25))


@pytest.mark.parametrize("rate", [44100, 32000])
@pytest.mark.parametrize("sizes", [[1, 999, 3, 20000], [25003], [5000] * 5 + [3]])
def test_the_size_of_the_blocks_does_not_matter(untrained, monkeypatch, rate, sizes):
    monkeypatch.setattr(streaming, "_STRETCH", 256 * 32)
    song = noise(sum(sizes), 1)
    blocks = np.split(song, np.cumsum(sizes)[:-1])
    got = list(streaming.separate_stream(iter(blocks), rate, 1, model=untrained, hop=7))
    stems = dict(zip(SOURCES, np.concatenate(got, axis=1), strict=True))
    assert_alike(stems, sepkit.separate(song, rate, model=untrained, hop=7), 1e-6)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_blocks_are_given_back_while_the_song_still_comes(untrained, monkeypatch, rate):
    """How far the stems lag behind the song, and memory with it, does not grow with the song."""
    monkeypatch.setattr(masks, "mean_masks", quarter_masks)
    n_threads = max(lib["num_threads"] for lib in threadpoolctl.threadpool_info())
    given = taken = lag = 0

    def blocks():
        nonlocal given
        for _ in range(60):
            given += rate
            yield noise(rate, 1)

    for stems in streaming.separate_stream(blocks(), rate, 1, model=untrained):
        lag = max(lag, given - taken)
        taken += stems.shape[1]
    assert taken == given == 60 * rate
    # A stretch in each thread, one that waits and one that is gathered, and what is around it.
    assert lag < (n_threads + 2) * streaming._STRETCH * rate / RATE + 2 * rate


@pytest.mark.parametrize("rate", [44100, 48000])
def test_memory_does_not_grow_with_the_song(untrained, monkeypatch, rate):
    monkeypatch.setattr(masks, "mean_masks", quarter_masks)
    second = noise(rate, 1)

    def peak(seconds):
        tracemalloc.start()
        for _ in streaming.separate_stream(
            (second for _ in range(seconds)), rate, 1, model=untrained
        ):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    # Once all threads are busy. Their peaks fall together or not; 108 s of sound more are 19 MB.
    assert peak(150) - peak(42) < 5e6


def quarter_masks(prepared, magnitudes, hop):
    """Stand in for the network where only what is around it is measured."""
    return np.full((4, *magnitudes.shape), 0.25, np.float32)


def test_one_thread_and_several_give_the_same(untrained):
    song = noise(3 * streaming._STRETCH)
    several = sepkit.separate(song, RATE, model=untrained)
    with threadpoolctl.threadpool_limits(1):
        one = sepkit.separate(song, RATE, model=untrained)
    for source in SOURCES:
        np.testing.assert_array_equal(one[source], several[source])


def test_blas_has_its_threads_back_afterwards_and_after_an_error(untrained):
    def counts():
        return [lib["num_threads"] for lib in threadpoolctl.threadpool_info()]

    before = counts()
    sepkit.separate(noise(20000), RATE, model=untrained)
    assert counts() == before

    def broken():
        yield noise(20000)
        raise AudioError("cannot be decoded")

    with pytest.raises(AudioError, match="cannot be decoded"):
        list(streaming.separate_stream(broken(), RATE, 2, model=untrained))
    assert counts() == before


# The report's procedure.


def test_separations_in_several_threads_give_blas_its_threads_back(untrained):
    song = noise(40000)
    wanted = sepkit.separate(song, RATE, model=untrained)
    controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
    before = [library["num_threads"] for library in controller.info()]
    with ThreadPoolExecutor(3) as pool:
        several = list(pool.map(lambda _: sepkit.separate(song, RATE, model=untrained), range(6)))
    assert [library["num_threads"] for library in controller.info()] == before
    for stems in several:
        assert_alike(stems, wanted, 1e-6)


@pytest.mark.parametrize("options", [{}, {"mode": "report", "pad": True}])
def test_progress_is_told_and_can_stop_the_work(untrained, options):
    song = noise(500_000, 1)
    fractions = []
    sepkit.separate(song, RATE, model=untrained, hop=25, progress=fractions.append, **options)
    assert len(fractions) > 1 and fractions == sorted(fractions) and fractions[-1] == 1.0

    def stop(fraction):
        fractions.append(fraction)
        raise InterruptedError

    fractions.clear()
    with pytest.raises(InterruptedError):
        sepkit.separate(song, RATE, model=untrained, hop=25, progress=stop, **options)
    assert len(fractions) == 1


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8])
@pytest.mark.parametrize("mode", ["song", "report"])
def test_integers_give_the_stems_of_the_same_sound(untrained, kind, mode):
    limits = np.iinfo(kind)
    scale = 2.0 ** (limits.bits - 1)
    song = (np.round(128 * noise(20000)) / 128).astype(np.float32)
    integers = (song * scale + (scale if limits.min == 0 else 0)).astype(kind)
    options = {"model": untrained, "mode": mode, "pad": True}
    wanted = sepkit.separate(song, RATE, **options)
    assert_alike(sepkit.separate(integers, RATE, **options), wanted, 1e-7)


def test_report_mode_is_the_reports_procedure(untrained):
    song = noise(33 * SEGMENT_LENGTH + 100, 1)
    stems = sepkit.separate(song, RATE, model=untrained, mode="report")
    assert {stem.shape for stem in stems.values()} == {(32 * SEGMENT_LENGTH, 1)}
    assert_alike(stems, report_procedure(song, untrained))


def test_report_mode_cuts_segments_of_the_networks_own_length(untrained_30):
    song = noise(32 * 8448 + 100, 1)
    stems = sepkit.separate(song, RATE, model=untrained_30, mode="report")
    assert {stem.shape for stem in stems.values()} == {(32 * 8448, 1)}
    assert_alike(stems, report_procedure(song, untrained_30))


def test_report_mode_fades_every_segments_edges(untrained):
    song = noise(32 * SEGMENT_LENGTH, 1)
    error = sum(sepkit.separate(song, RATE, model=untrained, mode="report").values()) - song
    segments = np.abs(error.reshape(32, SEGMENT_LENGTH)) / np.abs(song).max()
    assert segments[:, 768:6400].max() < 1e-5
    assert segments[:, :300].max(axis=1).min() > 0.1
    assert segments[:, -300:].max(axis=1).min() > 0.1


def test_report_mode_counts_a_last_segment_that_is_not_full(untrained):
    song = noise(31 * SEGMENT_LENGTH + 1, 1)
    stems = sepkit.separate(song, RATE, model=untrained, mode="report")
    assert stems["bass"].shape == song.shape


def test_report_mode_refuses_short_songs_unless_padded(untrained):
    song = noise(31 * SEGMENT_LENGTH, 1)
    with pytest.raises(AudioError, match="31 segments.*32.*5.2 s.*pad=True") as error:
        sepkit.separate(song, RATE, model=untrained, mode="report")
    one_line(error)
    stems = sepkit.separate(song, RATE, model=untrained, mode="report", pad=True)
    assert stems["bass"].shape == song.shape


@pytest.mark.parametrize(("n_samples", "rate"), [(1, 44100), (33 * SEGMENT_LENGTH + 5, 44100),
                                                 (40000, 48000), (40000, 22050)])  # fmt: skip
def test_report_mode_padded_keeps_the_length(untrained, n_samples, rate):
    song = noise(n_samples, 1)
    stems = sepkit.separate(song, rate, model=untrained, mode="report", pad=True)
    assert {stem.shape for stem in stems.values()} == {song.shape}
    if rate == RATE and n_samples > 32 * SEGMENT_LENGTH:
        cut = sepkit.separate(song, rate, model=untrained, mode="report")
        for source in SOURCES:
            np.testing.assert_allclose(stems[source][: 32 * SEGMENT_LENGTH], cut[source], atol=1e-6)


# Models.


def test_a_stereo_model_hears_both_channels_at_once():
    values = weights.initialize(channels=2, seed=1)
    song = noise(20000, 2)
    stems = sepkit.separate(song, RATE, model=values, hop=7)
    assert_alike(stems, whole_song(song, values, 7))
    assert sum_error(stems, song) < 1e-5
    swapped = sepkit.separate(song[:, ::-1], RATE, model=values, hop=7)
    assert np.abs(swapped["bass"][:, ::-1] - stems["bass"]).max() > 1e-3


@pytest.mark.parametrize("mode", ["song", "report"])
def test_a_stereo_model_takes_a_mono_song_as_the_same_in_both(mode):
    values = weights.initialize(channels=2, seed=1)
    song = noise(20000, 1)
    options = {"model": values, "mode": mode, "pad": True}
    mono = sepkit.separate(song, RATE, **options)
    both = sepkit.separate(np.hstack([song, song]), RATE, **options)
    for source in SOURCES:
        assert mono[source].shape == song.shape
        mean = both[source].mean(axis=1, keepdims=True)
        np.testing.assert_allclose(mono[source], mean, atol=1e-6)


@pytest.mark.parametrize("mode", ["song", "report"])
def test_a_stereo_model_refuses_other_channel_counts(mode):
    values = weights.initialize(channels=2)
    with pytest.raises(ParameterError, match="song of 3 channels does not fit") as error:
        sepkit.separate(noise(5000, 3), RATE, model=values, mode=mode, pad=True)
    one_line(error)


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_model_of_other_sources_names_them_by_number(rate):
    values = weights.initialize(n_sources=2, seed=1)
    song = noise(8000)
    stems = sepkit.separate(song, rate, model=values)
    assert list(stems) == ["source1", "source2"]
    assert sum_error(stems, song) < 1e-5


def test_a_name_a_path_a_dict_and_a_keras_model_are_the_same():
    keras_model = sepkit.load_model("experiment3")
    path = weights.find_weights("experiment3")
    song = noise(8000, 1)
    wanted = sepkit.separate(song, RATE)
    for model in ("experiment3", path, str(path), weights.load(path), keras_model):
        assert_alike(sepkit.separate(song, RATE, model=model), wanted, 1e-7)


def test_the_trained_network_tells_the_sources_of_a_real_song_apart(falcon):
    song = falcon.excerpt(1, 4)
    stems = sepkit.separate(song.mixture, song.rate)
    assert sum_error(stems, song.mixture) < 1e-5
    flat = np.stack([stem.ravel() for stem in stems.values()])
    alike = np.corrcoef(flat)
    assert alike[np.triu_indices(4, 1)].max() < 0.99
    # Each estimate resembles its own source more than the whole song does.
    for source, estimate in stems.items():
        truth = song.stems[source].ravel()
        of_estimate = np.corrcoef(estimate.ravel(), truth)[0, 1]
        of_mixture = np.corrcoef(song.mixture.ravel(), truth)[0, 1]
        assert of_estimate > of_mixture or source == "other", source


def test_separating_imports_no_tensorflow(python):
    code = (
        "import sys, numpy, sepkit;"
        "sepkit.separate(numpy.ones((9000, 2), 'f4'), 48000);"
        "sepkit.separate(numpy.ones((9000, 2), 'f4'), 44100, mode='report', pad=True);"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = python("-c", code).stdout.split()
    assert {"tensorflow", "keras", "librosa", "matplotlib", "museval"}.isdisjoint(loaded)
    assert "sepkit" in loaded


# Properties, with a small network.


@st.composite
def songs(draw):
    """Any short song: tones, noise, steps or silence, at any level, in one to three channels."""
    n_samples, channels = draw(st.integers(1, 30000)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    kind = draw(st.sampled_from(["noise", "tone", "click", "steps", "silence"]))
    sound = np.zeros((n_samples, channels))
    if kind == "noise":
        sound = rng.standard_normal(sound.shape)
    elif kind == "tone":
        sound += np.sin(np.arange(n_samples)[:, np.newaxis] * rng.uniform(0, np.pi, channels))
    elif kind == "click":
        sound[rng.integers(n_samples)] = 1
    elif kind == "steps":
        sound = np.sign(rng.standard_normal(sound.shape)).cumsum(axis=0) / 10
    return (10.0 ** draw(st.integers(-6, 4)) * sound).astype(np.float32)


@pytest.fixture(scope="module")
def small():
    sizes = weights.Sizes(n_timbres=4, n_patterns=3, n_shared=5)
    rng = np.random.default_rng(1)
    return {
        name: rng.uniform(-0.2, 0.3, shape).astype(np.float32)
        for name, shape in weights.shapes(sizes=sizes).items()
    }


@settings(max_examples=40, deadline=None)
@given(songs(), st.sampled_from([8000, 22050, RATE, 48000, 96000, 11025.5]), st.integers(1, 25))
def test_stems_of_any_song_have_its_shape_and_sum_to_it(small, song, rate, hop):
    stems = sepkit.separate(song, rate, model=small, hop=hop)
    assert all(stem.shape == song.shape and np.isfinite(stem).all() for stem in stems.values())
    peak = np.abs(song).max()
    np.testing.assert_allclose(sum(stems.values()), song, atol=1e-5 * peak)


@settings(max_examples=20, deadline=None)
@given(songs(), st.sampled_from([RATE, 48000]), st.integers(1, 25), st.data())
def test_blocks_of_any_sizes_give_the_stems_of_the_whole(small, song, rate, hop, data):
    cuts = data.draw(st.lists(st.integers(0, len(song)), max_size=5).map(sorted))
    blocks = np.split(song, cuts)
    options = {"model": small, "hop": hop}
    made = list(streaming.separate_stream(blocks, rate, song.shape[1], **options))
    whole = np.stack(list(sepkit.separate(song, rate, **options).values()))
    np.testing.assert_allclose(np.concatenate(made, axis=1), whole, atol=1e-5 * np.abs(song).max())


# What is refused.


@pytest.mark.parametrize("shape", [(), (2, 44100), (100, 2, 1), (100, 0)])
def test_audio_of_another_shape_is_refused(shape):
    with pytest.raises(ParameterError, match=r"give \(n_samples, n_channels\)") as error:
        sepkit.separate(np.zeros(shape, np.float32), RATE)
    one_line(error, shape)


@pytest.mark.parametrize("shape", [(0,), (0, 2)])
def test_a_song_without_samples_is_refused(shape):
    with pytest.raises(AudioError, match="no samples") as error:
        sepkit.separate(np.zeros(shape, np.float32), RATE)
    one_line(error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
@pytest.mark.parametrize("mode", ["song", "report"])
def test_a_song_that_is_not_finite_is_refused(value, mode):
    song = noise(1000)
    song[500, 1] = value
    with pytest.raises(AudioError, match="NaN, infinite") as error:
        sepkit.separate(song, RATE, mode=mode)
    one_line(error)


@pytest.mark.parametrize(
    "options",
    [{"rate": 0}, {"rate": -44100}, {"rate": float("nan")}, {"rate": float("inf")},
     {"rate": None}, {"rate": "44100"}, {"hop": 0}, {"hop": 26}, {"hop": 2.5}, {"hop": 5.0},
     {"hop": None}, {"mode": "fast"}],
)  # fmt: skip
def test_options_out_of_range_are_refused_by_name(options):
    with pytest.raises(ParameterError) as error:
        sepkit.separate(noise(1000), options.pop("rate", RATE), **options)
    one_line(error, *options)


@pytest.mark.parametrize("song", ["song.wav", None, np.zeros((100, 2), complex)])
def test_what_is_no_audio_is_refused(song):
    with pytest.raises(ParameterError, match="give an array of float") as error:
        sepkit.separate(song, RATE)
    one_line(error)


@pytest.mark.parametrize("model", [None, 3, object()])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ModelError, match="give a name") as error:
        sepkit.separate(noise(1000), RATE, model=model)
    one_line(error, type(model).__name__)


def test_weights_that_are_not_finite_are_refused(untrained):
    values = untrained | {"global_dense/bias": np.full(128, np.nan, np.float32)}
    with pytest.raises(ModelError, match="NaN") as error:
        sepkit.separate(noise(1000), RATE, model=values)
    one_line(error, "global_dense/bias")


@pytest.mark.parametrize("model", ["experiment9", "none.weights.h5", {}, {"a": np.zeros(3)}])
@pytest.mark.parametrize("mode", ["song", "report"])
def test_unknown_models_are_refused(model, mode):
    with pytest.raises(ModelError) as error:
        sepkit.separate(noise(1000), RATE, model=model, mode=mode, pad=True)
    one_line(error, model if isinstance(model, str) else "weights")
