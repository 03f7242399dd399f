"""Training: segments separated differentiably, learning, checkpoints."""

import errno
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import noise_track as track
from helpers import one_line

from sepkit import losses, network, stft, weights
from sepkit.batches import BlockBatches, Epoch, SongStore, report_schedule
from sepkit.errors import ModelError, ParameterError, SepkitError
from sepkit.study import band
from sepkit.study.remix import Remix, RemixBatches

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
from sepkit import model as models  # noqa: E402
from sepkit import training  # noqa: E402
from sepkit.study import objectives  # noqa: E402

TRANSFORMS = [
    stft.REPORT_TRANSFORM,
    stft.Transform(window="blackman-harris"),
    stft.Transform(512, "blackman-harris"),
]


@pytest.fixture(scope="module")
def songs():
    return [track(seed) for seed in range(4)]


def adadelta(rate=0.01):
    return keras.optimizers.Adadelta(rate, rho=0.95, epsilon=1.0)


def blocks(songs, schedule, channels=1, **options):
    return BlockBatches(SongStore(songs, channels=channels), schedule, **options)


def remixed(songs, seed=0):
    return RemixBatches(SongStore(songs, channels=2), Remix(8, 3), batch_size=16, seed=seed)


def test_the_pipeline_yields_the_batches_in_order(songs):
    batches = blocks(songs, report_schedule(4, repetitions=1), 2, batch_size=16)
    read = [batch.numpy() for batch in training._prefetch(batches, 1)]
    assert len(read) == batches.count(1)
    for i, batch in enumerate(read):
        np.testing.assert_array_equal(batch, batches.read(1, i))


def test_differentiable_separation_equals_numpys():
    model = models.build_model(channels=2, seed=3)
    mixtures = np.random.default_rng(0).standard_normal((3, 7168, 2)).astype(np.float32)
    theirs = training.separate_batch(model, tf.constant(mixtures)).numpy()
    spectrum = stft.transform_frames(mixtures)
    masks = network.masks(models.get_weights(model), np.abs(spectrum))
    ours = np.moveaxis(stft.invert_frames(masks * spectrum), 0, 1)
    assert theirs.shape == (3, 4, 7168, 2)
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(mixtures).max()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_segments_come_back_exactly_between_their_faded_edges(transform):
    """Four equal masks sum to one: the stems of a segment sum to it, faded."""
    n_samples = transform.count_samples(25)
    mixtures = np.random.default_rng(0).standard_normal((2, n_samples, 1)).astype(np.float32)
    model = models.build_model(seed=3)
    stems = training.separate_batch(model, tf.constant(mixtures), transform=transform).numpy()
    assert stems.shape == (2, 4, n_samples, 1)
    edge = 1024 - transform.hop_length
    total = stems.sum(axis=1)
    peak = np.abs(mixtures).max()
    assert np.abs(total - mixtures)[:, edge:-edge].max() <= 2e-6 * peak
    fade = objectives.fading(n_samples, transform)[:, np.newaxis]
    assert np.abs(total - fade * mixtures).max() <= 1e-5 * peak
    assert fade[0] < 0.01 and fade[-1] < 0.01


def test_another_transform_is_librosas_with_its_window():
    librosa = pytest.importorskip("librosa")
    from scipy.signal.windows import blackmanharris

    sound = np.random.default_rng(1).standard_normal((2, 13312)).astype(np.float32)
    transform = stft.Transform(512, "blackman-harris")
    ours = training.stft_segments(tf.constant(sound), transform).numpy()
    window = blackmanharris(1024, sym=True)
    theirs = librosa.stft(sound, n_fft=1024, hop_length=512, window=window, center=False)
    assert ours.shape == (2, 25, 513)
    np.testing.assert_allclose(ours, theirs.swapaxes(1, 2), atol=1e-4)


def test_training_lowers_the_loss_on_band_songs():
    pytest.importorskip("midirenderer")
    tracks = [song.excerpt(4, 12) for song in band.band_songs(2, seed=1)]
    schedule = report_schedule(2, epochs=12, repetitions=1)
    history = training.fit(models.build_model(), blocks(tracks, schedule), optimizer=adadelta())
    mean = [row["loss"] for row in history]
    assert len(mean) == 12
    assert mean[-1] < 0.8 * mean[0]


def in_blocks(songs, seed=0):
    schedule = report_schedule(4, size=3, step=1, epochs=2, repetitions=2)
    return blocks(songs, schedule, batch_size=16, seed=seed)


class Killed(Exception):
    """What stops a training in the middle."""


def killed_in(epoch, prefetch):
    """Read batches ahead, but raise an error at the second step of an epoch."""

    def read(batches, now):
        for step, batch in enumerate(prefetch(batches, now)):
            if (now, step) == (epoch, 1):
                raise Killed
            yield batch

    return read


def run(batches, checkpoint, *, recipe=(), seed=1, rate=0.01):
    """Train a fresh model with a fresh optimiser; return all variables and the history."""
    model, optimizer = models.build_model(seed=seed), adadelta(rate)
    history = training.fit(
        model,
        batches,
        optimizer=optimizer,
        checkpoint=checkpoint,
        recipe=dict(recipe),
        checkpoint_seconds=0,
    )
    variables = [v.numpy() for v in (*model.trainable_variables, *optimizer.variables)]
    return variables, [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.mark.parametrize("batches", [in_blocks, remixed])
def test_stopped_twice_and_resumed_it_equals_an_uninterrupted_run(songs, tmp_path, batches):
    """Weights, the optimiser's variables, its step count, the order of segments, the losses."""
    whole, losses_whole = run(batches(songs), tmp_path / "a.h5")
    for epoch in (1, 4):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(training, "_prefetch", killed_in(epoch, training._prefetch))
            run(batches(songs), tmp_path / "b.h5")
    parts, losses_parts = run(batches(songs), tmp_path / "b.h5")
    assert losses_whole == losses_parts
    assert len(losses_whole) == 8
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)


def checkpoint_of(songs, path, **options):
    return run(blocks(songs, [Epoch(0, 0, 0, 0, 2)], batch_size=16), path, **options)


def test_a_checkpoint_of_another_run_is_refused_by_what_differs(songs, tmp_path):
    path = tmp_path / "state.h5"
    checkpoint_of(songs, path, recipe={"experiment": {"loss": "report"}})

    def refused(says, batches=None, **options):
        batches = batches or blocks(songs, [Epoch(0, 0, 0, 0, 2)], batch_size=16)
        options = {"recipe": {"experiment": {"loss": "report"}}, **options}
        with pytest.raises(ModelError, match="checkpoint of another run") as error:
            run(batches, path, **options)
        assert says in str(error.value) and len(str(error.value).splitlines()) == 1

    refused('recipe experiment loss is "report" there and "other" here',
            recipe={"experiment": {"loss": "other"}})  # fmt: skip
    refused("recipe seed is null there and 1 here",
            recipe={"experiment": {"loss": "report"}, "seed": 1})  # fmt: skip
    refused("optimiser learning_rate", rate=0.5)
    refused("initial weights", seed=2)
    epoch = [Epoch(0, 0, 0, 0, 2)]
    refused("batches seed", blocks(songs, epoch, batch_size=16, seed=1))
    refused("batches shape", blocks(songs, epoch, batch_size=8))
    refused("batches schedule", blocks(songs, [Epoch(0, 0, 0, 0, 3)], batch_size=16))
    refused("batches songs", blocks(songs[::-1], epoch, batch_size=16))
    stems = {source: stem.copy() for source, stem in songs[1].stems.items()}
    stems["vocals"][0, 0] += 1e-4
    touched = type(songs[1])("noise 1", "noise", "MIT", 44100, lambda: stems)
    refused("batches songs noise 1",
            blocks([songs[0], touched, *songs[2:]], epoch, batch_size=16))  # fmt: skip


def test_a_checkpoint_needs_a_recipe_that_tells_runs_apart(songs, tmp_path):
    batches = blocks(songs, [Epoch(0, 0, 0, 0, 2)], batch_size=16)
    with pytest.raises(ParameterError, match="recipe"):
        training.fit(models.build_model(), batches, optimizer=adadelta(),
                     checkpoint=tmp_path / "state.h5")  # fmt: skip


def test_a_file_that_is_no_checkpoint_is_refused(songs, tmp_path):
    (tmp_path / "state.h5").write_text("no")
    with pytest.raises(ModelError, match=r"state\.h5: not a checkpoint"):
        checkpoint_of(songs, tmp_path / "state.h5")


def test_a_checkpoint_with_damaged_json_is_refused(songs, tmp_path):
    checkpoint_of(songs, tmp_path / "state.h5")
    with h5py.File(tmp_path / "state.h5", "a") as file:
        text = file["history"][()].decode()
        del file["history"]
        file["history"] = text[:-1]
    with pytest.raises(ModelError, match=r"state\.h5: not a checkpoint"):
        checkpoint_of(songs, tmp_path / "state.h5")


def test_a_checkpoint_holds_plain_arrays_and_leaves_no_part_behind(songs, tmp_path):
    checkpoint_of(songs, tmp_path / "state.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["state.h5"]
    with h5py.File(tmp_path / "state.h5") as file:
        assert len(file["variables"]) == 12 * 3 + 2
        assert json.loads(file["history"][()])[0]["steps"] == 2


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_first_step(
    songs, tmp_path, monkeypatch
):
    monkeypatch.setattr(training, "_prefetch", killed_in(0, training._prefetch))
    path = tmp_path / "none" / "state.h5"
    with pytest.raises(SepkitError, match="No such file") as error:
        checkpoint_of(songs, path)
    one_line(error, path)


def test_a_disk_that_fills_up_in_training_leaves_the_former_checkpoint(
    songs, tmp_path, monkeypatch
):
    path, write, written = tmp_path / "state.h5", Path.write_bytes, []

    def fill(self, content):
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "")

    def once(self, content):
        write(self, content)
        written.append(bytes(content))
        monkeypatch.setattr(Path, "write_bytes", fill)

    monkeypatch.setattr(Path, "write_bytes", once)
    with pytest.raises(SepkitError, match="No space left") as error:
        run(in_blocks(songs), path)
    one_line(error, path, "make room")
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == written[0]
    monkeypatch.undo()
    _, history = run(in_blocks(songs), path)
    assert len(history) == 8


def test_a_checkpoint_that_cannot_be_read_is_not_to_be_deleted(songs, tmp_path, monkeypatch):
    checkpoint_of(songs, tmp_path / "state.h5")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "long story\nof HDF5")

    monkeypatch.setattr(training.h5py, "File", refuse)
    with pytest.raises(ModelError, match="Permission denied") as error:
        checkpoint_of(songs, tmp_path / "state.h5")
    one_line(error, tmp_path / "state.h5")
    assert "delete" not in str(error.value)


def test_a_loss_of_nan_ends_the_training_with_its_epoch(songs):
    def objective(model, targets):
        return 0 * training.waveform_objective()(model, targets) + np.nan

    batches = blocks(songs, [Epoch(0, 3, 0, 0, 2), Epoch(0, 3, 1, 0, 2)], batch_size=16)
    with pytest.raises(ModelError, match="no longer finite") as error:
        training.fit(models.build_model(), batches, optimizer=adadelta(), objective=objective)
    one_line(error, "'block': 3", "'epoch': 0")


@pytest.mark.parametrize("level", [1e-16, 1e-20, 1e-30])
def test_compiled_gradients_are_finite_where_the_music_has_died_away(level):
    # The last note of a rendered instrument decays to such numbers; before the first step no bias
    # lifts the decoders' outputs above them.
    model = models.build_model(sizes=weights.Sizes(n_timbres=4, n_patterns=3, n_shared=8))
    noise = np.random.default_rng(0).standard_normal((2, 4, stft.SEGMENT_LENGTH, 1))
    targets = tf.constant((level * noise).astype(np.float32))

    @tf.function(jit_compile=True)
    def gradients():
        with tf.GradientTape() as tape:
            value = training.waveform_objective()(model, targets)
        return tape.gradient(value, model.trainable_variables)

    assert all(np.isfinite(gradient).all() for gradient in gradients())


def test_the_loss_of_a_step_is_the_reports(songs):
    """One step at rate zero: the loss equals that of separating with the same weights in NumPy."""
    model = models.build_model(seed=2)
    batches = blocks(songs[:1], [Epoch(0, 0, 0, 0, 1)], batch_size=16, seed=4)
    history = training.fit(model, batches, optimizer=adadelta(0.0))
    targets = batches.read(0, 0)
    spectrum = stft.transform_frames(targets.sum(axis=1))
    masks = network.masks(weights.initialize(seed=2), np.abs(spectrum))
    estimates = np.moveaxis(stft.invert_frames(masks * spectrum), 0, 1)
    wanted = losses.report_loss(targets, estimates, axis=1)
    np.testing.assert_allclose(history[0]["loss"], wanted, rtol=1e-4)


def test_averaged_weights_lag_behind_and_end_in_the_model(songs):
    def trained(**options):
        model = models.build_model(seed=1)
        optimizer = keras.optimizers.Adam(1e-3, **options)
        training.fit(model, remixed(songs), optimizer=optimizer)
        return model.get_weights()

    start = models.build_model(seed=1).get_weights()
    plain = trained()
    averaged = trained(use_ema=True, ema_momentum=0.9)
    moved = [np.linalg.norm(a - b) for a, b in zip(plain, start, strict=True)]
    lagging = [np.linalg.norm(a - b) for a, b in zip(averaged, start, strict=True)]
    assert all(0 < a < b for a, b in zip(lagging, moved, strict=True))
