"""What the trust suite shares: room for large files, and the tables at its end."""

import ast
import shutil
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from corpus import CASES, FORMATS  # noqa: E402


@pytest.fixture
def room():
    """A folder for large files, gone after the test whatever became of it; ask for gigabytes."""
    with tempfile.TemporaryDirectory() as place:

        def ask(gigabytes):
            if shutil.disk_usage(place).free < gigabytes << 30:
                pytest.skip(f"needs {gigabytes} GB of free disk in {tempfile.gettempdir()}")
            return Path(place)

        yield ask


# Tables at the end.

_seconds = defaultdict(float)
_outcomes = {}
_cells = {}
_measured = {}


def pytest_runtest_logreport(report):
    if not report.nodeid.startswith("tests/trust/") and "trust" not in str(report.fspath):
        return
    module = Path(report.fspath).stem
    _seconds[module] += report.duration
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = module, report.outcome
        for name, value in report.user_properties:
            if name == "cell":
                _cells[tuple(value[:2])] = value[2]
            elif name == "measured":
                _measured[value] = None  # a set that keeps the order


def pytest_terminal_summary(terminalreporter):
    if not _outcomes:
        return
    if _cells:
        _print_cells(terminalreporter)
    terminalreporter.section("what can be trusted")
    line = "{:84}{:>6}{:>5}{:>7}{:>8}{:>8}".format
    terminalreporter.write_line(line("promise", "cases", "kept", "broken", "skipped", "seconds"))
    for module in sorted(_seconds, key=lambda module: [*_seconds].index(module)):
        found = [outcome for where, outcome in _outcomes.values() if where == module]
        counts = [found.count(outcome) for outcome in ("passed", "failed", "skipped")]
        source = (HERE / f"{module}.py").read_text(encoding="utf-8")
        promise = ast.get_docstring(ast.parse(source)).splitlines()[0]
        row = line(promise, len(found), *counts, f"{_seconds[module]:.0f}")
        terminalreporter.write_line(row, red=counts[1] > 0)
    found = [outcome for _, outcome in _outcomes.values()]
    counts = [found.count(outcome) for outcome in ("passed", "failed", "skipped")]
    terminalreporter.write_line(line("all", len(found), *counts, f"{sum(_seconds.values()):.0f}"))
    for text in _measured:
        terminalreporter.write_line(f"measured: {text}")
    for nodeid, (_, outcome) in _outcomes.items():
        if outcome == "failed":
            terminalreporter.write_line(f"broken: {nodeid.rpartition('/')[2]}")


def _print_cells(terminalreporter):
    """Print what became of each damaged file: a row for each damage, a column for each format."""
    terminalreporter.section("damaged files")
    terminalreporter.write_line(
        "= whole   w warned of   r refused   BROKEN: S a loss without a word, N not as ffmpeg "
        "decodes it,\nM not one line, C crash or traceback, T too slow or large, L left behind"
    )
    names = [name for name in FORMATS if any(name == there for there, _ in _cells)]
    width = max(len(damage) for _, damage in _cells) + 1
    # Names stand upright, so that all formats fit beside each other.
    for row in zip(*(name.rjust(12) for name in names), strict=True):
        terminalreporter.write_line(" " * width + " ".join(row))
    order = ["(none)", *dict.fromkeys(damage for _, damage in CASES)]
    for damage in sorted({damage for _, damage in _cells}, key=order.index):
        marks = " ".join(_cells.get((name, damage), " ") for name in names)
        terminalreporter.write_line(f"{damage:{width}}{marks}")
