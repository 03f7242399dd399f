"""Weights from a stranger run no code, read no other file and fill no memory"""

import os
import pickle
import shutil

import corpus
import h5py
import numpy as np
import pytest
import runner
import soundfile

from sepkit import weights
from sepkit.files import packaged

GROUP = "layers/mask_network/vars"
NAME = "global_dense_bias"
MEGABYTES = 600


class Payload:
    """What a pickle of this does when it is loaded: it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def replace(file, **options):
    del file[GROUP][NAME]
    return file[GROUP].create_dataset(NAME, **options)


def pickled_value(file, place):
    data = np.frombuffer(pickle.dumps(Payload(place / "executed")), np.uint8)
    replace(file, data=np.void(data.tobytes()))


def pickled_attributes(file, place):
    data = np.void(pickle.dumps(Payload(place / "executed")))
    for thing in (file, file[GROUP], file[GROUP][NAME]):
        thing.attrs["layer_config"] = thing.attrs["NUMPY_OBJECT"] = data
    replace(file, data=np.void(data))


def keras_lambda(file, place):
    file.attrs["model_config"] = (
        '{"class_name": "Lambda", "config": {"function": "import os; os.mkdir(\'executed\')"}}'
    )
    replace(file, data=np.zeros(3, np.float32))


def strings(file, place):
    replace(file, shape=(128,), dtype=h5py.string_dtype())


def fixed_strings(file, place):
    replace(file, data=np.full(128, b"nan", "S8"))


def compound(file, place):
    replace(file, shape=(128,), dtype=[("a", "f4")])


def references(file, place):
    replace(file, shape=(128,), dtype=h5py.ref_dtype)


def lists(file, place):
    replace(file, shape=(128,), dtype=h5py.vlen_dtype(np.float32))


def complex_numbers(file, place):
    replace(file, data=np.full(128, 1j))


def a_group(file, place):
    del file[GROUP][NAME]
    file[GROUP].create_group(NAME)


def no_dataspace(file, place):
    replace(file, data=h5py.Empty("f4"))


def huge(file, place):
    replace(file, shape=(1 << 20, 1 << 20), dtype="f4", chunks=(1024, 1024))


def huge_kernel(file, place):
    """Of the right number of axes: 100 GB of zeros that take no room in the file."""
    del file[GROUP]["single_dense_kernel"]
    file[GROUP].create_dataset(
        "single_dense_kernel", shape=(50000, 1024, 512), dtype="f4", chunks=(64, 64, 64)
    )


def compressed(file, place):
    """A gigabyte of zeros in a megabyte."""
    made = replace(file, shape=(1 << 28,), dtype="f4", chunks=(1 << 22,), compression="gzip")
    for start in range(0, 1 << 28, 1 << 26):
        made[start : start + (1 << 26)] = np.zeros(1 << 26, np.float32)


def external_link(file, place):
    with h5py.File(place / "private.h5", "w") as other:
        other["secret"] = np.ones(128, np.float32)
    del file[GROUP][NAME]
    file[GROUP][NAME] = h5py.ExternalLink(str(place / "private.h5"), "secret")


def external_storage(file, place):
    np.ones(128, np.float32).tofile(place / "private")
    replace(file, shape=(128,), dtype="f4", external=[(str(place / "private"), 0, 512)])


def virtual(file, place):
    external_link(file, place)
    del file[GROUP][NAME]
    layout = h5py.VirtualLayout((128,), "f4")
    layout[:] = h5py.VirtualSource(str(place / "private.h5"), "secret", (128,))
    file[GROUP].create_virtual_dataset(NAME, layout)


def loop(file, place):
    del file[GROUP][NAME]
    file[GROUP]["there"] = h5py.SoftLink(f"/{GROUP}/{NAME}")
    file[GROUP][NAME] = h5py.SoftLink(f"/{GROUP}/there")


def dangling(file, place):
    del file[GROUP][NAME]
    file[GROUP][NAME] = h5py.SoftLink("/nowhere")


def not_a_number(file, place):
    file[GROUP][NAME][3] = np.nan


def infinite(file, place):
    file[GROUP]["single_dense_kernel"][0, 0, 0] = np.inf


def group_is_a_dataset(file, place):
    del file[GROUP]
    file[GROUP] = np.zeros(3)


def group_is_elsewhere(file, place):
    shutil.copy(place / "odd.weights.h5", place / "private.h5")
    del file[GROUP]
    file[GROUP] = h5py.ExternalLink(str(place / "private.h5"), GROUP)


ODD = [
    pickled_value, pickled_attributes, keras_lambda, strings, fixed_strings, compound, references,
    lists, complex_numbers, a_group, no_dataspace, huge, huge_kernel, compressed, external_link,
    external_storage, virtual, loop, dangling, not_a_number, infinite, group_is_a_dataset,
    group_is_elsewhere,
]  # fmt: skip


@pytest.fixture
def place(tmp_path):
    soundfile.write(tmp_path / "song.wav", corpus.song(1), corpus.RATE)
    shutil.copy(packaged("weights") / "experiment1.weights.h5", tmp_path / "odd.weights.h5")
    return tmp_path


def separate(place):
    command = ["separate", "song.wav", "-n", "odd.weights.h5", "-o", "out", "--hop", "25"]
    return runner.run(*command, folder=place, timeout=60)


def check_refused(place, run):
    assert not (place / "executed").exists(), "the file ran code"
    assert run.code == 2, run
    assert len(run.err.splitlines()) == 1 and run.err.startswith("sepkit: "), run.err
    assert "odd.weights.h5" in run.err
    assert run.megabytes <= MEGABYTES and run.seconds <= 20
    assert not (place / "out").exists()


def test_as_they_are_the_weights_are_taken(place):
    assert separate(place).code == 0


def test_the_payload_is_one(place):
    pickle.loads(pickle.dumps(Payload(place / "executed")))
    assert (place / "executed").exists()


@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_odd_weights_are_refused_in_one_line(place, change):
    with h5py.File(place / "odd.weights.h5", "a") as file:
        change(file, place)
    check_refused(place, separate(place))


@pytest.mark.parametrize("seed", range(20))
def test_damaged_weights_are_refused_or_read(place, seed):
    rng = np.random.default_rng(seed)
    path = place / "odd.weights.h5"
    data = bytearray(path.read_bytes())
    if seed % 2:
        path.write_bytes(data[: int(rng.uniform(0.01, 0.99) * len(data))])
    else:  # where the file describes itself, not in the arrays
        for start in rng.integers(0, 4000, 30):
            data[start] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
    run = separate(place)
    if run.code:
        check_refused(place, run)
        return
    stem, _ = soundfile.read(place / "out" / "vocals.wav")
    assert np.isfinite(stem).all() and run.err == ""


@pytest.mark.parametrize("dtype", ["f8", "f2", ">f4"])
def test_other_floats_of_the_same_values_give_the_same_stems(place, dtype):
    """Allowed, so long as they are read right or refused."""
    with h5py.File(place / "odd.weights.h5", "a") as file:
        value = file[GROUP][NAME][()]
        replace(file, data=value.astype(dtype))
    run = separate(place)
    if run.code:
        check_refused(place, run)
        return
    read = weights.load(place / "odd.weights.h5")["global_dense/bias"]
    np.testing.assert_allclose(read, value, atol=1e-3)
