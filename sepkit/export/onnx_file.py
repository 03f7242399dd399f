"""A network as an ONNX file, which other programs run, such as ONNX Runtime, in a browser too.

The graph is `sepkit.network.masks`: magnitudes in, masks out. What comes before and after, the STFT
and the masking of the song's spectrum, is left to the program that runs it; what that needs to know
stands in the file's metadata. Along the frames, the graph has the report's convolutions, whose
kernels are small; the matrices of `sepkit.network` repeat them at every position.

A shape in a comment is that of the line below it: N contexts of T frames with c channels, S
sources; 50 timbres and 30 patterns, as in the report's network, stand for any number.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import sepkit
from sepkit.errors import import_optional
from sepkit.files import atomic_write, writing_to
from sepkit.network import SMALLEST_SUM
from sepkit.stft import FRAME_LENGTH, N_BINS, Transform
from sepkit.tracks import RATE
from sepkit.weights import DECODER, ENCODER, Sizes, Weights, check_shapes, infer_sizes, source_names

if TYPE_CHECKING:
    import onnx

OPSET = 13
"""Version of ONNX's operators, the first whose sums take their axes as an input: of 2021."""


def write(
    weights: Weights,
    path: str | os.PathLike[str],
    *,
    name: str = "masks",
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write a network as an ONNX file.

    Parameters
    ----------
    weights : dict of str to array
        The network.
    path : str or Path
        ``NAME.onnx``, written completely or not at all.
    name, card : str, dict
        As for `build`.

    Raises
    ------
    ModelError
        When the arrays do not fit together.
    MissingPackageError
        When onnx is not installed.
    SepkitError
        When the file cannot be written.
    """
    content = build(weights, name=name, card=card).SerializeToString()
    with writing_to(path), atomic_write(path) as beside:
        beside.write_bytes(content)


def build(
    weights: Weights, *, name: str = "masks", card: Mapping[str, Any] | None = None
) -> onnx.ModelProto:
    """Build the ONNX model of a network.

    Its input is ``magnitudes``, float32 of shape (n_contexts, 25, 513, c), where 25 is the number
    of frames per context and n_contexts any number; its output is ``masks``, float32 of shape
    (S, n_contexts, 25, 513, c), non-negative, with sum 1 over the S sources, and 1/S where the
    decoders' outputs are zero.

    Parameters
    ----------
    weights : dict of str to array
        The network, with S sources and c channels.
    name : str
        Name of the graph.
    card : dict, optional
        The card of the weights (`sepkit.weights.read_card`), for their description, licence and
        STFT.

    Returns
    -------
    onnx.ModelProto
        The model. Its metadata are sources (separated by commas), sample_rate [Hz], frame_length
        and hop_length [samples], window, context [frames] and, from the card, description and
        model_license, the key that ONNX defines for it.

    Raises
    ------
    ModelError
        When the arrays do not fit together.
    MissingPackageError
        When onnx is not installed.

    References
    ----------
    Open Neural Network Exchange: Intermediate Representation and Operator Schemas,
    https://onnx.ai/onnx.
    """
    helper = import_optional("onnx", "export").helper
    channels, n_sources = check_shapes(weights)
    sizes = infer_sizes(weights)
    values = {layer: np.asarray(array, np.float32) for layer, array in weights.items()}

    graph = _Graph()
    shared = _encode(graph, values, sizes, "magnitudes")
    decoded = _decode(graph, values, sizes, shared)
    _normalize(graph, n_sources, decoded, "masks")

    shape = ["n_contexts", sizes.context, N_BINS, channels]
    tensor = helper.make_tensor_value_info
    inputs = [tensor("magnitudes", helper.TensorProto.FLOAT, shape)]
    outputs = [tensor("masks", helper.TensorProto.FLOAT, [n_sources, *shape])]
    properties = _describe(n_sources, sizes, card or {})
    opsets = [helper.make_opsetid("", OPSET)]
    # The name of a file may hold bytes that are no characters, which ONNX refuses.
    title = name.encode("utf-8", "replace").decode("utf-8")
    model = helper.make_model(
        helper.make_graph(graph.nodes, title, inputs, outputs, graph.constants),
        producer_name="sepkit",
        producer_version=sepkit.__version__,
        doc_string=_document(properties),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
    )
    helper.set_model_props(model, properties)
    return model


class _Graph:
    """The nodes of a graph and its constants; each node has the name of what it computes."""

    def __init__(self) -> None:
        self._onnx = import_optional("onnx", "export")
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, name: str, operator: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(
            self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        )
        return name

    def reshape(self, name: str, value: str, shape: Sequence[int]) -> str:
        """Reshape; 0 stands for the length that the axis has."""
        wanted = self.constant(f"{name}/shape", np.array(shape, np.int64))
        return self.node(name, "Reshape", value, wanted)

    def transpose(self, name: str, value: str, axes: Sequence[int]) -> str:
        return self.node(name, "Transpose", value, perm=axes)

    def dense(self, layer: str, value: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Multiply by a matrix, or a stack of them, and add the bias."""
        matrix = self.constant(f"{layer}/kernel", kernel)
        product = self.node(f"{layer}/product", "MatMul", value, matrix)
        return self.node(layer, "Add", product, self.constant(f"{layer}/bias", bias))


def _encode(graph: _Graph, values: Weights, sizes: Sizes, magnitudes: str) -> str:
    """Add the encoder: from contexts (N, T, 513, c) to the bottleneck (N, 128)."""
    vertical, horizontal, dense = ENCODER

    # Timbres: each frame by itself.
    kernel = values[f"{vertical}/kernel"].reshape(-1, sizes.n_timbres)
    # (N, T, 513 c)
    frames = graph.reshape("frames", magnitudes, (0, sizes.context, len(kernel)))
    # (N, T, 50)
    timbres = graph.dense(vertical, frames, kernel, values[f"{vertical}/bias"])

    # Patterns: ONNX convolves along the last axis.
    # (N, 50, T)
    series = graph.transpose("timbres", timbres, (0, 2, 1))
    # (N, 30, T - 11)
    patterns = graph.node(
        horizontal,
        "Conv",
        series,
        graph.constant(f"{horizontal}/kernel", values[f"{horizontal}/kernel"].transpose(2, 1, 0)),
        graph.constant(f"{horizontal}/bias", values[f"{horizontal}/bias"]),
    )

    # Bottleneck: the patterns of a position lie next to each other.
    # (N, T - 11, 30)
    positions = graph.transpose("patterns", patterns, (0, 2, 1))
    # (N, (T - 11) 30)
    flat = graph.reshape("patterns/flat", positions, (0, sizes.n_positions * sizes.n_patterns))
    # (N, 128)
    shared = graph.dense(dense, flat, values[f"{dense}/kernel"], values[f"{dense}/bias"])
    return graph.node("shared", "Relu", shared)


def _decode(graph: _Graph, values: Weights, sizes: Sizes, shared: str) -> str:
    """Add the decoders: from the bottleneck (N, 128) to magnitudes (S, N, T, 513, c)."""
    dense, horizontal, vertical = DECODER
    n_sources, _, channels, n_timbres = values[f"{vertical}/kernel"].shape

    # Patterns of each source.
    bias = values[f"{dense}/bias"][:, np.newaxis]
    # (S, N, (T - 11) 30)
    flat = graph.dense(dense, shared, values[f"{dense}/kernel"], bias)
    patterns = graph.node("source_patterns", "Relu", flat)

    # Timbres: the transposed convolution, as a padded one with the kernel reversed, which more
    # engines have in groups; each source is a group.
    # (S, N, T - 11, 30)
    positions = graph.reshape(
        "source_patterns/positions", patterns, (0, 0, sizes.n_positions, sizes.n_patterns)
    )
    # (N, S, 30, T - 11)
    groups = graph.transpose("source_patterns/groups", positions, (1, 0, 3, 2))
    # (N, 30 S, T - 11)
    series = graph.reshape(
        "source_patterns/series", groups, (0, n_sources * sizes.n_patterns, sizes.n_positions)
    )
    kernel = values[f"{horizontal}/kernel"][:, ::-1].transpose(0, 2, 3, 1)
    # (N, 50 S, T)
    timbres = graph.node(
        horizontal,
        "Conv",
        series,
        graph.constant(f"{horizontal}/kernel", kernel.reshape(-1, *kernel.shape[2:])),
        graph.constant(f"{horizontal}/bias", values[f"{horizontal}/bias"].reshape(-1)),
        group=n_sources,
        pads=[sizes.pattern - 1] * 2,
    )

    # Magnitudes: each frame by itself, the sources first again.
    # (N, S, 50, T)
    groups = graph.reshape(
        "source_timbres/groups", timbres, (0, n_sources, n_timbres, sizes.context)
    )
    # (S, N, T, 50)
    frames = graph.transpose("source_timbres", groups, (1, 0, 3, 2))
    kernel = values[f"{vertical}/kernel"].reshape(n_sources, 1, -1, n_timbres).swapaxes(-1, -2)
    matrix = graph.constant(f"{vertical}/kernel", kernel)
    # (S, N, T, 513 c)
    products = graph.node(f"{vertical}/product", "MatMul", frames, matrix)
    # (S, N, T, 513, c)
    bins = graph.reshape(f"{vertical}/bins", products, (0, 0, sizes.context, N_BINS, channels))
    bias = values[f"{vertical}/bias"].reshape(n_sources, 1, 1, 1, channels)
    signed = graph.node(vertical, "Add", bins, graph.constant(f"{vertical}/bias", bias))
    return graph.node("decoded", "Abs", signed)


def _normalize(graph: _Graph, n_sources: int, decoded: str, masks: str) -> None:
    """Add the masks: each source's share of the sum, 1/S where that is nearly zero."""
    axis = graph.constant("total/axis", np.array([0], np.int64))
    # (1, N, T, 513, c)
    total = graph.node("total", "ReduceSum", decoded, axis, keepdims=1)
    smallest = graph.constant("silent/below", np.float32(SMALLEST_SUM))
    silent = graph.node("silent", "Less", total, smallest)
    divisor = graph.node(
        "divisor", "Where", silent, graph.constant("divisor/silent", np.float32(1)), total
    )
    # (S, N, T, 513, c)
    share = graph.node("share", "Div", decoded, divisor)
    uniform = graph.constant("masks/silent", np.float32(1 / n_sources))
    graph.node(masks, "Where", silent, uniform, share)


def _describe(n_sources: int, sizes: Sizes, card: Mapping[str, Any]) -> dict[str, str]:
    """Return what a program that runs the network needs to know, and what the card tells."""
    experiment = card.get("experiment", {})
    transform = Transform(**experiment.get("transform", {}))
    properties = {
        "sources": ",".join(source_names(n_sources)),
        "sample_rate": str(RATE),
        "frame_length": str(FRAME_LENGTH),
        "hop_length": str(transform.hop_length),
        "window": transform.window,
        "context": str(sizes.context),
    }
    if "description" in experiment:
        properties["description"] = experiment["description"]
    if "weights_licence" in card:
        properties["model_license"] = card["weights_licence"]
    return properties


def _document(properties: Mapping[str, str]) -> str:
    """Return the text that viewers show: what goes in, what comes out."""
    names = properties["sources"].replace(",", ", ")
    window = {"hann": "periodic Hann", "blackman-harris": "symmetric Blackman-Harris"}
    text = (
        "Masks that separate a song into its sources ({names}). Input: magnitudes of the song's "
        "STFT, not scaled, in contexts of {context} frames; samples between -1 and 1 at "
        "{sample_rate} Hz, frames of {frame_length} samples every {hop_length}, {shape} window. "
        "Output: a mask for each source, non-negative, with sum 1 over the sources."
    ).format(**properties, names=names, shape=window[properties["window"]])
    return " ".join([text, *filter(None, [properties.get("description")])])
