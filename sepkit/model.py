"""The network as Keras models: the dense form that trains, the report's convolutional form.

Importing this module imports Keras and its backend, TensorFlow; separating does not need it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

from sepkit import network, weights
from sepkit.datasets import SOURCES
from sepkit.errors import MissingPackageError, ModelError
from sepkit.weights import REPORT_SIZES, Sizes
from sepkit.stft import CONTEXT, FRAME_LENGTH, HOP_LENGTH, N_BINS

try:
    import keras
    from keras import layers, ops
except ImportError as error:
    raise MissingPackageError(
        "keras finds no TensorFlow; install it with: pip install 'sepkit[tensorflow]'"
    ) from error


@dataclasses.dataclass(frozen=True)
class Tie:
    """How arrays hang together while a network is trained.

    Parameters
    ----------
    apply : callable
        From the arrays that are trained to those that the network computes with; the saved
        network is an ordinary one.
    follows : tuple of str
        Arrays that follow from the others and are not trained.
    """

    apply: Callable[[dict], dict]
    follows: tuple[str, ...] = ()


def _decoders_as_encoder(values: dict) -> dict:
    n_sources = values["single_dense/bias"].shape[0]
    kernels = {side: values[f"{side}_convolution/kernel"] for side in ("vertical", "horizontal")}
    return values | {
        f"{side}_deconvolution/kernel": ops.stack([kernel] * n_sources)
        for side, kernel in kernels.items()
    }


def _other_as_bass(values: dict) -> dict:
    bass, other = SOURCES.index("bass"), SOURCES.index("other")
    shared = [bass if i == other else i for i in range(len(SOURCES))]
    # Not ops.take, whose gradient XLA compiles to a loop over single numbers.
    return values | {
        name: ops.stack([value[i] for i in shared])
        for name, value in values.items()
        if name.startswith("single_dense")
    }


def _small_input(values: dict) -> dict:
    name = "vertical_convolution/kernel"
    return values | {name: values[name] * (0.3 / FRAME_LENGTH**0.5)}


TIES = {
    "none": Tie(dict),
    "decoders": Tie(
        _decoders_as_encoder,
        ("vertical_deconvolution/kernel", "horizontal_deconvolution/kernel"),
    ),
    "bass and other": Tie(_other_as_bass),
    "input scale": Tie(_small_input),
}
"""Each source free; decoders that draw with the encoder's kernels; "other" with the dense layer of
bass; magnitudes times 0.3 / 32. The last three are the published code's, as facts of it."""


@keras.saving.register_keras_serializable("sepkit")
class MaskNetwork(layers.Layer):
    """Magnitudes of contexts in, masks out: `sepkit.network.masks` with trainable arrays.

    Parameters
    ----------
    sources : sequence of str
        Sources to tell apart.
    channels : int
        Channels of the input.
    sizes : sepkit.weights.Sizes
        How large the layers are.
    seed : int
        Seed of the first values.
    tie : str
        How arrays hang together in training, a key of `TIES`.
    **options
        Keras' own options of a layer.
    """

    def __init__(
        self,
        *,
        sources: Sequence[str] = SOURCES,
        channels: int = 1,
        sizes: Sizes = REPORT_SIZES,
        seed: int = 0,
        tie: str = "none",
        **options,
    ):
        super().__init__(**options)
        # Keras brings a saved configuration back as plain values.
        sizes = sizes if isinstance(sizes, Sizes) else Sizes(**sizes)
        self.sources, self.channels, self.sizes, self.seed = tuple(sources), channels, sizes, seed
        self.tie = tie
        values = weights.initialize(
            channels=channels, n_sources=len(sources), sizes=sizes, seed=seed
        )
        follows = TIES[tie].follows
        self.parameters = {
            name: self.add_weight(
                shape=value.shape,
                name=name.replace("/", "_"),
                trainable=name not in follows,
                initializer=lambda shape, dtype, value=value: ops.convert_to_tensor(value, dtype),
            )
            for name, value in values.items()
        }

    def call(self, magnitudes):
        """Compute masks.

        Parameters
        ----------
        magnitudes : tensor of shape (batch, 25, 513, channels), float32
            Magnitudes of the mixture.

        Returns
        -------
        tensor of shape (batch, 25, 513, channels, n_sources), float32
            Masks.
        """
        return ops.moveaxis(network.masks(self.values(), magnitudes), 0, -1)

    def values(self) -> dict:
        """Give the arrays that the network computes with.

        Returns
        -------
        dict of str to tensor
            The network (`sepkit.weights`), its arrays tied.
        """
        values = {name: variable.value for name, variable in self.parameters.items()}
        return TIES[self.tie].apply(values)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Give the shape of the masks; see Keras."""
        return (*input_shape, len(self.sources))

    def get_config(self) -> dict:
        """Give the arguments that build the layer again; see Keras."""
        return super().get_config() | {
            "sources": list(self.sources),
            "channels": self.channels,
            "sizes": dataclasses.asdict(self.sizes),
            "seed": self.seed,
            "tie": self.tie,
        }

    def save_own_variables(self, store: dict) -> None:
        """Save the arrays under their names; see Keras."""
        for name, variable in self.parameters.items():
            store[name.replace("/", "_")] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store: dict) -> None:
        """Load the arrays by their names; see Keras."""
        for name, variable in self.parameters.items():
            variable.assign(store[name.replace("/", "_")][()])


def build_model(
    *,
    sources: Sequence[str] = SOURCES,
    channels: int = 1,
    sizes: Sizes = REPORT_SIZES,
    seed: int = 0,
    tie: str = "none",
) -> keras.Model:
    """Build the network, untrained: magnitudes of contexts in, masks out.

    Parameters
    ----------
    sources : sequence of str
        Sources to tell apart.
    channels : int
        Channels of the input.
    sizes : sepkit.weights.Sizes
        How large the layers are.
    seed : int
        Seed of the first values.
    tie : str
        How arrays hang together in training, a key of `TIES`.

    Returns
    -------
    keras.Model
        From ``(batch, 25, 513, channels)`` to ``(batch, 25, 513, channels, n_sources)``; 489,142
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
    layer = MaskNetwork(
        sources=sources, channels=channels, sizes=sizes, seed=seed, tie=tie, name="mask_network"
    )
    return keras.Model(magnitudes, layer(magnitudes), name="separator")


def get_parameters(model: keras.Model) -> dict:
    """Take the arrays out of a model, in either form.

    Parameters
    ----------
    model : keras.Model
        Of `build_model` or `report_network`.

    Returns
    -------
    dict of str to ndarray, float32
        The network (`sepkit.weights`).
    """
    for layer in model.layers:
        if isinstance(layer, MaskNetwork):
            return {n: ops.convert_to_numpy(v) for n, v in layer.values().items()}
    sources = _report_sources(model)
    names = [*weights.ENCODER, *(f"{n}_{s}" for s in sources for n in weights.DECODER)]
    pairs = {name: tuple(model.get_layer(name).get_weights()) for name in names}
    return weights.from_report(pairs, sources=sources)


def set_parameters(model: keras.Model, values: weights.Parameters) -> None:
    """Put arrays into a model, in either form.

    Parameters
    ----------
    model : keras.Model
        Of `build_model` or `report_network`.
    values : dict of str to ndarray
        The network (`sepkit.weights`).

    Raises
    ------
    ModelError
        When their shapes do not fit the model.
    """
    have = get_parameters(model)
    weights.check_shapes(values)
    for name, value in values.items():
        if value.shape != have[name].shape:
            raise ModelError(
                f"weights: {name} of shape {value.shape} does not fit a model that has "
                f"{have[name].shape}; build the model to match"
            )
    for layer in model.layers:
        if isinstance(layer, MaskNetwork):
            for name, variable in layer.parameters.items():
                variable.assign(values[name])
            return
    sources = _report_sources(model)
    for name, pair in weights.to_report(values, sources=sources).items():
        model.get_layer(name).set_weights(pair)


def _report_sources(model: keras.Model) -> tuple[str, ...]:
    prefix = "single_dense_"
    found = [layer.name for layer in model.layers if layer.name.startswith(prefix)]
    if not found:
        raise ModelError(f"model {model.name!r} is not of this library; use sepkit.build_model")
    return tuple(name.removeprefix(prefix) for name in found)


def load_model(name: str | os.PathLike) -> keras.Model:
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
        When the model is unknown or its file does not fit.
    """
    values = weights.load(weights.find_weights(name))
    channels, n_sources = weights.check_shapes(values)
    model = build_model(
        sources=weights.source_names(n_sources),
        channels=channels,
        sizes=weights.infer_sizes(values),
    )
    set_parameters(model, values)
    return model


def report_network(
    *,
    sources: Sequence[str] = SOURCES,
    channels: int = 1,
    batch_size: int | None = None,
    sizes: tuple[int, int, int, int, int, int, int] = (1, 513, 50, 12, 1, 30, 128),
    context: int = CONTEXT,
) -> keras.Model:
    """Build the report's literal graph: two-dimensional convolutions, from spectrum to waveform.

    It is here to be read, compared with and timed; `build_model` holds the same network in the
    form that trains faster. Like the report it divides by the plain sum of the decoders, so a
    bin where all say 0 gives 0/0 (NaN).

    Parameters
    ----------
    sources : sequence of str
        Sources to tell apart.
    channels : int
        Channels of the song.
    batch_size : int, optional
        The report fixes 32; any by default.
    sizes : tuple of int
        ``(t1, f1, N1, t2, f2, N2, N)``: taps in time and frequency and number of the vertical
        and horizontal filters, and units of the shared dense layer.
    context : int
        Frames a segment.

    Returns
    -------
    keras.Model
        From magnitude and phase of segments, ``(batch, 25, 513, channels, 2)``, to waveforms
        ``(batch, 7168, channels, n_sources)``, with the report's layer names.
    """
    t1, f1, n1, t2, f2, n2, n = sizes
    stft = keras.Input((context, N_BINS, channels, 2), batch_size=batch_size, name="stft")
    magnitude = layers.Lambda(lambda x: x[..., 0], name="magnitude")(stft)
    phase = layers.Lambda(lambda x: x[..., 1], name="phase")(stft)

    x = layers.Conv2D(n1, (t1, f1), name="vertical_convolution")(magnitude)
    x = layers.Conv2D(n2, (t2, f2), name="horizontal_convolution")(x)
    grid = tuple(x.shape[1:])
    x = layers.Flatten(name="flattening")(x)
    shared = layers.Dense(n, activation="relu", name="global_dense")(x)

    drawn = []
    for source in sources:
        units = grid[0] * grid[1] * grid[2]
        x = layers.Dense(units, activation="relu", name=f"single_dense_{source}")(shared)
        x = layers.Reshape(grid, name=f"reshape_{source}")(x)
        x = layers.Conv2DTranspose(n1, (t2, f2), name=f"horizontal_deconvolution_{source}")(x)
        x = layers.Conv2DTranspose(channels, (t1, f1), name=f"vertical_deconvolution_{source}")(x)
        drawn.append(layers.Lambda(ops.abs, name=f"module_{source}")(x))
    total = layers.Add(name="sum")(drawn)

    estimates = []
    for source, x in zip(sources, drawn, strict=True):
        x = layers.Lambda(lambda pair: pair[0] / pair[1], name=f"division_{source}")([x, total])
        x = layers.Multiply(name=f"y_{source}")([magnitude, x])
        x = layers.Lambda(_with_phase, name=f"complex_{source}")([x, phase])
        estimates.append(layers.Lambda(_segment_waveform, name=f"istft_{source}")(x))
    stacked = layers.Lambda(lambda x: ops.stack(x, axis=-1), name="output_stacking")(estimates)
    return keras.Model(stft, stacked, name="report_network")


def _with_phase(pair):
    magnitude, phase = pair
    return ops.stack([magnitude * ops.cos(phase), magnitude * ops.sin(phase)], axis=-1)


def _segment_waveform(spectrum):
    """Invert ``(batch, 25, 513, channels, 2)`` to ``(batch, 7168, channels)``, edges faded."""
    import tensorflow as tf

    spectrum = tf.transpose(spectrum, (0, 3, 1, 2, 4))
    waveform = tf.signal.inverse_stft(
        tf.complex(spectrum[..., 0], spectrum[..., 1]),
        FRAME_LENGTH,
        HOP_LENGTH,
        FRAME_LENGTH,
        window_fn=tf.signal.inverse_stft_window_fn(HOP_LENGTH),
    )
    n_samples = HOP_LENGTH * (spectrum.shape[2] - 1) + FRAME_LENGTH
    return tf.transpose(tf.ensure_shape(waveform, (*waveform.shape[:-1], n_samples)), (0, 2, 1))
