"""Every notebook alone: a fresh kernel, an empty folder, the installed package and no songs.

That is what Colab and Binder give. ``make notebooks`` runs this where sepkit is installed from its
wheel, at the oldest versions that it admits. With ``SEPKIT_EXECUTED=DIR``, the executed notebooks
stay there, as a site without songs shows them; ``SEPKIT_PLAYER_DIRECTORY`` holds its sounds.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "book"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Skip where an empty folder sees this checkout instead of an installed package."""
    code = "import sepkit; print(sepkit.__file__)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
    )
    if "site-packages" not in run.stdout:
        pytest.skip("sepkit is this checkout here, not an installed wheel: run make notebooks")


@pytest.mark.parametrize("path", sorted(BOOK.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs_alone(path, installed, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    executed = os.environ.get("SEPKIT_EXECUTED")
    for name in ("SEPKIT_DATA", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    if not executed:
        monkeypatch.delenv("SEPKIT_PLAYER_DIRECTORY", raising=False)
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,  # the cache of a build compares cells with their metadata
        resources={"metadata": {"path": tmp_path}},
    )
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    if executed:
        nbformat.write(notebook, Path(executed) / path.name)
