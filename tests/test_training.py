"""The schedule, the pipeline, learning, and exact resume."""

from functools import partial

import h5py
import numpy as np
import pytest

from sepkit import datasets, losses, network, parameters, spectral
from sepkit.errors import DatasetError, ModelError, ParameterError

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
from sepkit import model as models  # noqa: E402
from sepkit import training  # noqa: E402


def noise_stems(seed, n_samples, n_channels=2):
    """Stems that differ in colour, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    bands = [(1, 12), (12, 80), (80, 200), (200, 480)]
    stems = {}
    for source, (low, high) in zip(datasets.SOURCES, bands, strict=True):
        spectrum = np.fft.rfft(rng.standard_normal((n_samples, n_channels)), axis=0)
        keep = np.zeros(len(spectrum))
        keep[len(keep) * low // 513 : len(keep) * high // 513] = 1
        sound = np.fft.irfft(spectrum * keep[:, None], n_samples, axis=0)
        stems[source] = (0.1 * sound / sound.std()).astype(np.float32)
    return stems


def track(seed, n_segments=20, n_channels=2):
    reader = partial(noise_stems, seed, n_segments * spectral.SEGMENT - 100, n_channels)
    return datasets.Track(f"noise {seed}", "noise", "MIT", 44100, reader)


@pytest.fixture(scope="module")
def songs():
    return [track(seed) for seed in range(4)]


def adadelta(rate=0.01):
    return keras.optimizers.Adadelta(rate, rho=0.95, epsilon=1.0)


def test_the_report_s_schedule_is_nine_half_overlapping_blocks_of_ten():
    schedule = training.report_schedule()
    assert len(schedule) == 3 * 9 * 10
    blocks = list(dict.fromkeys((epoch.first, epoch.last) for epoch in schedule))
    assert blocks == [(5 * i, 5 * i + 10) for i in range(9)]
    assert [e.repetition for e in schedule] == sorted(e.repetition for e in schedule)
    assert [(e.first, e.epoch) for e in schedule[:12]] == [(0, i) for i in range(10)] + [
        (5, 0),
        (5, 1),
    ]


def test_few_songs_make_one_block_and_zero_is_refused():
    assert {(e.first, e.last) for e in training.report_schedule(3)} == {(0, 3)}
    with pytest.raises(ParameterError):
        training.report_schedule(epochs=0)


def test_segments_keep_the_left_channel_and_the_sources_in_order(songs):
    store = training.SegmentStore(songs[:2], channels=1)
    assert store.segments.shape == (40, 7168, 1, 4)
    np.testing.assert_array_equal(store.starts, [0, 20, 40])
    for i, source in enumerate(datasets.SOURCES):
        left = songs[1].stems[source][:7168, 0]
        np.testing.assert_array_equal(store.segments[20, :, 0, i], left)
    assert not store.segments[39, -100:].any()


def test_an_epoch_takes_its_block_s_segments_once_each_and_drops_the_same_tail(songs):
    store = training.SegmentStore(songs, channels=1)
    epoch = training.Epoch(0, 0, 0, 1, 3)
    order = store.order(epoch, 32, (0, 0))
    assert order.shape == (1, 32)
    assert sorted(order.flat) == list(range(20, 52))
    assert not np.array_equal(order, store.order(epoch, 32, (0, 1)))
    np.testing.assert_array_equal(order, store.order(epoch, 32, (0, 0)))


def test_the_pipeline_gives_the_segments_in_the_order_asked_for(songs):
    store = training.SegmentStore(songs[:1], channels=2)
    order = np.array([[3, 1], [0, 19]])
    read = np.stack([batch.numpy() for batch in training.batches(store, order)])
    np.testing.assert_array_equal(read, store.segments[order])


def test_differentiable_separation_equals_numpy_s():
    model = models.build_model(channels=2, seed=3)
    mixtures = np.random.default_rng(0).standard_normal((3, 7168, 2)).astype(np.float32)
    theirs = training.separate_segments(model, tf.constant(mixtures)).numpy()
    spectrum = spectral.frames_transform(mixtures)
    masks = network.masks(models.get_parameters(model), np.abs(spectrum))
    ours = np.moveaxis(spectral.frames_inverse(masks * spectrum), 0, -1)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(mixtures).max()


def test_training_lowers_the_loss_on_band_songs():
    pytest.importorskip("midirenderer")
    tracks = [song.excerpt(4, 12) for song in datasets.band_songs(2, seed=1)]
    model = models.build_model()
    history = training.fit(
        model,
        tracks,
        schedule=training.report_schedule(2, epochs=12, repetitions=1),
        optimizer=adadelta(),
    )
    mean = [row["loss"] for row in history]
    assert len(mean) == 12
    assert mean[-1] < 0.8 * mean[0]


def run(songs, folder, stops, seed=0):
    """Train in as many goes as there are stops, each in a model and optimiser of its own."""
    for stop in stops:
        model, optimizer = models.build_model(seed=1), adadelta()
        history = training.fit(
            model,
            songs,
            schedule=training.report_schedule(4, size=3, step=1, epochs=2, repetitions=2),
            optimizer=optimizer,
            batch_size=16,
            seed=seed,
            checkpoint=folder / "state.h5",
            checkpoint_steps=4,
            stop_after=stop,
        )
    variables = [v.numpy() for v in (*model.trainable_variables, *optimizer.variables)]
    losses_ = [(row["repetition"], row["block"], row["epoch"], row["loss"]) for row in history]
    return variables, losses_


def test_stopped_within_a_block_and_resumed_it_equals_an_uninterrupted_run(songs, tmp_path):
    """Weights, the optimiser's slots, its step count, the order of segments and the losses."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, losses_whole = run(songs, tmp_path / "a", [None])
    parts, losses_parts = run(songs, tmp_path / "b", [5, 14, None])
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


def test_songs_that_do_not_do_are_named(songs):
    options = {"schedule": training.report_schedule(1), "optimizer": adadelta()}
    with pytest.raises(DatasetError, match="noise 9: 1 channel"):
        training.fit(models.build_model(channels=2), [track(9, n_channels=1)], **options)
    with pytest.raises(DatasetError, match="fills no batch"):
        training.fit(models.build_model(), [track(9, n_segments=3)], **options)
    with pytest.raises(DatasetError, match="no songs"):
        training.fit(models.build_model(), [], **options)


def test_the_loss_of_the_step_is_the_report_s(songs):
    """One step at rate zero: the loss equals that of separating with the same arrays in NumPy."""
    model = models.build_model(seed=2)
    store = training.SegmentStore(songs[:1], channels=1)
    epoch = training.Epoch(0, 0, 0, 0, 1)
    history = training.fit(
        model, songs[:1], schedule=[epoch], optimizer=adadelta(0.0), batch_size=16, seed=4
    )
    targets = store.segments[store.order(epoch, 16, (4, 0))[0]]
    spectrum = spectral.frames_transform(targets.sum(axis=-1))
    masks = network.masks(parameters.initialize(seed=2), np.abs(spectrum))
    estimates = np.moveaxis(spectral.frames_inverse(masks * spectrum), 0, -1)
    np.testing.assert_allclose(
        history[0]["loss"], losses.report_loss(targets, estimates), rtol=1e-4
    )
