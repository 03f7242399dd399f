"""The network's parameters: named arrays, their first values, their files.

A network is a plain dict of float32 arrays. Sources are stacked along the first axis, so that
one matrix product serves all decoders. With c channels, S sources
and the report's `Sizes`:

=====================================  ===================  =====================
name                                   shape                of the report's layer
=====================================  ===================  =====================
vertical_convolution/kernel            (513, c, 50)         (1, 513, c, 50)
vertical_convolution/bias              (50,)
horizontal_convolution/kernel          (12, 50, 30)         (12, 1, 50, 30)
horizontal_convolution/bias            (30,)
global_dense/kernel                    (420, 128)
global_dense/bias                      (128,)
single_dense/kernel                    (S, 128, 420)        (128, 420), S times
single_dense/bias                      (S, 420)
horizontal_deconvolution/kernel        (S, 12, 50, 30)      (12, 1, 50, 30), S times
horizontal_deconvolution/bias          (S, 50)
vertical_deconvolution/kernel          (S, 513, c, 50)      (1, 513, c, 50), S times
vertical_deconvolution/bias            (S, c)
=====================================  ===================  =====================
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from sepkit.datasets import SOURCES
from sepkit.errors import ModelError
from sepkit.files import atomic_write
from sepkit.stft import CONTEXT, N_BINS


@dataclass(frozen=True)
class Sizes:
    """How large the layers are; by default as in paper and report.

    Parameters
    ----------
    n_timbres : int
        Filters of the vertical convolution.
    n_patterns : int
        Filters of the horizontal convolution.
    pattern : int
        Frames that a horizontal filter spans, at most a context.
    n_shared : int
        Units of the dense layer that all sources share.
    context : int
        Frames that the network sees at once.
    """

    n_timbres: int = 50
    n_patterns: int = 30
    pattern: int = 12
    n_shared: int = 128
    context: int = CONTEXT

    @property
    def n_positions(self) -> int:
        """Places of a horizontal filter in a context."""
        return self.context - self.pattern + 1


REPORT_SIZES = Sizes()

Parameters = Mapping[str, np.ndarray]

ENCODER = ("vertical_convolution", "horizontal_convolution", "global_dense")
DECODER = ("single_dense", "horizontal_deconvolution", "vertical_deconvolution")

_FILE_GROUP = "layers/mask_network/vars"


def shapes(
    *, channels: int = 1, n_sources: int = 4, sizes: Sizes = REPORT_SIZES
) -> dict[str, tuple[int, ...]]:
    """List the arrays of a network.

    Parameters
    ----------
    channels : int
        Channels of its input.
    n_sources : int
        Sources it tells apart.
    sizes : Sizes
        How large its layers are.

    Returns
    -------
    dict of str to tuple of int
        Shape by name, in the order of the data.
    """
    timbres, patterns, shared = sizes.n_timbres, sizes.n_patterns, sizes.n_shared
    n_flat = sizes.n_positions * patterns
    kernels = {
        "vertical_convolution": ((N_BINS, channels, timbres), (timbres,)),
        "horizontal_convolution": ((sizes.pattern, timbres, patterns), (patterns,)),
        "global_dense": ((n_flat, shared), (shared,)),
        "single_dense": ((n_sources, shared, n_flat), (n_sources, n_flat)),
        "horizontal_deconvolution": (
            (n_sources, sizes.pattern, timbres, patterns),
            (n_sources, timbres),
        ),
        "vertical_deconvolution": ((n_sources, N_BINS, channels, timbres), (n_sources, channels)),
    }
    return {
        f"{layer}/{part}": shape
        for layer, pair in kernels.items()
        for part, shape in zip(("kernel", "bias"), pair, strict=True)
    }


def count(parameters: Parameters) -> int:
    """Count the numbers of a network.

    Parameters
    ----------
    parameters : dict of str to ndarray
        The network.

    Returns
    -------
    int
        489,142 for one channel and four sources.
    """
    return sum(math.prod(value.shape) for value in weights.values())


def infer_sizes(parameters: Parameters) -> Sizes:
    """Tell how large a network's layers are.

    Parameters
    ----------
    parameters : dict of str to ndarray
        The network.

    Returns
    -------
    Sizes
        Its sizes.

    Raises
    ------
    ModelError
        When the arrays that tell are missing, have another number of axes, or contradict each
        other.
    """
    try:
        _, _, _, n_timbres = parameters["vertical_deconvolution/kernel"].shape
        pattern, _, n_patterns = parameters["horizontal_convolution/kernel"].shape
        n_flat, n_shared = parameters["global_dense/kernel"].shape
    except (KeyError, ValueError):
        raise ModelError(
            "weights: no vertical_deconvolution/kernel of four axes, horizontal_convolution/kernel "
            "of three or global_dense/kernel of two; give weights of this network"
        ) from None
    n_positions, rest = divmod(n_flat, n_patterns)
    if rest or not n_positions:
        raise ModelError(
            f"weights: global_dense/kernel has {n_flat} rows, no multiple of the {n_patterns} "
            "horizontal filters; give weights of this network"
        )
    return Sizes(n_timbres, n_patterns, pattern, n_shared, n_positions + pattern - 1)


def dimensions(parameters: Parameters) -> tuple[int, int]:
    """Tell what a network is made for, and check that its arrays fit together.

    Parameters
    ----------
    parameters : dict of str to ndarray
        The network.

    Returns
    -------
    channels : int
        Channels of its input.
    n_sources : int
        Sources it tells apart.

    Raises
    ------
    ModelError
        When an array is missing, superfluous or of another shape.
    """
    sizes = infer_sizes(parameters)
    n_sources, _, channels, _ = parameters["vertical_deconvolution/kernel"].shape
    wanted = shapes(channels=channels, n_sources=n_sources, sizes=sizes)
    for name in wanted.keys() | weights.keys():
        have = parameters[name].shape if name in parameters else None
        if have != wanted.get(name):
            raise ModelError(
                f"weights: {name} has shape {have}, not {wanted.get(name)}; "
                "give weights of this network"
            )
    return channels, n_sources


def first_sources(parameters: Parameters, n_sources: int) -> dict[str, np.ndarray]:
    """Drop the decoders of the last sources.

    Parameters
    ----------
    parameters : dict of str to ndarray
        A network.
    n_sources : int
        Sources to keep.

    Returns
    -------
    dict of str to ndarray
        The network of the first sources.
    """
    return {
        name: value[:n_sources] if name.split("/")[0] in DECODER else value
        for name, value in weights.items()
    }


def source_names(n_sources: int) -> tuple[str, ...]:
    """Name the sources of a network.

    Parameters
    ----------
    n_sources : int
        How many it tells apart.

    Returns
    -------
    tuple of str
        `SOURCES` where there are four; else source1, source2 and so on.
    """
    if n_sources == len(SOURCES):
        return SOURCES
    return tuple(f"source{i + 1}" for i in range(n_sources))


def initialize(
    *,
    channels: int = 1,
    n_sources: int = 4,
    sizes: Sizes = REPORT_SIZES,
    seed: int | Sequence[int] = 0,
) -> dict[str, np.ndarray]:
    """Draw first values: Glorot's uniform for kernels, zero for biases, as Keras does.

    Parameters
    ----------
    channels : int
        Channels of the input.
    n_sources : int
        Sources to tell apart.
    sizes : Sizes
        How large the layers are.
    seed : int or sequence of int
        Seed of NumPy's generator.

    Returns
    -------
    dict of str to ndarray, float32
        A network that knows nothing.

    References
    ----------
    Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward networks.
    """
    rng = np.random.default_rng(seed)
    values = {}
    for name, shape in shapes(channels=channels, n_sources=n_sources, sizes=sizes).items():
        layer, part = name.split("/")
        if part == "bias":
            values[name] = np.zeros(shape, np.float32)
            continue
        # A convolution's fans count its taps; the stack of sources is no part of a kernel.
        one = shape[1:] if layer in DECODER else shape
        if layer.startswith("vertical"):
            fans = N_BINS * (one[1] + one[2])
        elif layer.startswith("horizontal"):
            fans = one[0] * (one[1] + one[2])
        else:
            fans = one[0] + one[1]
        limit = math.sqrt(6 / fans)
        values[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return values


# The report's form: a kernel and a bias for each of its Keras layers.


def to_report(
    parameters: Parameters, *, sources: Sequence[str] = SOURCES
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lay a network out as the report's convolutional layers.

    Parameters
    ----------
    parameters : dict of str to ndarray
        The network.
    sources : sequence of str
        Names of its sources.

    Returns
    -------
    dict of str to (kernel, bias)
        By the report's layer names, in Keras' shapes: ``(1, 513, c, 50)`` and so on.
    """
    layers = {}
    for layer in ENCODER:
        kernel, bias = parameters[f"{layer}/kernel"], parameters[f"{layer}/bias"]
        layers[layer] = (_as_convolution(layer, kernel), bias)
    for i, source in enumerate(sources):
        for layer in DECODER:
            kernel, bias = parameters[f"{layer}/kernel"][i], parameters[f"{layer}/bias"][i]
            layers[f"{layer}_{source}"] = (_as_convolution(layer, kernel), bias)
    return layers


def from_report(
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]], *, sources: Sequence[str] = SOURCES
) -> dict[str, np.ndarray]:
    """Read a network out of the report's convolutional layers.

    Parameters
    ----------
    layers : dict of str to (kernel, bias)
        By the report's layer names, in Keras' shapes.
    sources : sequence of str
        Names of its sources.

    Returns
    -------
    dict of str to ndarray, float32
        The network.

    Raises
    ------
    ModelError
        When a layer is missing or has another shape.
    """
    values = {}
    try:
        for layer in ENCODER:
            kernel, bias = layers[layer]
            values[f"{layer}/kernel"] = _as_dense(layer, kernel)
            values[f"{layer}/bias"] = np.asarray(bias, np.float32)
        for layer in DECODER:
            pairs = [layers[f"{layer}_{source}"] for source in sources]
            values[f"{layer}/kernel"] = np.stack([_as_dense(layer, kernel) for kernel, _ in pairs])
            values[f"{layer}/bias"] = np.stack([np.asarray(bias, np.float32) for _, bias in pairs])
    except KeyError as error:
        raise ModelError(
            f"weights: layer {error} is missing; give a file of the report's network"
        ) from None
    dimensions(values)
    return values


def _as_convolution(layer: str, kernel: np.ndarray) -> np.ndarray:
    if layer.startswith("vertical"):
        return kernel[np.newaxis]
    if layer.startswith("horizontal"):
        return kernel[:, np.newaxis]
    return kernel


def _as_dense(layer: str, kernel: np.ndarray) -> np.ndarray:
    kernel = np.asarray(kernel, np.float32)
    if layer.startswith("vertical"):
        return kernel[0]
    if layer.startswith("horizontal"):
        return kernel[:, 0]
    return kernel


# Files.


def save(parameters: Parameters, path: str | os.PathLike) -> None:
    """Write a weight file that this module and Keras' ``load_weights`` both read.

    Parameters
    ----------
    parameters : dict of str to ndarray
        The network.
    path : str or Path
        ``NAME.weights.h5``; it appears whole or not at all.
    """
    dimensions(parameters)
    with atomic_write(path) as beside, h5py.File(beside, "w") as file:
        group = file.create_group(_FILE_GROUP)
        for name, value in weights.items():
            group.create_dataset(name.replace("/", "_"), data=np.asarray(value, np.float32))


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read a weight file; nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        A file of `save`, or the report's own ``.h5`` (`read_report_file`).

    Returns
    -------
    dict of str to ndarray, float32
        The network.

    Raises
    ------
    ModelError
        When the file is missing, no HDF5, or of another network.
    """
    with _open(path) as file, _naming(path):
        if _FILE_GROUP not in file:
            return from_report(_report_layers(file))
        group = file[_FILE_GROUP]
        values = {
            name: group[name.replace("/", "_")][()]
            for name in shapes()
            if name.replace("/", "_") in group
        }
        dimensions(values)
    return values


def read_report_file(
    path: str | os.PathLike, *, sources: Sequence[str] = SOURCES
) -> dict[str, np.ndarray]:
    """Read weights that the report's code has saved (Keras' older HDF5 layout).

    Parameters
    ----------
    path : str or Path
        An ``.h5`` file with a group a layer, and in it datasets ``kernel`` and ``bias``.
    sources : sequence of str
        Names of its sources.

    Returns
    -------
    dict of str to ndarray, float32
        The network.

    Raises
    ------
    ModelError
        When the file is missing, no HDF5, or of another network.
    """
    with _open(path) as file, _naming(path):
        return from_report(_report_layers(file), sources=sources)


@contextlib.contextmanager
def _naming(path: str | os.PathLike) -> Iterator[None]:
    """Say in an error which file it is about."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _open(path: str | os.PathLike) -> h5py.File:
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such weight file; check the path")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ModelError(f"{path}: not an HDF5 weight file; give NAME.weights.h5") from error


def _report_layers(file: h5py.File) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    root = file.get("model_weights", file)
    layers = {}
    for layer, group in root.items():
        found = {}

        def collect(name, item, found=found):
            if isinstance(item, h5py.Dataset):
                # Keras writes "LAYER/kernel:0" below the layer's own group.
                found[name.rsplit("/", 1)[-1].split(":")[0]] = item[()]

        if isinstance(group, h5py.Group):
            group.visititems(collect)
        if {"kernel", "bias"} <= found.keys():
            layers[layer] = (found["kernel"], found["bias"])
    return layers


# The models that come with the library.


def weights_folder() -> Path:
    """Find the folder of the weights that come with the library.

    Returns
    -------
    Path
        ``sepkit/weights`` where the package is installed, ``weights`` in a checkout.
    """
    installed = Path(__file__).parent / "weights"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "weights"


def list_models() -> list[str]:
    """List the trained models that come with the library.

    Returns
    -------
    list of str
        Names that `find` and ``separate(..., model=NAME)`` take.
    """
    suffix = ".weights.h5"
    return sorted(path.name.removesuffix(suffix) for path in weights_folder().glob(f"*{suffix}"))


def find(model: str | os.PathLike) -> Path:
    """Find a model's weight file.

    Parameters
    ----------
    model : str or Path
        A name of `list_models`, or a path of a file.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ModelError
        When there is none of that name.
    """
    if Path(model).suffix in (".h5", ".hdf5"):
        return Path(model)
    if str(model) not in list_models():
        raise ModelError(
            f"model {str(model)!r}: unknown; use one of {', '.join(list_models()) or 'none'}, "
            "or the path of a .h5 weight file"
        )
    return weights_folder() / f"{model}.weights.h5"


def read_card(model: str) -> dict:
    """Read the card of a model: what made it and how it scores.

    Parameters
    ----------
    model : str
        A name of `list_models`.

    Returns
    -------
    dict
        The card.

    Raises
    ------
    ModelError
        When the model is unknown or has no card.
    """
    path = find(model).with_name(f"{model}.json")
    if not path.is_file():
        raise ModelError(f"{path}: this model has no card; train it with sepkit train")
    return json.loads(path.read_text(encoding="utf-8"))
