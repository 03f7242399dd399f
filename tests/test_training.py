"""The pipeline, what is made small, learning, and exact resume."""

import h5py
import numpy as np
import pytest
from helpers import noise_track as track

from sepkit import datasets, losses, network, parameters, sampling, spectral
from sepkit.datasets import SOURCES
from sepkit.errors import ModelError

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
from sepkit import model as models  # noqa: E402
from sepkit import training  # noqa: E402


@pytest.fixture(scope="module")
def songs():
    return [track(seed) for seed in range(4)]


def adadelta(rate=0.01):
    return keras.optimizers.Adadelta(rate, rho=0.95, epsilon=1.0)


def blocks(songs, schedule, **options):
    return sampling.BlockBatches(songs, schedule, **options)


def test_the_pipeline_gives_the_batches_in_order_from_the_step_asked_for(songs):
    batches = blocks(songs, sampling.report_schedule(4, repetitions=1), batch_size=16, channels=2)
    read = [batch.numpy() for batch in training.read_ahead(batches, 1, 2)]
    assert len(read) == batches.count(1) - 2
    for i, batch in enumerate(read):
        np.testing.assert_array_equal(batch, batches.read(1, i + 2))


def test_differentiable_separation_equals_numpy_s():
    model = models.build_model(channels=2, seed=3)
    mixtures = np.random.default_rng(0).standard_normal((3, 7168, 2)).astype(np.float32)
    theirs = training.separate_segments(model, tf.constant(mixtures)).numpy()
    spectrum = spectral.frames_transform(mixtures)
    masks = network.masks(models.get_parameters(model), np.abs(spectrum))
    ours = np.moveaxis(spectral.frames_inverse(masks * spectrum), 0, -1)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(mixtures).max()


TRANSFORMS = [
    spectral.REPORT_TRANSFORM,
    spectral.Transform(window="blackman-harris"),
    spectral.Transform(512, "blackman-harris"),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_segments_come_back_exactly_between_their_faded_edges(transform):
    """Four equal masks sum to one: the stems of a segment sum to it, faded."""
    n_samples = transform.count_samples(25)
    mixtures = np.random.default_rng(0).standard_normal((2, n_samples, 1)).astype(np.float32)
    model = models.build_model(seed=3)
    stems = training.separate_segments(model, tf.constant(mixtures), transform=transform).numpy()
    assert stems.shape == (2, n_samples, 1, 4)
    edge = 1024 - transform.hop
    total = stems.sum(axis=-1)
    peak = np.abs(mixtures).max()
    assert np.abs(total - mixtures)[:, edge:-edge].max() <= 2e-6 * peak
    fade = transform.fade(n_samples)[:, np.newaxis]
    assert np.abs(total - fade * mixtures).max() <= 1e-5 * peak
    assert fade[0] < 0.01 and fade[-1] < 0.01


def test_another_transform_is_librosa_s_with_its_window():
    signal = pytest.importorskip("librosa")
    from scipy.signal.windows import blackmanharris

    sound = np.random.default_rng(1).standard_normal((2, 13312)).astype(np.float32)
    ours = training._stft(tf.constant(sound), spectral.Transform(512, "blackman-harris")).numpy()
    window = blackmanharris(1024, sym=True)
    np.testing.assert_allclose(window, window[::-1], rtol=1e-9)
    theirs = signal.stft(sound, n_fft=1024, hop_length=512, window=window, center=False)
    assert ours.shape == (2, 25, 513)
    np.testing.assert_allclose(ours, theirs.swapaxes(1, 2), atol=1e-4)


@pytest.mark.parametrize("objective", ["waveform", "faded waveform", "spectrum", "magnitude"])
def test_every_objective_takes_another_transform_and_longer_contexts(objective):
    """A perfect model of one source has nothing left to learn but what the edges fade."""
    transform = spectral.Transform(512, "blackman-harris")
    model = models.build_model(sizes=parameters.Sizes(context=30), seed=1)
    n_samples = transform.count_samples(30)
    quarter = np.random.default_rng(1).standard_normal((2, n_samples, 1, 1)).astype(np.float32)
    targets = tf.constant(np.repeat(quarter, 4, axis=-1))

    def squares(true, estimate):
        # Four equal sources: their estimates sum to what the objective compares four times.
        return tf.reduce_sum((tf.reduce_sum(true, -1) - tf.reduce_sum(estimate, -1)) ** 2)

    value = float(training.OBJECTIVES[objective](squares, transform=transform)(model, targets))
    energy = 16 * float(np.sum(quarter**2))
    if objective == "waveform":
        assert 0.01 * energy < value < 0.1 * energy
    else:
        assert value < 1e-8 * energy


def test_training_lowers_the_loss_on_band_songs():
    pytest.importorskip("midirenderer")
    tracks = [song.excerpt(4, 12) for song in datasets.band_songs(2, seed=1)]
    model = models.build_model()
    schedule = sampling.report_schedule(2, epochs=12, repetitions=1)
    history = training.fit(model, blocks(tracks, schedule), optimizer=adadelta())
    mean = [row["loss"] for row in history]
    assert len(mean) == 12
    assert mean[-1] < 0.8 * mean[0]


def in_blocks(songs, seed):
    schedule = sampling.report_schedule(4, size=3, step=1, epochs=2, repetitions=2)
    return blocks(songs, schedule, batch_size=16, seed=seed)


def remixed(songs, seed):
    return sampling.RemixBatches(songs, sampling.Remix(8, 3), batch_size=16, seed=seed)


def run(songs, folder, stops, seed=0, batches=in_blocks):
    """Train in as many goes as there are stops, each in a model and optimiser of its own."""
    for stop in stops:
        model, optimizer = models.build_model(seed=1), adadelta()
        history = training.fit(
            model,
            batches(songs, seed),
            optimizer=optimizer,
            checkpoint=folder / "state.h5",
            checkpoint_steps=4,
            stop_after=stop,
        )
    variables = [v.numpy() for v in (*model.trainable_variables, *optimizer.variables)]
    losses_ = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return variables, losses_


@pytest.mark.parametrize("batches", [in_blocks, remixed])
def test_stopped_within_an_epoch_and_resumed_it_equals_an_uninterrupted_run(
    songs, tmp_path, batches
):
    """Weights, the optimiser's slots, its step count, the order of segments and the losses."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, losses_whole = run(songs, tmp_path / "a", [None], batches=batches)
    parts, losses_parts = run(songs, tmp_path / "b", [5, 14, None], batches=batches)
    assert losses_whole == losses_parts
    assert len(losses_whole) == 8
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_is_another_run(songs, tmp_path):
    whole, _ = run(songs, tmp_path, [2])
    with pytest.raises(ModelError, match="another run"):
        run(songs, tmp_path, [None], seed=1)
    (tmp_path / "state.h5").unlink()
    other, _ = run(songs, tmp_path, [2], seed=1)
    assert any(not np.array_equal(a, b) for a, b in zip(whole, other, strict=True))


def test_a_checkpoint_that_is_none_is_refused(songs, tmp_path):
    (tmp_path / "state.h5").write_text("no")
    with pytest.raises(ModelError, match=r"state\.h5: not a checkpoint"):
        run(songs, tmp_path, [2])


def test_a_checkpoint_holds_plain_arrays_and_leaves_no_part_behind(songs, tmp_path):
    run(songs, tmp_path, [2])
    assert [path.name for path in tmp_path.iterdir()] == ["state.h5"]
    with h5py.File(tmp_path / "state.h5") as file:
        assert file.attrs["steps"] == 2
        assert len(file["variables"]) == 12 * 3 + 2


@pytest.mark.parametrize("level", [1e-16, 1e-20, 1e-30])
def test_compiled_gradients_are_finite_where_the_music_has_died_away(level):
    # A rendered instrument's last note fades to such numbers; before the first step no offset
    # lifts the decoders' drawings above them.
    model = models.build_model(sizes=parameters.Sizes(n_timbres=4, n_patterns=3, n_shared=8))
    noise = np.random.default_rng(0).standard_normal((2, spectral.SEGMENT, 1, 4))
    targets = tf.constant((level * noise).astype(np.float32))

    @tf.function(jit_compile=True)
    def gradients():
        with tf.GradientTape() as tape:
            value = training.waveform_objective()(model, targets)
        return tape.gradient(value, model.trainable_variables)

    assert all(np.isfinite(gradient).all() for gradient in gradients())


def test_the_loss_of_the_step_is_the_report_s(songs):
    """One step at rate zero: the loss equals that of separating with the same arrays in NumPy."""
    model = models.build_model(seed=2)
    batches = blocks(songs[:1], [sampling.Epoch(0, 0, 0, 0, 1)], batch_size=16, seed=4)
    history = training.fit(model, batches, optimizer=adadelta(0.0))
    targets = batches.read(0, 0)
    spectrum = spectral.frames_transform(targets.sum(axis=-1))
    masks = network.masks(parameters.initialize(seed=2), np.abs(spectrum))
    estimates = np.moveaxis(spectral.frames_inverse(masks * spectrum), 0, -1)
    np.testing.assert_allclose(
        history[0]["loss"], losses.report_loss(targets, estimates), rtol=1e-4
    )


def estimates_by_hand(model, targets):
    spectrum = spectral.frames_transform(targets.sum(axis=-1))
    masks = network.masks(models.get_parameters(model), np.abs(spectrum))
    return spectrum, np.moveaxis(masks, 0, -1)


def test_objectives_compare_what_their_names_say():
    model = models.build_model(channels=2, seed=5)
    targets = np.random.default_rng(3).standard_normal((4, 7168, 2, 4)).astype(np.float32)
    spectrum, masks = estimates_by_hand(model, targets)
    waveform = np.moveaxis(spectral.frames_inverse(np.moveaxis(masks, -1, 0) * spectrum), 0, -1)
    true = np.stack([spectral.frames_transform(targets[..., i]) for i in range(4)], axis=-1)
    faded = np.stack([spectral.frames_inverse(true[..., i]) for i in range(4)], axis=-1)
    estimate = masks * spectrum[..., np.newaxis]
    scale = 768**-0.5

    def parts(x):
        return scale * np.concatenate([x.real, x.imag], axis=1)

    wanted = {
        "waveform": losses.report_loss(targets, waveform),
        "faded waveform": losses.report_loss(faded, waveform),
        "spectrum": losses.report_loss(parts(true), parts(estimate)),
        "magnitude": losses.report_loss(scale * np.abs(true), scale * np.abs(estimate)),
    }
    assert {*wanted, "waveform, accompaniment"} == training.OBJECTIVES.keys()
    for name, value in wanted.items():
        ours = float(training.OBJECTIVES[name]()(model, tf.constant(targets)))
        np.testing.assert_allclose(ours, value, rtol=1e-4)


def test_the_accompaniment_is_asked_of_a_fifth_decoder_and_the_four_keep_their_masks():
    name = "waveform, accompaniment"
    model = models.build_model(sources=[*SOURCES, *training.EXTRA_SOURCES[name]], seed=5)
    targets = np.random.default_rng(3).standard_normal((4, 7168, 1, 4)).astype(np.float32)
    spectrum, drawn = estimates_by_hand(model, targets)
    four = drawn[..., :4] / drawn[..., :4].sum(axis=-1, keepdims=True)
    fifth = drawn[..., 4] / (drawn[..., 4] + drawn[..., SOURCES.index("vocals")])
    estimates = spectral.frames_inverse(np.moveaxis(four, -1, 0) * spectrum)
    error = targets[..., :3].sum(axis=-1) - spectral.frames_inverse(fifth * spectrum)
    wanted = losses.report_loss(targets, np.moveaxis(estimates, 0, -1)) + np.sum(error**2) / 4
    ours = float(training.OBJECTIVES[name]()(model, tf.constant(targets)))
    np.testing.assert_allclose(ours, wanted, rtol=1e-4)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_spectrum_s_energy_is_scaled_to_that_of_its_waveform(transform):
    n_samples = transform.count_samples(25)
    sound = np.random.default_rng(0).standard_normal((2, n_samples, 1, 4)).astype(np.float32)
    spectra = training._spectra(tf.constant(sound), transform).numpy()
    middle = sound[:, 768:-768]
    ratio = np.sum(np.abs(spectra) ** 2) / np.sum(middle**2)
    assert 1.0 < ratio < 1.3  # the edges count too, in part


def test_averaged_weights_lag_behind_and_end_in_the_model(songs):
    def trained(**options):
        model = models.build_model(seed=1)
        batches = remixed(songs, 0)
        optimizer = keras.optimizers.Adam(1e-3, **options)
        training.fit(model, batches, optimizer=optimizer)
        return model.get_weights()

    start = models.build_model(seed=1).get_weights()
    plain = trained()
    averaged = trained(use_ema=True, ema_momentum=0.9)
    moved = [np.linalg.norm(a - b) for a, b in zip(plain, start, strict=True)]
    lagging = [np.linalg.norm(a - b) for a, b in zip(averaged, start, strict=True)]
    assert all(0 < a < b for a, b in zip(lagging, moved, strict=True))
