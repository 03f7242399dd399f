"""Times in alternation, limits of the machine, and the table."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
import threadpoolctl

ROOT = Path(__file__).parents[1]
BLOCK = 128
"""Transforms at once: what fits a cache."""


def alternate(functions: dict[str, Callable], *, repeats: int = 5) -> dict[str, list[float]]:
    """Time functions in turns, after one run each that does not count [s].

    One that returns a float has timed itself.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            result = function()
            took = time.perf_counter() - started
            if turn:
                times[name].append(result if isinstance(result, float) else took)
    return times


def median(times: list[float]) -> float:
    """Return the median."""
    return float(np.median(times))


def spread(times: list[float]) -> float:
    """Half of the distance between the quartiles, in parts of the median."""
    low, high = np.percentile(times, [25, 75])
    return float((high - low) / 2 / median(times))


@dataclass
class Row:
    """One line of the table.

    `ratio` is how many times better than `theirs`, or than the goal where nothing is compared;
    `upper` is the upper quartile of the ratios of single turns; `goal` is what the ratio should
    reach; `fraction` is how much of the limit is reached;
    `published` names an entry of `sepkit.study.cards.published_scores`.
    """

    group: str
    name: str
    ours: float
    unit: str
    ratio: float
    goal: float | None
    theirs: float | None = None
    against: str = ""
    spread: float = 0.0
    limit: str = ""
    fraction: float | None = None
    note: str = ""
    published: str = ""
    upper: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached."""
        return None if self.goal is None else self.ratio >= self.goal

    def as_dict(self) -> dict:
        """Return the row as plain values of four digits."""
        values = asdict(self) | {
            "met": self.met,
            "distance": None if self.goal is None else self.ratio / self.goal,
        }
        return {
            key: float(f"{value:.4g}") if isinstance(value, float) else value
            for key, value in values.items()
        }


def against(
    group: str, name: str, ours: list[float], theirs: list[float], who: str, goal, **more
) -> Row:
    """Compare times: how many times faster."""
    ratio = median(theirs) / median(ours)
    values = {"unit": "s", "spread": spread(ours)} | more
    return Row(
        group, name, median(ours), ratio=ratio, goal=goal, theirs=median(theirs), against=who,
        **values,
    )  # fmt: skip


def near_limit(
    group: str, name: str, ours: list[float], bare: list[float], who: str, goal, **more
) -> Row:
    """Compare with a limit, turn by turn.

    Other work on a shared machine slows what moves memory more than what multiplies in the cache,
    for seconds or minutes: what is compared has to be measured within the same seconds.
    """
    ratios = [limit / spent for limit, spent in zip(bare, ours, strict=True)]
    row = against(group, name, ours, bare, who, goal, **more)
    return replace(row, ratio=median(ratios), upper=float(np.percentile(ratios, 75)))


def within(group: str, name: str, ours: float, budget: float, unit: str, **more) -> Row:
    """Compare with a budget, of which the goal is to need no more."""
    told = [f"budget {budget:g} {unit}".rstrip(), more.pop("note", "")]
    return Row(group, name, ours, unit, ratio=budget / ours, goal=1.0,
               note="; ".join(filter(None, told)), **more)  # fmt: skip


def blas_threads() -> int:
    """Return the number of threads that BLAS uses."""
    return max((lib["num_threads"] for lib in threadpoolctl.threadpool_info()), default=1)


LARGE = 1536
"""Rows and columns of a product that is large enough for BLAS to do its best."""


def large_product() -> Callable:
    """Return a function that multiplies large matrices on all cores."""
    a = np.random.default_rng(0).random((LARGE, LARGE), np.float32)
    return lambda: np.matmul(a, a)


def peak_gflops() -> float:
    """Return what BLAS reaches at best [1e9 operations / s]."""
    times = alternate({"product": large_product()}, repeats=7)["product"]
    return 2 * LARGE**3 / min(times) / 1e9


def copy_bandwidth() -> float:
    """Copy far more than a cache holds, on all cores: bytes read and written [1e9 / s]."""
    n = blas_threads()
    parts = [np.ones((2, 1 << 24), np.float32) for _ in range(n)]
    with ThreadPoolExecutor(n) as pool:

        def copy():
            list(pool.map(lambda part: np.copyto(part[0], part[1]), parts))

        return n * (2 << 26) / min(alternate({"copy": copy}, repeats=5)["copy"]) / 1e9


def in_threads(jobs: list[Callable]) -> Callable:
    """Return a function that runs jobs at the same time, with one thread of BLAS each."""

    def run():
        with ThreadPoolExecutor(len(jobs)) as pool, threadpoolctl.threadpool_limits(1, "blas"):
            list(pool.map(lambda job: job(), jobs))

    return run


def with_gradients(shapes: list[tuple[tuple, tuple]]) -> list[tuple[tuple, tuple]]:
    """Add the products that the gradients take: for both factors, but not for the input."""
    needed = []
    for i, (left, right) in enumerate(shapes):
        *stack, m, k = left
        n = right[-1]
        needed += [(left, right), ((*stack, k, m), (*stack, m, n))]
        if i:
            needed.append(((*stack, m, n), (*stack, n, k)))
    return needed


def bare_products(shapes: list[tuple[tuple, tuple]], repeats: int) -> Callable:
    """Return a function that multiplies matrices of these shapes `repeats` times, in threads.

    Products of one shape share their memory, so that it stays in the cache where it can.
    """
    n_threads = blas_threads()

    def job(first: int) -> Callable:
        rng = np.random.default_rng(0)
        arrays = {}
        for left, right in set(shapes):
            a, b = rng.random(left, np.float32), rng.random(right, np.float32)
            arrays[left, right] = (a, b, a @ b)
        mine = [arrays[pair] for pair in (shapes * repeats)[first::n_threads]]

        def products():
            for a, b, out in mine:
                np.matmul(a, b, out=out)

        return products

    return in_threads([job(i) for i in range(n_threads)])


def bare_transforms(n_forward: int, n_inverse: int, size: int, repeats: int) -> Callable:
    """Return a function that computes real Fourier transforms and their inverses, in threads."""
    n_threads = blas_threads()

    def job(count: int) -> Callable:
        frames = np.random.default_rng(0).random((BLOCK, size), np.float32)
        spectra = np.fft.rfft(frames)

        def transforms():
            for n, transform, values in (
                (n_forward, np.fft.rfft, frames),
                (n_inverse, np.fft.irfft, spectra),
            ):
                for start in range(0, count * n, BLOCK):
                    transform(values[: count * n - start])

        return transforms

    return in_threads([job(len(range(i, repeats, n_threads))) for i in range(n_threads)])


def operations(shapes: list[tuple[tuple, tuple]]) -> float:
    """Count multiplications and additions of products of these shapes."""
    return sum(2.0 * np.prod(left) * right[-1] for left, right in shapes)


def environment() -> dict[str, str]:
    """Return the environment of a process that is timed: its modules are compiled but once."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}


def python(*arguments: str, interpreter: str = sys.executable, check: bool = True) -> str:
    """Run Python in a process of its own; give what it prints."""
    done = subprocess.run(
        [interpreter, *arguments], capture_output=True, text=True, cwd=ROOT, env=environment()
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:200]}: {done.stderr[-2000:]}")
    return done.stdout


def import_times(module: str) -> dict[str, float]:
    """Return what importing a module takes, by top-level package [s]: Python's as "python"."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True, text=True, cwd=ROOT, check=True, env=environment(),
    )  # fmt: skip
    spent: dict[str, float] = {}
    for line in done.stderr.splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():  # not the heading
            package = name.strip().split(".")[0]
            package = "python" if package in sys.stdlib_module_names else package
            spent[package] = spent.get(package, 0.0) + int(own) / 1e6
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))


def machine() -> dict:
    """Describe the machine, as far as speed depends on it."""
    names = {"cpu": platform.processor() or platform.machine()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = dict(
            line.split("\t", 1) for line in cpuinfo.read_text().splitlines() if "\t" in line
        )
        names["cpu"] = lines.get("model name", "\t: ?").strip(" \t:")
    blas = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]
    blas.sort(key=lambda lib: "numpy" not in lib["filepath"])  # SciPy brings its own
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return names | {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "blas": [f"{b['internal_api']} {b['version']} {b.get('architecture')}" for b in blas[:1]],
        "threads": blas_threads(),
        "load_before": load,
        "peak_gflops": round(peak_gflops(), 1),
        "copy_gb_per_s": round(copy_bandwidth(), 1),
    }


def versions() -> dict:
    """Return the versions of what is installed."""
    found = {"python": platform.python_version()}
    for name in ("sepkit", "numpy", "scipy", "tensorflow", "tensorflow-cpu", "keras", "museval"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def table(rows: list[dict]) -> str:
    """Format the rows as text, with the distance of each from its goal."""
    lines = []
    for row in rows:
        compared = "" if row["theirs"] is None else f" against {row['theirs']:.4g}"
        who = f" ({row['against']})" if row["against"] else ""
        if row["goal"] is None:
            goal = "no goal set"
        else:
            state = "reached" if row["met"] else "MISSED"
            goal = f"goal {row['goal']:g}: {state}, at {100 * row['distance']:.0f} % of it"
        limit = ""
        if row["fraction"] is not None:
            limit = f"; {100 * row['fraction']:.0f} % of {row['limit']}"
        lines.append(
            f"{row['group'] + ': ' + row['name']:<66} {row['ours']:.4g}{compared} {row['unit']}"
            f"{who}, ratio {row['ratio']:.3g}; {goal}{limit}"
        )
    return "\n".join(lines)
