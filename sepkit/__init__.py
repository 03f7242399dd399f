"""A song in, four stems out, and everything the book measures on the way.

Nothing heavy is imported until it is used: separating and scoring never import TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "SOURCES": "datasets",
    "Track": "datasets",
    "band_songs": "datasets",
    "dsd100": "datasets",
    "example": "datasets",
    "folder": "datasets",
    "musdb18": "datasets",
    "open_stems": "datasets",
    "list_models": "parameters",
    "build_model": "model",
    "load_model": "model",
    "report_network": "model",
    "separate": "separation",
    "SepkitError": "errors",
    "stem_player": "player",
}
_MODULES = (
    "ablations",
    "audio",
    "band",
    "bsseval",
    "datasets",
    "diagnosis",
    "effects",
    "errors",
    "experiments",
    "files",
    "losses",
    "media",
    "metrics",
    "model",
    "network",
    "parameters",
    "player",
    "plotting",
    "sampling",
    "separation",
    "spectral",
    "speed",
    "songtable",
    "stepper",
    "training",
)

__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"sepkit.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"sepkit.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sepkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
