"""The forward pass, written once: magnitudes in, masks out.

NumPy arrays are computed by NumPy, tensors by Keras' operations: both are the namespace ``xp``
below. The report writes the network with two-dimensional convolutions; here the (1 x 513) one is
a matrix product a frame, the (12 x 1) one a matrix product a context, and so are their
transposes. `sepkit.model.report_network` holds the convolutional form to compare with.

`matrices` lays the parameters out for these products; `timbre`, `bottleneck`, `decode` and
`normalize` are the steps, and `masks` is all of them. What overlapping contexts of a song share
is computed once by `encode_song`; `spread`, `unfold` and `draw` are `decode` in its parts.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from sepkit.weights import DECODER, ENCODER, Parameters, infer_sizes
from sepkit.stft import CONTEXT, N_BINS

SQUARABLE = 1e-18
"""The least sum whose square, by which XLA divides in the derivative, is a normal float32."""


def namespace(array) -> ModuleType:
    """Give the library that computes with an array.

    Parameters
    ----------
    array : ndarray or tensor
        Any array.

    Returns
    -------
    module
        `numpy` for NumPy's own, `keras.ops` for others.
    """
    if isinstance(array, np.ndarray | np.generic):
        return np
    import keras

    return keras.ops


def convolution_matrix(kernel, *, context: int = CONTEXT):
    """Write a convolution along the frames of a context as one matrix.

    Parameters
    ----------
    kernel : array of shape (taps, n, m), float32
        What joins n values of a frame to m values of a position, for each of `taps` frames.
    context : int
        Frames of the context.

    Returns
    -------
    array of shape ((context + 1 - taps) * m, context * n), float32
        From position p, value j, to frame p + k, value i, stands ``kernel[k, i, j]``; elsewhere 0.
    """
    xp = namespace(kernel)
    taps, n, m = kernel.shape
    kernel = xp.transpose(kernel, (2, 0, 1))
    rows = [
        xp.pad(kernel, [[0, 0], [position, context - taps - position], [0, 0]])
        for position in range(context - taps + 1)
    ]
    return xp.reshape(xp.stack(rows), (len(rows) * m, context * n))


def matrices(parameters: Parameters) -> dict:
    """Lay the parameters out as the matrices and offsets of the forward pass.

    Parameters
    ----------
    parameters : dict of str to array
        The network (`sepkit.weights`), with c channels and S sources.

    Returns
    -------
    dict of str to (matrix, offset)
        timbre ``(513 c, 50)``, pattern ``(600, 30)`` (the horizontal filters at one position),
        patterns ``(1250, 420)`` (at all of a context), shared ``(420, 128)``, and a stack over
        sources each: dense ``(S, 128, 420)``, unfold ``(S, 420, 1250)``, draw ``(S, 50, 513 c)``.
    """
    kernel = {layer: parameters[f"{layer}/kernel"] for layer in (*ENCODER, *DECODER)}
    bias = {layer: parameters[f"{layer}/bias"] for layer in (*ENCODER, *DECODER)}
    xp = namespace(kernel["global_dense"])
    n_sources, _, channels, n_timbres = kernel["vertical_deconvolution"].shape
    sizes = infer_sizes(parameters)
    context = sizes.context
    n_inputs = N_BINS * channels
    vertical = xp.reshape(kernel["vertical_deconvolution"], (n_sources, n_inputs, n_timbres))
    unfold = [
        convolution_matrix(kernel["horizontal_deconvolution"][i], context=context)
        for i in range(n_sources)
    ]
    return {
        "timbre": (
            xp.reshape(kernel["vertical_convolution"], (n_inputs, n_timbres)),
            bias["vertical_convolution"],
        ),
        "pattern": (
            xp.reshape(kernel["horizontal_convolution"], (sizes.pattern * n_timbres, -1)),
            bias["horizontal_convolution"],
        ),
        "patterns": (
            xp.transpose(convolution_matrix(kernel["horizontal_convolution"], context=context), (1, 0)),
            xp.tile(bias["horizontal_convolution"], (sizes.n_positions,)),
        ),
        "shared": (kernel["global_dense"], bias["global_dense"]),
        "dense": (kernel["single_dense"], bias["single_dense"][:, None]),
        "unfold": (
            xp.stack(unfold),
            xp.tile(bias["horizontal_deconvolution"], (1, context))[:, None],
        ),
        "draw": (
            xp.transpose(vertical, (0, 2, 1)),
            xp.tile(bias["vertical_deconvolution"], (1, N_BINS))[:, None],
        ),
    }


def context_length(pairs: dict) -> int:
    """Tell how many frames a network sees at once.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`.

    Returns
    -------
    int
        25 for the report's.
    """
    return pairs["patterns"][0].shape[0] // pairs["timbre"][0].shape[1]


def _affine(pair, values):
    matrix, offset = pair
    product = namespace(values).matmul(values, matrix)
    product += offset  # in place, where NumPy computes
    return product


def timbre(pairs: dict, magnitudes):
    """Match every frame with the 50 timbre filters: the vertical convolution.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`.
    magnitudes : array of shape (..., 513, n_channels), float32
        Magnitudes, any number of frames.

    Returns
    -------
    array of shape (..., 50), float32
        How strongly each filter answers, in each frame.
    """
    flat = (*magnitudes.shape[:-2], pairs["timbre"][0].shape[0])
    shape = tuple(-1 if size is None else size for size in flat)
    return _affine(pairs["timbre"], namespace(magnitudes).reshape(magnitudes, shape))


def bottleneck(pairs: dict, timbres):
    """Sum up a context in 128 numbers: horizontal convolution and shared dense layer.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`.
    timbres : array of shape (n_contexts, 25, 50), float32
        `timbre` of the frames of each context.

    Returns
    -------
    array of shape (n_contexts, 128), float32
        Non-negative.
    """
    xp = namespace(timbres)
    flat = xp.reshape(timbres, (-1, pairs["patterns"][0].shape[0]))
    return xp.maximum(_affine(pairs["shared"], _affine(pairs["patterns"], flat)), 0.0)


def encode_song(pairs: dict, timbres: np.ndarray, hop: int) -> np.ndarray:
    """Sum up all contexts of a song, with the horizontal convolution once a frame.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`.
    timbres : ndarray of shape (n_frames, 50), float32
        `timbre` of the frames of a song: at least one context.
    hop : int
        Frames between the starts of contexts.

    Returns
    -------
    ndarray of shape (n_contexts, 128), float32
        The `bottleneck` of every context that is whole.
    """
    n_taps = pairs["pattern"][0].shape[0] // timbres.shape[1]
    n_positions = context_length(pairs) - n_taps + 1
    heard = np.lib.stride_tricks.sliding_window_view(timbres, n_taps, axis=0)
    heard = np.swapaxes(heard, 1, 2).reshape(len(heard), -1)
    patterns = _affine(pairs["pattern"], heard)
    contexts = np.lib.stride_tricks.sliding_window_view(patterns, n_positions, axis=0)[::hop]
    contexts = np.swapaxes(contexts, 1, 2).reshape(len(contexts), -1)
    return np.maximum(_affine(pairs["shared"], contexts), 0.0)


def decode(pairs: dict, shared):
    """Draw each source's magnitudes from the shared numbers: all decoders at once.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`, with S sources and c channels.
    shared : array of shape (n_contexts, 128), float32
        `bottleneck` of each context.

    Returns
    -------
    array of shape (S, n_contexts, 25, 513, c), float32
        Non-negative; only their ratios count.
    """
    context = context_length(pairs)
    drawn = draw(pairs, unfold(pairs, spread(pairs, shared), 0, context))
    n_sources, _, n_inputs = pairs["draw"][0].shape
    shape = (n_sources, -1, context, N_BINS, n_inputs // N_BINS)
    return namespace(drawn).reshape(drawn, shape)


def spread(pairs: dict, shared):
    """Give every source its own numbers back: the dense layers of the decoders.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`, with S sources.
    shared : array of shape (n_contexts, 128), float32
        `bottleneck` of each context.

    Returns
    -------
    array of shape (S, n_contexts, 420), float32
        Non-negative: 30 patterns at each of 14 positions.
    """
    return namespace(shared).maximum(_affine(pairs["dense"], shared), 0.0)


def unfold(pairs: dict, patterns, start: int, stop: int):
    """Unfold patterns into the timbres of some frames: the horizontal deconvolution.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`, with S sources.
    patterns : array of shape (S, n_contexts, 420), float32
        `spread` of each context.
    start, stop : int
        Which frames of the contexts.

    Returns
    -------
    array of shape (S, n_contexts * (stop - start), 50), float32
        The timbres, a frame a row.
    """
    matrix, offset = pairs["unfold"]
    n_sources, n_timbres, _ = pairs["draw"][0].shape
    rows, n_patterns = pairs["pattern"][0].shape
    n_taps = rows // n_timbres
    # Positions that reach these frames; what the band holds for the others is 0.
    near = slice(max(0, start - n_taps + 1) * n_patterns, stop * n_patterns)
    frames = slice(start * n_timbres, stop * n_timbres)
    timbres = _affine((matrix[:, near, frames], offset[..., frames]), patterns[..., near])
    return namespace(timbres).reshape(timbres, (n_sources, -1, n_timbres))


def draw(pairs: dict, timbres):
    """Draw the bins of frames: the vertical deconvolution and its absolute value.

    Parameters
    ----------
    pairs : dict
        The network's `matrices`, with S sources and c channels.
    timbres : array of shape (S, n_frames, 50), float32
        `unfold` of some contexts.

    Returns
    -------
    array of shape (S, n_frames, 513 c), float32
        Non-negative.
    """
    drawn = _affine(pairs["draw"], timbres)
    if isinstance(drawn, np.ndarray):
        return np.abs(drawn, out=drawn)
    return namespace(drawn).abs(drawn)


def normalize(drawn):
    """Turn the decoders' magnitudes into masks.

    Parameters
    ----------
    drawn : array of shape (S, ...), float32
        Non-negative values by source.

    Returns
    -------
    array of shape (S, ...), float32
        Each divided by the sum over sources; 1/S where all are zero, where the report has 0/0, or
        so near to it that float32 cannot square the sum, as the derivative has to.
    """
    if isinstance(drawn, np.ndarray):
        return normalize_in_place(drawn.copy())
    xp = namespace(drawn)
    total = xp.sum(drawn, axis=0)
    silent = total < SQUARABLE
    # Both branches of a `where` are differentiated: the divisor must never be zero.
    share = drawn / xp.where(silent, xp.ones_like(total), total)
    return xp.where(silent, xp.full_like(drawn, 1.0 / drawn.shape[0]), share)


def normalize_in_place(drawn: np.ndarray, whole: np.ndarray | float = 1.0) -> np.ndarray:
    """Do in place what `normalize` does: half of the time, which goes to memory.

    Parameters
    ----------
    drawn : ndarray of shape (S, ...), float32
        Non-negative values by source; the masks afterwards.
    whole : ndarray that broadcasts to ``drawn[0]``, or float
        What the masks sum to; 1 by default.

    Returns
    -------
    ndarray of shape (S, ...), float32
        The same array.
    """
    total = drawn.sum(axis=0)
    if total.min(initial=1.0) < SQUARABLE:
        silent = total < SQUARABLE
        drawn[:, silent] = 1 / len(drawn)
        total[silent] = 1
    drawn *= np.divide(whole, total, out=total)
    return drawn


def masks(parameters: Parameters, magnitudes):
    """Compute the soft masks of contexts.

    Parameters
    ----------
    parameters : dict of str to array
        The network, with S sources and c channels.
    magnitudes : array of shape (n_contexts, 25, 513, c), float32
        Magnitudes of the mixture.

    Returns
    -------
    array of shape (S, n_contexts, 25, 513, c), float32
        Non-negative, sum 1 over the sources.
    """
    pairs = matrices(parameters)
    return normalize(decode(pairs, bottleneck(pairs, timbre(pairs, magnitudes))))
