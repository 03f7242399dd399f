"""The network's weights: named arrays, their initial values, their files.

A network is a plain dict of float32 arrays. Those of the decoders are stacked along the first
axis, so that one matrix product serves all sources. With c channels, S sources and the report's
`Sizes`:

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

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sepkit.errors import ModelError
from sepkit.files import atomic_write, packaged, read_json, writing_to
from sepkit.stft import CONTEXT, N_BINS
from sepkit.tracks import SOURCES


@dataclass(frozen=True)
class Sizes:
    """Layer sizes; the defaults are those of paper and report.

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
        Frames per context.
    """

    n_timbres: int = 50
    n_patterns: int = 30
    pattern: int = 12
    n_shared: int = 128
    context: int = CONTEXT

    @property
    def n_positions(self) -> int:
        """Positions of a horizontal filter in a context."""
        return self.context - self.pattern + 1


REPORT_SIZES = Sizes()

Weights = Mapping[str, Any]
"""A network: its arrays (or tensors) by name."""

ENCODER = ("vertical_convolution", "horizontal_convolution", "global_dense")
DECODER = ("single_dense", "horizontal_deconvolution", "vertical_deconvolution")

_FILE_GROUP = "layers/mask_network/vars"


def shapes(
    *, channels: int = 1, n_sources: int = 4, sizes: Sizes = REPORT_SIZES
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's arrays.

    Parameters
    ----------
    channels : int
        Channels of the input.
    n_sources : int
        Number of sources.
    sizes : Sizes
        Layer sizes.

    Returns
    -------
    dict of str to tuple of int
        Shape by name, from input to output.
    """
    timbres, patterns, shared = sizes.n_timbres, sizes.n_patterns, sizes.n_shared
    n_flat = sizes.n_positions * patterns
    layers: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
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
        for layer, pair in layers.items()
        for part, shape in zip(("kernel", "bias"), pair, strict=True)
    }


def count_parameters(weights: Weights) -> int:
    """Count the parameters of a network.

    Parameters
    ----------
    weights : dict of str to ndarray
        The network.

    Returns
    -------
    int
        489,142 for one channel and four sources.
    """
    return sum(math.prod(value.shape) for value in weights.values())


def infer_sizes(weights: Weights) -> Sizes:
    """Infer a network's layer sizes from its arrays.

    Parameters
    ----------
    weights : dict of str to ndarray
        The network.

    Returns
    -------
    Sizes
        The layer sizes.

    Raises
    ------
    ModelError
        When the arrays do not fit together.
    """
    try:
        _, _, _, n_timbres = weights["vertical_deconvolution/kernel"].shape
        pattern, _, n_patterns = weights["horizontal_convolution/kernel"].shape
        n_flat, n_shared = weights["global_dense/kernel"].shape
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


def check_shapes(weights: Weights) -> tuple[int, int]:
    """Check that a network's arrays fit together.

    Parameters
    ----------
    weights : dict of str to ndarray
        The network.

    Returns
    -------
    channels : int
        Channels of the input.
    n_sources : int
        Number of sources.

    Raises
    ------
    ModelError
        When an array is missing, superfluous or of the wrong shape.
    """
    sizes = infer_sizes(weights)
    n_sources, _, channels, _ = weights["vertical_deconvolution/kernel"].shape
    wanted = shapes(channels=channels, n_sources=n_sources, sizes=sizes)
    for name in wanted.keys() | weights.keys():
        have = weights[name].shape if name in weights else None
        if have != wanted.get(name):
            raise ModelError(
                f"weights: {name} has shape {have}, not {wanted.get(name)}; "
                "give weights of this network"
            )
    return channels, n_sources


def source_names(n_sources: int) -> tuple[str, ...]:
    """Return `sepkit.SOURCES` for four sources; else source1, source2 and so on."""
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
    """Draw initial weights: Glorot-uniform kernels, zero biases, as Keras does.

    Parameters
    ----------
    channels : int
        Channels of the input.
    n_sources : int
        Number of sources.
    sizes : Sizes
        Layer sizes.
    seed : int or sequence of int
        Seed of NumPy's generator.

    Returns
    -------
    dict of str to ndarray, float32
        An untrained network.

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
        # The fans of a convolution count its taps; the stack of sources is not part of a kernel.
        kernel = shape[1:] if layer in DECODER else shape
        if layer.startswith("vertical"):
            fans = N_BINS * (kernel[1] + kernel[2])
        elif layer.startswith("horizontal"):
            fans = kernel[0] * (kernel[1] + kernel[2])
        else:
            fans = kernel[0] + kernel[1]
        limit = math.sqrt(6 / fans)
        values[name] = rng.uniform(-limit, limit, shape).astype(np.float32)
    return values


# Files.


def save(weights: Weights, path: str | os.PathLike[str]) -> None:
    """Write a weight file, which Keras' ``load_weights`` reads too.

    Parameters
    ----------
    weights : dict of str to ndarray
        The network.
    path : str or Path
        ``NAME.weights.h5``, written completely or not at all.

    Raises
    ------
    SepkitError
        When it cannot be written.
    """
    check_shapes(weights)
    # In memory first: on a full disk HDF5 crashes.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        group = file.create_group(_FILE_GROUP)
        for name, value in weights.items():
            group.create_dataset(name.replace("/", "_"), data=np.asarray(value, np.float32))
    with writing_to(path), atomic_write(path) as beside:
        beside.write_bytes(content.getbuffer())


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read a weight file: arrays only, nothing in it is executed.

    Parameters
    ----------
    path : str or Path
        A file written by `save`.

    Returns
    -------
    dict of str to ndarray, float32
        The network.

    Raises
    ------
    ModelError
        When the file is missing, not HDF5, or of another network.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such weight file; check the path")
    try:
        opened = h5py.File(path, "r")
    except OSError as error:
        raise ModelError(f"{path}: not an HDF5 weight file; give NAME.weights.h5") from error
    with opened as file:
        try:
            stored = _stored_arrays(file)
            # Before they are read: a damaged file may declare more than any memory holds.
            check_shapes(stored)
            values = {name: np.asarray(value, np.float32) for name, value in stored.items()}
            check_finite(values)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        except (OSError, KeyError, ValueError, RuntimeError, MemoryError) as error:  # HDF5's
            raise ModelError(f"{path}: the file is damaged; get another copy") from error
    return values


def check_finite(weights: Weights) -> None:
    """Raise a `ModelError` if a network's weights are not all finite."""
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise ModelError(
                f"weights: {name} holds NaN or infinite values; take an earlier checkpoint, or "
                "train again"
            )


def _stored_arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return the arrays that a weight file itself holds; it may name none in other files."""
    group = file
    for part in _FILE_GROUP.split("/"):
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink) or not isinstance(group[part], h5py.Group):
            return {}
        group = group[part]
    stored = {}
    for name in shapes():
        key = name.replace("/", "_")
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            continue
        value = group[key]
        if not isinstance(value, h5py.Dataset) or value.dtype.kind != "f":
            raise ModelError(f"weights: {name} is no array of float; give another file")
        if value.is_virtual or value.external:
            raise ModelError(f"weights: {name} lies in another file; give one that holds it")
        stored[name] = value
    return stored


def list_models() -> list[str]:
    """List the trained models that come with the library.

    Returns
    -------
    list of str
        Names for `sepkit.separate` and `find_weights`.
    """
    suffix = ".weights.h5"
    files = packaged("weights").glob(f"*{suffix}")
    return sorted(path.name.removesuffix(suffix) for path in files)


def find_weights(model: str | os.PathLike[str]) -> Path:
    """Find a model's weight file.

    Parameters
    ----------
    model : str or Path
        A name of `list_models`, or the path of a file.

    Returns
    -------
    Path
        The file.
    """
    if Path(model).suffix in (".h5", ".hdf5"):
        return Path(model)
    if str(model) not in list_models():
        raise ModelError(
            f"model {str(model)!r}: unknown; use one of {', '.join(list_models()) or 'none'}, "
            "or the path of a .h5 weight file"
        )
    return packaged("weights") / f"{model}.weights.h5"


def read_card(model: str) -> dict[str, Any]:
    """Read the card of a model: what made it and how it scores.

    Parameters
    ----------
    model : str
        A name of `list_models`.

    Returns
    -------
    dict
        The card.
    """
    path = find_weights(model).with_name(f"{model}.json")
    if not path.is_file():
        raise ModelError(f"{path}: this model has no card; train it with sepkit train")
    return dict(read_json(path))
