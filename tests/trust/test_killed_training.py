"""A training that was killed and resumed ends as one that was not"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import noise

from sepkit import audio, weights
from sepkit.tracks import RATE, SOURCES

KILLS = 20
SCRIPT = Path(__file__).with_name("tiny_training.py")

pytestmark = pytest.mark.xdist_group("training")


def start(place, name):
    """Start or resume a training in a folder of its own."""
    (place / name).mkdir(exist_ok=True)
    command = [sys.executable, SCRIPT, "--dataset", "../songs", "-o", ".", "--checkpoint", "state"]
    with (place / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            command, cwd=place / name, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )


def wait_for(process, happened, seconds=120):
    """Wait until something has happened; False if the process ended before."""
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if happened():
            return True
        assert time.monotonic() < deadline, "the training makes no progress"
        time.sleep(0.0005)
    return False


def written(path):
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the results of two trainings, whole and killed, and how often it was killed."""
    pytest.importorskip("tensorflow")
    place = tmp_path_factory.mktemp("training")
    for i in range(2):
        song = place / "songs" / str(i)
        song.mkdir(parents=True)
        for j, source in enumerate(SOURCES):
            audio.write(song / f"{source}.wav", noise(50000, 1, seed=10 * i + j), RATE)
    assert start(place, "whole").wait() == 0, (place / "whole.log").read_text()

    rng = np.random.default_rng(0)
    state = place / "killed" / "state"
    kills = 0
    for number in range(KILLS):
        process = start(place, "killed")
        before = written(state)
        if not wait_for(process, lambda before=before: written(state) != before):
            break
        if number % 2:  # in the middle of a checkpoint
            wait_for(process, lambda: any(state.parent.glob(".*")))
        else:
            time.sleep(rng.uniform(0, 0.3))
        process.kill()
        kills += process.wait() == -9
    assert start(place, "killed").wait() == 0, (place / "killed.log").read_text()
    (place / f"{kills} kills").touch()
    return place


def test_it_was_killed_twenty_times(place):
    assert (place / f"{KILLS} kills").exists(), [*place.glob("* kills")]


def test_the_weights_are_those_of_an_uninterrupted_run_bit_for_bit(place):
    whole, killed = (weights.load(place / name / "tiny.weights.h5") for name in ("whole", "killed"))
    first = weights.initialize(seed=0, sizes=weights.infer_sizes(whole))
    assert all((whole[name] != first[name]).any() for name in whole), "nothing was learnt"
    for name, value in whole.items():
        np.testing.assert_array_equal(value, killed[name], err_msg=name)


def test_no_partial_file_stays(place):
    made = sorted(path.name for path in (place / "killed").iterdir())
    assert made == sorted(path.name for path in (place / "whole").iterdir())
