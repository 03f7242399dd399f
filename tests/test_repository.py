"""What holds the repository together: versions, packages, imports, what may be committed."""

import ast
import builtins
import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import sepkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# The core, in the order of the data: each module may import only those before it.
# `io` and `engine`, packages, stand at their places among them.
CORE = [
    "errors", "files", "io", "audio", "tracks", "datasets", "stft", "weights", "network", "masks",
    "model", "losses", "batches", "training", "engine", "streaming", "separation", "bsseval",
    "metrics",
]  # fmt: skip
PACKAGES = ("io", "engine")
ROOMS = ("study", "notebook", "export")
ABOVE = ("__init__", "__main__", "cli")  # what may import all

# What Colab brought along in August 2026: an installation of sepkit must leave it as it is.
COLAB = {
    "tensorflow": "2.20.0",
    "keras": "3.13.0",
    "numpy": "2.1.0",
    "scipy": "1.16.0",
    "pandas": "2.2.0",
    "librosa": "0.11.0",
    "ipython": "7.34.0",
    "ipywidgets": "7.7.1",
    "matplotlib": "3.10.0",
    "h5py": "3.16.0",
}


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Files that are, or would be, committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_audio_is_committed(files):
    sound = {".wav", ".flac", ".ogg", ".mp3", ".m4a", ".mp4", ".aac", ".aiff", ".mid", ".sf2"}
    assert [path.name for path in files if path.suffix.lower() in sound] == []


def test_no_file_names_a_registry_or_a_place_of_one_machine(files):
    # Written so that this file does not find itself.
    forbidden = re.compile(
        r"pypi[.]org|pythonhosted[.]org|npmjs[.]org|debian[.]org|anaconda[.]org"
        r"|inde[x]-url|/simpl[e]/|find-link[s]"
        r"|/wor[k]/|/roo[t]/|/hom[e]/\w|/User[s]/\w|C:\\User[s]"
    )
    found = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {line}" for line in lines if forbidden.search(line)]
    assert found == []


def test_notebooks_are_stored_without_outputs(files):
    stored = []
    for path in files:
        if path.suffix != ".ipynb":
            continue
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell.get("outputs") or cell.get("execution_count"):
                stored.append(f"{path.relative_to(ROOT)}: {cell['source']}")
        widgets = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("widgets")
        if widgets:
            stored.append(f"{path.relative_to(ROOT)}: state of widgets")
    assert stored == []


HIDDEN = {"remove-cell", "remove-input", "hide-cell", "hide-input"}


def names(code: str) -> tuple[set[str], set[str]]:
    """Names that a cell gives a value anywhere, and names that it uses."""
    given, used = set(), set()
    for node in ast.walk(ast.parse(re.sub(r"^%.*", "pass", code, flags=re.MULTILINE))):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name):
                given.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                given.add(name)
            case ast.ExceptHandler(name=str(name)):
                given.add(name)
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                given |= {(alias.asname or alias.name).split(".")[0] for alias in imported}
    return given, used


def test_the_code_on_a_page_can_be_copied_from_the_page():
    missing = []
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        known = {*dir(builtins), "display"}
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code" and not HIDDEN & {*cell["metadata"].get("tags", [])}:
                given, used = names("".join(cell["source"]))
                known |= given
                missing += [f"{path.name}, {cell['id']}: {name}" for name in sorted(used - known)]
    assert missing == []


def test_binder_finds_its_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    (python,) = [name.removeprefix("python=") for name in conda if name.startswith("python=")]
    assert f"Programming Language :: Python :: {python}" in PROJECT["classifiers"]
    # A path of the checkout: with it, the checkout is copied before the environment is made.
    assert pip == {"pip": ["-e .[book]"]}
    assert "book" in PROJECT["optional-dependencies"]
    # A folder of this name would hide both files.
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists()
    listed = ["git", "ls-files", "--stage", "postBuild"]
    assert subprocess.run(listed, cwd=ROOT, capture_output=True).stdout.startswith(b"100755 ")
    assert (ROOT / "postBuild").read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", changelog, flags=re.MULTILINE).group(1)
    cited = (ROOT / "book" / "cite.md").read_text(encoding="utf-8")
    (in_book,) = re.findall(r"version = \{\{?([\d.]+)\}", cited)
    installed = metadata.version("sepkit")
    assert {citation["version"], newest, installed, in_book} == {sepkit.__version__}
    assert PROJECT["dynamic"] == ["version"]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> dict[str, set[str]]:
    """Names in the wheel and in the source archive, as ``pip install`` would build them."""
    folder = tmp_path_factory.mktemp("dist")
    code = (
        "import sys, hatchling.build as b; b.build_wheel(sys.argv[1]); b.build_sdist(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        source = {name.partition("/")[2] for name in tar.getnames()}
    return {"wheel": set(zipfile.ZipFile(wheel).namelist()), "source": source}


def test_wheel_holds_every_file_of_the_library_the_weights_and_the_results(distributions, files):
    library = {path.relative_to(ROOT).as_posix() for path in files}
    package = {name for name in library if name.startswith("sepkit/")}
    weights = {f"sepkit/data/{name}" for name in library if name.startswith("weights/")}
    results = {
        f"sepkit/data/{name}"
        for name in library
        if name.startswith("book/results/") or name == "benchmarks/results.json"
    }
    assert "sepkit/py.typed" in package and "sepkit/data/book/results/comparison.json" in results
    assert any(name.endswith(".weights.h5") for name in weights)
    in_wheel = {name for name in distributions["wheel"] if name.startswith("sepkit/")}
    assert in_wheel == package | weights | results


def test_source_archive_can_be_tested_and_built(distributions, files):
    library = {path.relative_to(ROOT).as_posix() for path in files}
    needed = {
        name
        for name in library
        if name.split("/")[0] in ("sepkit", "weights", "tests", "book", "benchmarks")
        or "/" not in name
    }
    assert needed - distributions["source"] <= {"CONTRIBUTING.md"}


def test_every_model_has_its_card():
    weights = {path.name.removesuffix(".weights.h5") for path in (ROOT / "weights").glob("*.h5")}
    cards = {path.stem for path in (ROOT / "weights").glob("*.json")}
    assert weights == cards != set()


def test_bounds_admit_what_colab_brings():
    optional = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *sum(optional.values(), [])]
    bounds = {line.name: line.specifier for line in map(Requirement, lines)}
    assert [name for name in COLAB if not bounds[name].contains(COLAB[name])] == []


def _needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Names of all that ``name[extras]`` brings into this environment."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    names = {name}
    for requirement in map(Requirement, metadata.requires(name) or []):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            inner = frozenset(requirement.extras)
            names |= _needed(canonicalize_name(requirement.name), inner, seen)
    return names


def test_constraints_pin_all_that_make_installs():
    if Path(sys.prefix) != ROOT / ".venv":
        pytest.skip("not in the .venv that make has made")
    pins = {}
    for line in map(Requirement, (ROOT / "constraints.txt").read_text().splitlines()):
        if line.marker is None or line.marker.evaluate():
            pins[canonicalize_name(line.name)] = str(line.specifier)
    needed = _needed("sepkit", frozenset({"book", "test"}), set()) - {"sepkit"}
    assert {name: f"=={metadata.version(name)}" for name in needed} == {
        name: pins.get(name) for name in needed
    }


def _public() -> dict[str, str]:
    """For each name of the lazy table, the module or package that it comes from."""
    stub = ast.parse((ROOT / "sepkit" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: node.module or alias.name for node in imports for alias in node.names}


def _imported(source: str, package: str = "sepkit") -> set[str]:
    """Modules of the core, and rooms, that a source in a package imports in whatever way."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) + 1 - node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            used |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            used.add(ast.unparse(node))  # import sepkit; sepkit.study...
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used.add(node.value)  # for importlib
    names = {name.split(".")[1] for name in used if re.fullmatch(r"sepkit(\.\w+)+", name)}
    public = _public()
    return {public.get(name, name).partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("sepkit", "def f():\n    from sepkit.study.band import band_songs"),
        ("sepkit", "if TYPE_CHECKING:\n    from sepkit import study"),
        ("sepkit", "from .study import band"),
        ("sepkit.notebook", "from ..study.band import band_songs"),
        ("sepkit", "importlib.import_module('sepkit.study.band')"),
        ("sepkit", "import sepkit\nsepkit.study.band.band_songs(1)"),
        ("sepkit", "from sepkit import band_songs"),
        ("sepkit", "import sepkit\nsepkit.band_songs(1)"),
    ],
)
def test_no_way_of_importing_escapes_the_tests_below(package, source):
    assert _imported(source, package) == {"study"}


MODULES = sorted((ROOT / "sepkit").glob("**/*.py"))


def test_every_module_has_its_place():
    """The test knows all modules: a new one of the core joins the order above."""
    core = {path.stem for path in (ROOT / "sepkit").glob("*.py")}
    assert core | {*PACKAGES, "cli"} == {*CORE, *ABOVE}
    assert {path.parent.name for path in MODULES} == {"sepkit", *PACKAGES, "cli", *ROOMS}


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_imports_only_those_before_it(module):
    place = ROOT / "sepkit" / module
    paths = place.glob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    package = f"sepkit.{module}" if place.is_dir() else "sepkit"
    imported = set().union(*(_imported(p.read_text(encoding="utf-8"), package) for p in paths))
    assert (imported & {*CORE, *ROOMS, *ABOVE}) - {module} <= {*CORE[: CORE.index(module)]}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_arrow_points_from_the_core_to_a_room_or_between_these(path):
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    imported = _imported(path.read_text(encoding="utf-8"), package)
    if path.parent.name in ROOMS:
        assert not imported & ({*ROOMS, "cli"} - {path.parent.name})
    elif path.stem not in ABOVE and path.parent.name not in ABOVE:
        assert not imported & {*ROOMS, "cli"}


def test_the_core_stays_thin():
    lines = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "sepkit").glob("*.py")
    }
    assert sum(lines.values()) <= 4000
    assert max(lines.values()) <= 450
    for path in MODULES:
        if path.parent.name in (*PACKAGES, "cli"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 450


def test_every_public_name_and_module_can_be_reached():
    for name in sepkit.__all__:
        assert getattr(sepkit, name) is not None
    for room in (*ROOMS, *PACKAGES):
        package = getattr(sepkit, room)
        modules = {path.stem for path in (ROOT / "sepkit" / room).glob("*.py")} - {"__init__"}
        assert set(package.__all__) == modules
    assert {*CORE, *ROOMS} <= {*sepkit.__all__}


HEAVY = {"tensorflow", "keras", "librosa", "numba", "matplotlib", "museval", "IPython", "pandas",
         "onnx"}  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "left_out"),
    [
        ("sepkit", HEAVY | {"numpy", "scipy"}),
        ("sepkit.cli", HEAVY | {"scipy", "joblib", "tqdm"}),
        ("sepkit.cli, sepkit.study.arms, sepkit.study.results, sepkit.datasets", HEAVY),
        ("sepkit.separation, sepkit.metrics, sepkit.notebook.player", HEAVY),
    ],
)
def test_importing_stays_light(modules, left_out):
    code = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert left_out.isdisjoint(run.stdout.split())


def test_importing_sepkit_takes_less_than_50_ms():
    code = "from time import perf_counter as t; s = t(); import sepkit; print(t() - s)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            for _ in range(5)]  # fmt: skip
    assert min(float(run.stdout) for run in runs) < 0.05


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("book", "weights/experiment2.json is missing"),
        (".venv/installed", "needs Python 3.11 to 3.13"),
    ],
)
def test_make_says_in_one_line_what_is_missing(target, says, tmp_path):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / "weights").mkdir()
    for name in ("experiment1.weights.h5", "experiment1.json", "experiment2.weights.h5"):
        (tmp_path / "weights" / name).touch()
    command = ["make", "-f", str(ROOT / "Makefile"), "PYTHON=false", target]
    # A make that runs these tests would have this one tell which folder it enters.
    outside = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=outside)
    assert run.returncode != 0
    (line,) = run.stdout.splitlines()
    assert line.startswith("make: ") and says in line


def test_every_promise_names_a_test_that_there_is():
    text = (ROOT / "book" / "promises.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    functions = {}
    for name, function in named:
        if name not in functions:
            tree = ast.parse((ROOT / "tests" / name).read_text(encoding="utf-8"))
            functions[name] = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        assert function in functions[name], f"{name}::{function}"
