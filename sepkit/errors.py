"""What can go wrong, said in one line: the thing, the reason, the remedy."""


class SepkitError(Exception):
    """Any failure that the user can mend; its text is one line fit to print."""


class AudioError(SepkitError):
    """A sound that cannot be read, written or used."""


class DatasetError(SepkitError):
    """A data set, or a song of one, that is missing or incomplete."""


class ModelError(SepkitError):
    """A weight file or a model that is unknown or does not fit."""


class ParameterError(SepkitError, ValueError):
    """An argument out of its range or of the wrong shape."""


class MissingPackageError(SepkitError, ImportError):
    """An optional package that is not installed."""
