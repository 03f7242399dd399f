"""Stems do not depend on threads, nor do threads suffer from a separation"""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.xdist_group("threads")

# Prints hashes of stems, and how many threads BLAS has before and after.
CODE = """
import hashlib, json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, sepkit, threadpoolctl

def blas():
    found = threadpoolctl.threadpool_info()
    return [library["num_threads"] for library in found if library["user_api"] == "blas"]

def stems(seed):
    sound = np.random.default_rng(seed).standard_normal((12 * 44100, 2)).astype(np.float32) / 10
    found = sepkit.separate(sound, 44100, engine=sys.argv[2])
    return [hashlib.sha256(stem.tobytes()).hexdigest() for stem in found.values()]

before = blas()
at_once = int(sys.argv[1])
with ThreadPoolExecutor(at_once) as pool:
    hashes = list(pool.map(stems, [0, 1, 0, 1]))
print(json.dumps({"hashes": hashes, "before": before, "after": blas()}))
"""


def separate(threads, at_once, engine="numpy"):
    """Separate four songs, two of them alike, in a process of its own."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
    environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", CODE, str(at_once), engine]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


@pytest.fixture(scope="module")
def alone():
    return separate(1, 1)


def test_two_songs_differ_and_one_is_always_the_same(alone):
    first, second, *again = alone["hashes"]
    assert first != second and again == [first, second]


@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_stems_are_equal_bit_for_bit_on_any_number_of_threads(alone, threads, at_once):
    assert separate(threads, at_once)["hashes"] == alone["hashes"]


@pytest.mark.parametrize(("threads", "at_once"), [(2, 1), (4, 4)])
def test_compiled_stems_are_equal_bit_for_bit_on_any_number_of_threads(threads, at_once):
    alone = separate(1, 1, "compiled")["hashes"]
    assert separate(threads, at_once, "compiled")["hashes"] == alone


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_blas_has_its_threads_back(at_once):
    for _ in range(3):
        found = separate(2, at_once)
        # A second library with a BLAS may have come in between.
        assert found["before"] and {*found["after"]} == {*found["before"]}
