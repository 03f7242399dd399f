"""Every notebook alone: a fresh kernel, an empty folder, no songs, and sepkit not yet installed.

That is what Colab gives. ``make notebooks`` runs this with all that sepkit needs, at the oldest
versions that it admits, but without sepkit. The first cell of a notebook installs it, here from the
wheel of ``SEPKIT_WHEEL``. With ``SEPKIT_EXECUTED=DIR``, the executed notebooks stay there, as a
site without songs shows them; ``SEPKIT_PLAYER_DIRECTORY`` holds its sounds.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

BOOK = Path(__file__).parents[1] / "book"


def code(path: Path) -> list[dict]:
    """List the cells that run."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


NOTEBOOKS = sorted(filter(code, BOOK.glob("*.ipynb")))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_sepkit_and_is_not_on_the_site(path):
    cell, *_ = code(path)
    assert cell["metadata"]["tags"] == ["remove-cell"]
    # One page compiles the engine.
    extras = "evaluation,notebook,band" + ",export" * (path.stem == "in_the_page")
    install = f'%pip install --quiet "sepkit[{extras}] @ git+REPOSITORY"'
    source = "".join(cell["source"])
    assert source.endswith(install)
    first = "".join(code(BOOK / "index.ipynb")[0]["source"])
    assert source.replace(",export]", "]") == first


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Make an environment that has pip and all that this one has, which lacks sepkit."""
    if "SEPKIT_WHEEL" not in os.environ:
        pytest.skip("needs an environment without sepkit, and its wheel: run make notebooks")
    assert not importlib.util.find_spec("sepkit"), "the first cell would have nothing to install"
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "all.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    spec = tmp_path / "jupyter" / "kernels" / "alone"
    spec.mkdir(parents=True)
    command = [
        str(folder / "bin" / "python"),
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "alone"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return "alone"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_alone(path, kernel, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    executed = os.environ.get("SEPKIT_EXECUTED")
    for name in ("SEPKIT_DATA", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    if not executed:
        monkeypatch.delenv("SEPKIT_PLAYER_DIRECTORY", raising=False)
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    written = first.source
    wheel = Path(os.environ["SEPKIT_WHEEL"]).as_uri()
    first.source = re.sub(r"git\+REPOSITORY", wheel, written)
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name=kernel,
        record_timing=False,  # the cache of a build compares cells with their metadata
        resources={"metadata": {"path": tmp_path}},
    )
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    if executed:
        first.source, first.outputs = written, []
        nbformat.write(notebook, Path(executed) / path.name)
