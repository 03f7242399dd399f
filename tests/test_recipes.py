"""The losses of the first steps of each experiment and each objective, stored.

A changed recipe (initial weights, batches, loss, optimiser, STFT) changes them. After a change that
is meant, ``python tests/test_recipes.py`` stores them anew.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

STORED = Path(__file__).with_name("recipes.json")
N_STEPS = 3


def recipes():
    """Experiments by name: all of EXPERIMENTS, and one for each objective, loss, tie and STFT."""
    from sepkit.stft import Transform
    from sepkit.study import experiments, objectives
    from sepkit.weights import Sizes

    small = replace(
        experiments.get_experiment("experiment1"),
        sizes=Sizes(n_timbres=8, n_patterns=4, n_shared=16),
    )
    found = dict(experiments.EXPERIMENTS)
    found["small"] = small
    for name in [n for n in objectives.OBJECTIVES if n != small.objective]:
        found[f"objective {name}"] = replace(small, objective=name)
    for name in [n for n in objectives.LOSSES if n != small.loss]:
        found[f"loss {name}"] = replace(small, loss=name)
    for name in [n for n in objectives.TIES if n != small.tie]:
        found[f"tie {name}"] = replace(small, tie=name)
    found["hop 512, Blackman-Harris"] = replace(small, transform=Transform(512, "blackman-harris"))
    found["contexts of 30 frames"] = replace(small, sizes=replace(small.sizes, context=30))
    found["a segment every 5 frames"] = replace(small, segment_step=5)
    return found


def losses_of(experiment):
    """Train a few steps on noise and return the loss of each."""
    import tensorflow as tf
    from helpers import noise_track

    from sepkit import model
    from sepkit.study import experiments, objectives
    from sepkit.tracks import SOURCES

    songs = [noise_track(seed, n_segments=8) for seed in range(3)]
    batches = experiments.make_batches(
        replace(experiment, batch_size=4), experiments.open_store(experiment, songs), seed=0
    )
    network = model.build_model(
        sources=[*SOURCES, *objectives.EXTRA_SOURCES.get(experiment.objective, ())],
        channels=experiment.channels,
        sizes=experiment.sizes,
        layer=objectives.TIES[experiment.tie],
    )
    optimizer = experiments.make_optimizer(experiment)
    optimizer.build(network.trainable_variables)
    objective = experiments.make_objective(experiment)
    losses = []
    for i in range(N_STEPS):
        # Not compiled, which would take most of the time; test_training compiles.
        with tf.GradientTape() as tape:
            value = objective(network, tf.constant(batches.read(0, i)))
        optimizer.apply(tape.gradient(value, network.trainable_variables))
        losses.append(float(value))
    return losses


@pytest.mark.parametrize("name", json.loads(STORED.read_text()))
def test_the_first_losses_are_the_stored_ones(name):
    pytest.importorskip("tensorflow")
    stored = json.loads(STORED.read_text())[name]
    losses = losses_of(recipes()[name])
    # The first tells data, initial weights and loss; what follows also the optimiser. Processors
    # and versions differ in the last bits, which a step may magnify.
    np.testing.assert_allclose(losses[0], stored[0], rtol=1e-5)
    np.testing.assert_allclose(losses, stored, rtol=2e-3)


def test_every_change_of_a_recipe_changes_its_losses():
    stored = json.loads(STORED.read_text())
    assert len({tuple(losses) for losses in stored.values()}) == len(stored)


def test_every_experiment_objective_loss_and_tie_has_stored_losses():
    pytest.importorskip("tensorflow")
    assert json.loads(STORED.read_text()).keys() == recipes().keys()


if __name__ == "__main__":
    stored = {name: losses_of(experiment) for name, experiment in recipes().items()}
    STORED.write_text(json.dumps(stored, indent=1) + "\n")
