"""The report's graph under each of TensorFlow's ways to compute, in processes of their own.

TensorFlow chooses between oneDNN and Eigen once, when it is imported, by the processor; for the
report's convolutions they differ many times over, and which of them is faster depends on the
machine. A fair comparison is one with the fastest way. ``python -m benchmarks.elsewhere WAY`` is
such a process: tasks in, seconds out, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

WAYS = {
    "oneDNN": {"TF_ENABLE_ONEDNN_OPTS": "1"},
    "Eigen": {"TF_ENABLE_ONEDNN_OPTS": "0"},
    "XLA": {"TF_ENABLE_ONEDNN_OPTS": "0", "SEPKIT_BENCH_XLA": "1"},
}
"""What tells TensorFlow the way."""

FAR = 3.0
"""A way that takes this many times the fastest one's time is not asked again."""


class Ways:
    """The processes; a context that ends them."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Ways:
        """Start nothing yet: a way starts with its first task."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes."""
        for process in self._processes.values():
            if process.stdin:
                process.stdin.close()
            process.wait()

    def call(self, way: str, task: str, **options: Any) -> float:
        """Run a task in the process of a way and return its time [s]."""
        if way not in self._processes:
            environment = {**os.environ, **WAYS[way], "TF_CPP_MIN_LOG_LEVEL": "3"}
            self._processes[way] = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.elsewhere"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        process = self._processes[way]
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps({"task": task, **options}) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{way}: the process ended during {task}")
        return float(json.loads(answer))

    def near_fastest(
        self, task: str, trial: dict[str, Any], **options: Any
    ) -> tuple[dict[str, Callable], dict[str, float]]:
        """Try each way on a short trial, after one run of it that does not count.

        Returns functions that run the task with `options`, by way, of the fastest one and those
        near it; and the time [s] of the trial by every way.
        """
        tried = {}
        for way in WAYS:
            self.call(way, task, **trial)
            tried[way] = self.call(way, task, **trial)
        limit = FAR * min(tried.values())
        near = {
            way: lambda way=way: self.call(way, task, **options)
            for way, seconds in tried.items()
            if seconds <= limit
        }
        return near, tried


def told(times: dict[str, float]) -> str:
    """List the ways and their times, the fastest first."""

    def short(seconds: float) -> str:
        return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"

    return ", ".join(f"{way} {short(times[way])}" for way in sorted(times, key=times.get))


def tasks() -> dict[str, Callable]:
    """Return the tasks by name: functions of options that return a function to be timed."""
    import numpy as np
    import tensorflow as tf

    from benchmarks.baselines import (
        BATCH,
        ReportProcedure,
        Spleeter,
        convolutional_masks,
        report_training,
    )
    from sepkit import streaming
    from sepkit.stft import SEGMENT_LENGTH

    xla = bool(os.environ.get("SEPKIT_BENCH_XLA"))

    @cache
    def masks() -> Callable:
        values = streaming.resolve_weights("experiment1")
        return tf.function(
            convolutional_masks(values), reduce_retracing=True, jit_compile=xla or None
        )

    @cache
    def spectra() -> Any:
        rng = np.random.default_rng(0)
        magnitudes = np.abs(rng.standard_normal((BATCH, 25, 513, 1), np.float32))
        return tf.constant(np.stack([magnitudes, np.zeros_like(magnitudes)], axis=-1))

    @cache
    def procedure() -> ReportProcedure:
        made = ReportProcedure(streaming.resolve_weights("experiment2"))
        if xla:
            made.model.compile(jit_compile=True)
        return made

    @cache
    def training() -> Callable:
        model = report_training(jit_compile=xla)
        rng = np.random.default_rng(0)
        mixtures = rng.standard_normal((5 * BATCH, SEGMENT_LENGTH, 1)).astype(np.float32)
        targets = rng.standard_normal((5 * BATCH, SEGMENT_LENGTH, 1, 4)).astype(np.float32)
        return lambda: model.fit(mixtures, targets, batch_size=BATCH, verbose=0)

    @cache
    def spleeter() -> Spleeter:
        made = Spleeter()
        if xla:
            made.model.compile(jit_compile=True)
        return made

    def unets(seconds: float) -> Callable:
        rng = np.random.default_rng(0)
        sound = 0.1 * rng.standard_normal((round(44100 * seconds), 2), np.float32)
        return lambda: spleeter()(sound)

    def batches(count: int) -> Callable:
        def run() -> None:
            for _ in range(count):
                masks()(spectra())

        return run

    return {
        "batches": batches,
        "procedure": lambda song, folder: lambda: procedure()(Path(song), Path(folder)),
        "training": training,
        "spleeter": unets,
    }


def main() -> int:
    """Answer tasks until the input ends."""
    known = tasks()
    for line in sys.stdin:
        order = json.loads(line)
        run = known[order.pop("task")](**order)
        started = time.perf_counter()
        run()
        print(json.dumps(time.perf_counter() - started), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
