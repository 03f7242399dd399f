"""Songs on a cluster's workers, training on several devices: the same results as on one."""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
from helpers import noise

from sepkit import audio, cli, weights
from sepkit.study import evaluation
from sepkit.tracks import SOURCES, Track

TRAIN = """
import json, sys
import keras
import tensorflow as tf
from helpers import noise_track
from sepkit import training, weights
from sepkit.batches import SongStore
from sepkit.errors import ModelError
from sepkit.model import build_model
from sepkit.study.objectives import magnitude_objective
from sepkit.study.remix import Remix, RemixBatches

def train(batch_size=8):
    songs = [noise_track(seed) for seed in range(2)]
    small = weights.Sizes(n_timbres=8, n_patterns=4, n_shared=16)
    model = build_model(sizes=small, seed=1)
    history = training.fit(
        model,
        RemixBatches(SongStore(songs, channels=2), Remix(4, 4), batch_size=batch_size, seed=0),
        # Adadelta's steps make of a difference in the last bit one in the third digit.
        optimizer=keras.optimizers.SGD(1e-6),
        objective=magnitude_objective(),  # which compiles fast
    )
    return [row["loss"] for row in history], model
"""

DEVICES = """
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
one, _ = train()
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    both, mirrored = train()
    copies = len(mirrored.trainable_variables[0].value.values)
    try:
        train(batch_size=7)
    except ModelError as error:
        odd = str(error)
print(json.dumps([one, both, copies, odd]))
"""

WORKER = """
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    loss, model = train()
print(json.dumps([loss, [float(abs(w).sum()) for w in model.get_weights()]]))
"""


def white_stems(seed):
    """A second of stems whose filters museval can tell apart."""
    return {s: noise(44100, seed=10 * seed + i) for i, s in enumerate(SOURCES)}


@pytest.fixture(scope="module")
def cluster():
    """A Dask cluster of two worker processes on this machine."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        distributed.LocalCluster(**options, dashboard_address=None) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


def test_songs_scored_by_a_cluster_s_workers_have_the_same_scores(cluster):
    network = weights.initialize(seed=1)
    songs = [Track(f"noise {i}", "noise", "MIT", 44100, partial(white_stems, i)) for i in range(3)]
    alone = evaluation.evaluate(network, songs, hop=25, n_jobs=1)
    with joblib.parallel_config(backend="dask"):
        together = evaluation.evaluate(network, songs, hop=25)
    assert [song.name for song in together.songs] == [song.name for song in songs]
    for measure in evaluation.MEASURES:
        for a, b in zip(alone.songs, together.songs, strict=True):
            np.testing.assert_allclose(a.scores[measure], b.scores[measure], atol=1e-4)
    logs = cluster.get_worker_logs()
    assert len(logs) == 2


def test_a_folder_of_songs_is_separated_by_a_cluster_s_workers(cluster, tmp_path):
    songs = [tmp_path / f"song{i}.wav" for i in range(3)]
    for i, song in enumerate(songs):
        audio.write(song, noise(20_000, seed=i), 44100)

    def separate(song, place):
        return ["separate", str(song), "--hop", "25", "-n", "experiment1",
                "--output", str(tmp_path / place / song.stem)]  # fmt: skip

    with joblib.parallel_config(backend="dask"):
        run = joblib.Parallel()
        assert run(joblib.delayed(cli.main)(separate(s, "together")) for s in songs) == [0, 0, 0]
    for song in songs:
        assert cli.main(separate(song, "alone")) == 0
        for source in SOURCES:
            a, b = (
                audio.read(tmp_path / place / song.stem / f"{source}.wav")[0]
                for place in ("alone", "together")
            )
            np.testing.assert_allclose(a, b, atol=1e-6)


def program(text):
    """Write a program that trains as all of these do."""
    return f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n{TRAIN}{text}"


def last_line(text):
    return json.loads(text.splitlines()[-1])


@pytest.fixture(scope="module")
def devices():
    """Losses of one device, of two with half of each batch, and what else was seen."""
    pytest.importorskip("tensorflow")
    return last_line(start(program(DEVICES)).communicate()[0])


def start(code, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def free_port():
    with socket.socket() as connection:
        connection.bind(("localhost", 0))
        return connection.getsockname()[1]


def test_two_devices_learn_what_one_does_from_the_same_batches(devices):
    one, both, copies, odd = devices
    assert copies == 2
    assert len(one) == 4 and one[-1] < 0.95 * one[0]
    np.testing.assert_allclose(one, both, rtol=1e-5)
    assert "7 segments do not divide by 2 replicas" in odd


def test_two_workers_that_speak_over_a_network_learn_it_too(devices):
    """Keras' own fit fails here."""
    cluster = {"worker": [f"localhost:{free_port()}" for _ in range(2)]}
    workers = [
        start(
            program(WORKER),
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}),
        )
        for i in range(2)
    ]
    try:
        (first, weights), second = (last_line(w.communicate(timeout=600)[0]) for w in workers)
    finally:
        for worker in workers:
            worker.kill()
    assert second == [first, weights]
    np.testing.assert_allclose(first, devices[0], rtol=1e-5)
