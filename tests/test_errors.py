"""Errors that tell a user what to do."""

import json

import pytest
from helpers import one_line

from sepkit import errors
from sepkit.errors import MissingPackageError, ParameterError, SepkitError


def test_an_optional_package_that_is_there_is_imported():
    assert errors.import_optional("json", "notebook") is json


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with pytest.raises(MissingPackageError) as error:
        errors.import_optional("sepkit_no_such_package", "notebook")
    one_line(error, "sepkit_no_such_package", "pip install 'sepkit[notebook]'")


def test_a_package_that_misses_ffmpeg_says_so(monkeypatch):
    """stempeg and musdb raise RuntimeError as they are imported without it."""

    def fail(name):
        raise RuntimeError("ffmpeg or ffprobe could not be found!")

    monkeypatch.setattr(errors, "import_module", fail)
    with pytest.raises(MissingPackageError) as error:
        errors.import_optional("stempeg", "evaluation")
    one_line(error, "stempeg", "ffmpeg")


def test_errors_are_caught_as_what_python_calls_them_too():
    assert issubclass(MissingPackageError, ImportError) and issubclass(ParameterError, ValueError)
    assert all(issubclass(kind, SepkitError) for kind in (MissingPackageError, ParameterError))


@pytest.mark.parametrize("module", ["keras", "tensorflow"])
def test_a_model_without_tensorflow_says_how_to_get_it(python, module):
    code = f"import sys; sys.modules[{module!r}] = None; import sepkit.model"
    run = python("-c", code, check=False)
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert last.startswith("sepkit.errors.MissingPackageError: ")
    assert "pip install 'sepkit[tensorflow]'" in last
