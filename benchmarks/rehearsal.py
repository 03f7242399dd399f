"""`make rehearsal`: the book's commands for the whole of DSD100, on computed songs.

Each command runs in a process of its own; what it needs and what it prints are stored.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from sepkit.files import write_json
from sepkit.study import cards, commands, rehearsal

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "book" / "whole_datasets.ipynb"
RESULTS = ROOT / "book" / "results" / "rehearsal.json"
EPOCHS = "--epochs 1"
"""What cuts a training short: at the first steps it needs what it needs later."""


def printed_commands(page: Path = PAGE) -> list[str]:
    """Return the commands that a page prints for the whole of DSD100, in order."""
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    found = re.findall(r"^sepkit (?:train|evaluate) .*$", prose.replace("\\\n", " "), re.MULTILINE)
    return [" ".join(line.split()) for line in found if "--root DSD100" in line]


def _memory(pid: int) -> int:
    """Return the memory of a process and its children, without files mapped into it [bytes]."""
    try:
        proc = Path(f"/proc/{pid}")
        status = (proc / "status").read_text()
        children = " ".join(path.read_text() for path in proc.glob("task/*/children"))
    except OSError:  # it has ended
        return 0
    own = re.search(r"RssAnon:\s+(\d+) kB", status)
    of_children = sum(_memory(int(child)) for child in children.split())
    return of_children + (1024 * int(own[1]) if own else 0)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the files below a folder, but for the songs [bytes]."""
    found = {}
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and path.suffix != ".wav":
                found[path.relative_to(folder).as_posix()] = path.stat().st_size
        except OSError:  # gone meanwhile
            continue
    return found


def run(command: str, folder: Path, *, added: str = "") -> dict:
    """Run a command in a folder; return what it needed and printed."""
    before = _sizes(folder)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch, tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(f"{command} {added}")],
            cwd=folder, stdout=out, env={**os.environ, "TMPDIR": scratch},
        )  # fmt: skip
        memory = disk = 0
        while process.poll() is None:
            memory = max(memory, _memory(process.pid))
            disk = max(disk, sum(_sizes(Path(scratch)).values()))
            time.sleep(0.2)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"{command}: exit code {process.returncode}")
        out.seek(0)
        lines = out.read().strip().splitlines()
    files = {name: n for name, n in _sizes(folder).items() if name not in before}
    result = {
        "command": command, "added": added, "seconds": round(seconds, 1), "memory": memory,
        "disk": disk, "load": round(load, 1), "files": files, "output": lines,
    }  # fmt: skip
    for card in (folder / name for name in files if name.endswith(".json")):
        # Scores have none.
        if history := json.loads(card.read_text(encoding="utf-8")).get("history"):
            result["steps"] = sum(row["steps"] for row in history)
            result["step_seconds"] = round(sum(row["seconds"] for row in history), 1)
    return result


def _describe(split: str, root: Path) -> dict:
    songs = commands.load_tracks("dsd100", split=split, root=root)
    seconds = [song.read().shape[1] / song.rate for song in songs]
    sizes = [path.stat().st_size for path in root.glob(f"*/{split.title()}/*/*.wav")]
    return {
        "songs": len(songs),
        "seconds": round(sum(seconds), 1),
        "longest": round(max(seconds), 1),
        "bytes": sum(sizes),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Rehearse and store the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS, help="where to store them")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sepkit-rehearsal-") as place:
        folder = Path(place)
        started = time.perf_counter()
        rehearsal.write_songs(folder / "DSD100")
        written = time.perf_counter() - started
        result = {
            "date": date.today().isoformat(),
            "commit": cards.describe_commit(),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "writing": round(written, 1),
            "songs": {split: _describe(split, folder / "DSD100") for split in ("dev", "test")},
            "commands": [],
        }
        for command in printed_commands():
            print(command, flush=True)
            added = EPOCHS if command.startswith("sepkit train") else ""
            result["commands"].append(run(command, folder, added=added))
            print(json.dumps(result["commands"][-1], indent=1), flush=True)
    write_json(result, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
