"""Errors whose text is one line fit to print: the file or value, the reason, the remedy."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class SepkitError(Exception):
    """Base class of the errors that a user can remedy."""


class AudioError(SepkitError):
    """Audio that cannot be read, written or used."""


class AudioWarning(UserWarning):
    """Audio that was read although something is wrong with it."""


class DatasetError(SepkitError):
    """A data set, or a song of one, that is missing or incomplete."""


class ModelError(SepkitError):
    """A weight file or model that is unknown or unsuitable."""


class ParameterError(SepkitError, ValueError):
    """An argument out of range or of the wrong shape."""


class MissingPackageError(SepkitError, ImportError):
    """An optional package that is not installed."""


def import_optional(name: str, extra: str) -> Any:
    """Import an optional package.

    Parameters
    ----------
    name, extra : str
        The package, and the extra of sepkit that brings it.

    Returns
    -------
    module
        The package.

    Raises
    ------
    MissingPackageError
        When it, or the ffmpeg it needs, is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackageError(
            f"{name} is not installed; install it with: pip install 'sepkit[{extra}]'"
        ) from error
    except RuntimeError as error:  # stempeg's, which musdb imports too
        raise MissingPackageError(
            f"{name} needs ffmpeg, which is not installed; install it with your system's packages"
        ) from error
