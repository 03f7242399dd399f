"""Train a tiny experiment by the command line, with a checkpoint after every epoch."""

import functools
import sys

from sepkit import cli, training
from sepkit.study import experiments
from sepkit.study.experiments import Experiment
from sepkit.weights import Sizes

tiny = Experiment(
    "tiny",
    "Two songs, two hundred short epochs.",
    sizes=Sizes(n_timbres=8, n_patterns=4, n_shared=16),
    block_size=2,
    epochs=200,
    repetitions=1,
    batch_size=4,
)
experiments.EXPERIMENTS = {"tiny": tiny}
training.fit = functools.partial(training.fit, checkpoint_seconds=0)
sys.exit(cli.main(["train", "--experiment", "tiny", *sys.argv[1:]]))
