"""The network's convolutions, transcribed with loops: what the other forms are tested against."""

import numpy as np


def convolve(x, kernel, bias):
    """Valid convolution of (height, width, in) with (kh, kw, in, out), stride 1."""
    kh, kw, _, n_out = kernel.shape
    height, width = x.shape[0] - kh + 1, x.shape[1] - kw + 1
    y = np.empty((height, width, n_out))
    for i in range(height):
        for j in range(width):
            y[i, j] = np.tensordot(x[i : i + kh, j : j + kw], kernel, 3) + bias
    return y


def deconvolve(x, kernel, bias):
    """Transposed convolution of (height, width, in) with (kh, kw, out, in), stride 1."""
    kh, kw, n_out, _ = kernel.shape
    y = np.zeros((x.shape[0] + kh - 1, x.shape[1] + kw - 1, n_out))
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[i : i + kh, j : j + kw] += kernel @ x[i, j]
    return y + bias


def masks(layers, sources, magnitudes):
    """Masks (n_sources, n_frames, 513, channels) of one context, from the report's layers."""

    def relu(x):
        return np.maximum(x, 0)

    x = convolve(magnitudes.astype(np.float64), *layers["vertical_convolution"])
    x = convolve(x, *layers["horizontal_convolution"])
    grid = x.shape
    kernel, bias = layers["global_dense"]
    shared = relu(x.reshape(-1) @ kernel + bias)
    drawn = []
    for source in sources:
        kernel, bias = layers[f"single_dense_{source}"]
        x = relu(shared @ kernel + bias).reshape(grid)
        x = deconvolve(x, *layers[f"horizontal_deconvolution_{source}"])
        x = deconvolve(x, *layers[f"vertical_deconvolution_{source}"])
        drawn.append(np.abs(x))
    return np.stack(drawn) / np.sum(drawn, axis=0)


def random_layers(sources=("bass", "drums", "other", "vocals"), channels=1, seed=0, context=25):
    """Kernels and biases under the report's names and shapes, different in every layer."""
    rng = np.random.default_rng(seed)
    n_flat = 30 * (context - 12 + 1)
    shapes = {
        "vertical_convolution": ((1, 513, channels, 50), (50,)),
        "horizontal_convolution": ((12, 1, 50, 30), (30,)),
        "global_dense": ((n_flat, 128), (128,)),
    }
    for source in sources:
        shapes[f"single_dense_{source}"] = ((128, n_flat), (n_flat,))
        shapes[f"horizontal_deconvolution_{source}"] = ((12, 1, 50, 30), (50,))
        shapes[f"vertical_deconvolution_{source}"] = ((1, 513, channels, 50), (channels,))
    return {
        name: tuple((0.1 * rng.standard_normal(shape)).astype(np.float32) for shape in pair)
        for name, pair in shapes.items()
    }


def close(masks_a, masks_b, weight, tolerance=1e-5):
    """Whether two masks let the same sound through: masked magnitudes, to `tolerance` of peak."""
    return np.abs((masks_a - masks_b) * weight).max() <= tolerance * np.abs(weight).max()
