"""The network as a Keras model, to train it.

Importing this module imports Keras and TensorFlow; separating does not need it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from sepkit import network, weights
from sepkit.errors import MissingPackageError, ModelError
from sepkit.stft import N_BINS
from sepkit.tracks import SOURCES
from sepkit.weights import REPORT_SIZES, Sizes, Weights

try:
    import keras
    from keras import layers, ops
except ImportError as error:
    raise MissingPackageError(
        "keras finds no TensorFlow; install it with: pip install 'sepkit[tensorflow]'"
    ) from error


@keras.saving.register_keras_serializable("sepkit")
class MaskNetwork(layers.Layer):  # type: ignore[misc]
    """Keras layer of `sepkit.network.masks`: magnitudes of contexts in, masks out.

    A subclass ties weights by overriding `values` and naming in `untrained` the arrays that
    follow from others.

    Parameters
    ----------
    sources : sequence of str
        Names of the sources.
    channels : int
        Channels of the input.
    sizes : sepkit.weights.Sizes
        Layer sizes.
    seed : int
        Seed of the initial weights.
    **options
        Keras' own options of a layer.
    """

    untrained: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        sources: Sequence[str] = SOURCES,
        channels: int = 1,
        sizes: Sizes = REPORT_SIZES,
        seed: int = 0,
        **options: Any,
    ):
        super().__init__(**options)
        # Keras restores a saved configuration as plain values.
        sizes = sizes if isinstance(sizes, Sizes) else Sizes(**sizes)
        self.sources, self.channels, self.sizes, self.seed = tuple(sources), channels, sizes, seed
        initial = weights.initialize(
            channels=channels, n_sources=len(sources), sizes=sizes, seed=seed
        )
        self.arrays = {
            name: self.add_weight(
                shape=value.shape,
                name=name.replace("/", "_"),
                trainable=name not in self.untrained,
                initializer=lambda shape, dtype, value=value: ops.convert_to_tensor(value, dtype),
            )
            for name, value in initial.items()
        }

    def call(self, magnitudes: Any) -> Any:
        """Compute masks.

        Parameters
        ----------
        magnitudes : tensor of shape (batch, 25, 513, channels), float32
            Magnitudes of the mixture.

        Returns
        -------
        tensor of shape (batch, n_sources, 25, 513, channels), float32
            Masks.
        """
        return ops.moveaxis(network.masks(self.values(), magnitudes), 0, 1)

    def values(self) -> dict[str, Any]:
        """Return the weights of the forward pass.

        Returns
        -------
        dict of str to tensor
            The network (`sepkit.weights`).
        """
        return {name: variable.value for name, variable in self.arrays.items()}

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the masks; see Keras."""
        return (input_shape[0], len(self.sources), *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer; see Keras."""
        return dict(super().get_config()) | {
            "sources": list(self.sources),
            "channels": self.channels,
            "sizes": dataclasses.asdict(self.sizes),
            "seed": self.seed,
        }

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Save the arrays by name; see Keras."""
        for name, variable in self.arrays.items():
            store[name.replace("/", "_")] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Load the arrays by name; see Keras."""
        for name, variable in self.arrays.items():
            variable.assign(store[name.replace("/", "_")][()])


def build_model(
    *,
    sources: Sequence[str] = SOURCES,
    channels: int = 1,
    sizes: Sizes = REPORT_SIZES,
    seed: int = 0,
    layer: type[MaskNetwork] = MaskNetwork,
) -> keras.Model:
    """Build the untrained network: magnitudes of contexts in, masks out.

    Parameters
    ----------
    sources : sequence of str
        Names of the sources.
    channels : int
        Channels of the input.
    sizes : sepkit.weights.Sizes
        Layer sizes.
    seed : int
        Seed of the initial weights.
    layer : type
        `MaskNetwork`, or a subclass that ties weights.

    Returns
    -------
    keras.Model
        From ``(batch, 25, 513, channels)`` to ``(batch, n_sources, 25, 513, channels)``; 489,142
        parameters for one channel and four sources.

    Raises
    ------
    ModelError
        When there is no source or no channel.
    """
    if not sources or channels < 1:
        raise ModelError(
            f"model of {len(sources)} sources and {channels} channels: give at least one of each"
        )
    magnitudes = keras.Input((sizes.context, N_BINS, channels), name="magnitudes")
    masks = layer(sources=sources, channels=channels, sizes=sizes, seed=seed, name="mask_network")
    return keras.Model(magnitudes, masks(magnitudes), name="separator")


def get_weights(model: keras.Model) -> dict[str, Any]:
    """Return the weights of a model.

    Parameters
    ----------
    model : keras.Model
        Of `build_model`.

    Returns
    -------
    dict of str to ndarray, float32
        The network (`sepkit.weights`).

    Raises
    ------
    ModelError
        When the model is not of this library.
    """
    return {name: ops.convert_to_numpy(v) for name, v in _mask_layer(model).values().items()}


def set_weights(model: keras.Model, values: Weights) -> None:
    """Set the weights of a model.

    Parameters
    ----------
    model : keras.Model
        Of `build_model`.
    values : dict of str to ndarray
        The network (`sepkit.weights`).

    Raises
    ------
    ModelError
        When the shapes do not fit the model.
    """
    weights.check_shapes(values)
    arrays = _mask_layer(model).arrays
    for name, value in values.items():
        if value.shape != tuple(arrays[name].shape):
            raise ModelError(
                f"weights: {name} of shape {value.shape} does not fit a model that has "
                f"{tuple(arrays[name].shape)}; build the model to match"
            )
    for name, value in values.items():
        arrays[name].assign(value)


def _mask_layer(model: keras.Model) -> MaskNetwork:
    for layer in model.layers:
        if isinstance(layer, MaskNetwork):
            return layer
    raise ModelError(f"model {model.name!r} is not of this library; use sepkit.build_model")


def load_model(name: str | os.PathLike[str]) -> keras.Model:
    """Load a trained network into Keras.

    Parameters
    ----------
    name : str or Path
        A name of `sepkit.list_models`, or the path of a weight file.

    Returns
    -------
    keras.Model
        The model of `build_model`, trained.

    Raises
    ------
    ModelError
        When the name is unknown or the file unsuitable.
    """
    values = weights.load(weights.find_weights(name))
    channels, n_sources = weights.check_shapes(values)
    model = build_model(
        sources=weights.source_names(n_sources),
        channels=channels,
        sizes=weights.infer_sizes(values),
    )
    set_weights(model, values)
    return model
