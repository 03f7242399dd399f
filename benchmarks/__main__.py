"""`make bench`: measure, print the table, write results.json, compare with the committed one."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import soundfile
import threadpoolctl
from joblib.externals.loky import get_reusable_executor

from benchmarks import in_the_page, measure
from benchmarks.elsewhere import Ways, told
from benchmarks.measure import ROOT, Row, against, alternate, median, near_limit, within
from sepkit import (
    audio,
    bsseval,
    cli,
    files,
    masks,
    metrics,
    network,
    separation,
    stft,
    streaming,
    weights,
)
from sepkit.engine import native
from sepkit.stft import CONTEXT
from sepkit.study import cards, evaluation
from sepkit.tracks import RATE, SOURCES, Track

RESULTS = ROOT / "benchmarks" / "results.json"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
BURST = 10
"""Batches timed together."""
KEEP = 0.8
"""Part of a committed fraction of a limit that has to stay on the machine that it names."""
KEEP_ELSEWHERE = 0.5
"""And on another one: NumPy's forward pass reached 0.67 of its products on AMD, 0.43 on Intel."""


def noise(seconds: float, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Make noise: its sound does not matter for time."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal((round(seconds * RATE), channels), np.float32)


def noise_stems(seconds: float, seed: int) -> dict[str, np.ndarray]:
    """Make four sources of noise."""
    return {s: noise(seconds, seed=4 * seed + i) for i, s in enumerate(SOURCES)}


def noise_tracks(count: int, seconds: float) -> list[Track]:
    """Make songs of noise."""
    return [
        Track(f"noise {i}", "noise", "MIT", RATE, partial(noise_stems, seconds, i))
        for i in range(count)
    ]


def products_of(function) -> list[tuple[tuple, tuple]]:
    """Record the shapes of the matrix products in a run of a function."""
    shapes: list[tuple[tuple, tuple]] = []
    matmul = np.matmul

    def recorded(left, right, **options):
        shapes.append((left.shape, right.shape))
        return matmul(left, right, **options)

    with mock.patch.object(np, "matmul", recorded):
        function()
    return shapes


BANDWIDTH = "reading the input once at memory bandwidth"
PRODUCTS = "its matrix products alone"
PRODUCTS_AND_TRANSFORMS = "its matrix products and Fourier transforms alone"


def burst(function):
    """Return a function that runs another one `BURST` times."""

    def several():
        for _ in range(BURST):
            function()

    return several


def fastest(times: dict[str, list[float]], ways: dict) -> list[float]:
    """Return the times of the fastest way."""
    return min((times[way] for way in ways), key=median)


class CompiledMasks:
    """The masks of end-to-end contexts by the engine in C, for one thread: its steps one by one."""

    def __init__(self, values: weights.Weights, n_frames: int):
        self._engine = native.Engine(values, CONTEXT, n_frames)
        self._shape = (len(SOURCES), n_frames, -(-stft.N_BINS // 16) * 16)  # whole panels

    def _place(self, layer: int, shape: tuple[int, ...]) -> np.ndarray:
        return self._engine._floats("place", math.prod(shape), layer).reshape(shape)

    def __call__(self, magnitudes: np.ndarray) -> np.ndarray:
        """Compute the masks (sources, frames, bins) of magnitudes (frames, bins, 1)."""
        library, place, n_frames = native.load(), self._engine._place, len(magnitudes)
        self._place(0, magnitudes.shape)[:] = magnitudes
        library.engine_timbres(place)
        library.engine_patterns(place)
        library.engine_bottleneck(place)
        library.engine_draw(place)
        library.engine_average(place, 0, n_frames)
        return self._place(5, self._shape)[:, :n_frames, : stft.N_BINS]


def network_rows(seconds: float, ways: Ways) -> list[Row]:
    """Compare the forward pass with the report's two-dimensional convolutions."""
    import tensorflow as tf

    from benchmarks.baselines import BATCH, convolutional_masks

    values = streaming.resolve_weights("experiment1")
    prepared = network.prepare(values)
    convolutional = tf.function(convolutional_masks(values), reduce_retracing=True)
    spectra = stft.transform_frames(stft.split_segments(noise(seconds, 1)))
    magnitudes = np.abs(spectra[: len(spectra) // BATCH * BATCH])
    spectrum = np.stack([magnitudes, np.zeros_like(magnitudes)], axis=-1)
    song = magnitudes.reshape(-1, *magnitudes.shape[2:])

    n_threads = measure.blas_threads()
    # As long as the stretches of `separate`.
    n_parts = -(-len(song) * stft.HOP_LENGTH // streaming._STRETCH)
    separation.separate(noise(1), RATE)  # what a process does once

    def masks_of(frames: np.ndarray, n_parts: int, keep=lambda found: found) -> list:
        """Compute the masks of end-to-end contexts as `separate` does, part by part in threads."""
        size = -(-len(frames) // (CONTEXT * n_parts)) * CONTEXT
        parts = [frames[i : i + size] for i in range(0, len(frames), size)]
        return list(pool.map(lambda part: keep(masks.mean_masks(prepared, part, CONTEXT)), parts))

    def dense() -> list[np.ndarray]:
        return masks_of(song[: BATCH * CONTEXT], n_threads)

    # Of a whole song neither keeps the masks, nor does `separate`.
    def dense_song():
        masks_of(song, n_parts, keep=lambda found: None)

    def compiled(frames: np.ndarray, n_parts: int) -> Callable[[], list[np.ndarray]]:
        """Return what does the same by the engine in C."""
        size = -(-len(frames) // (CONTEXT * n_parts)) * CONTEXT
        parts = [frames[i : i + size] for i in range(0, len(frames), size)]
        engines: SimpleQueue[CompiledMasks] = SimpleQueue()
        for _ in range(n_threads):
            engines.put(CompiledMasks(values, size))

        def one(part: np.ndarray) -> np.ndarray:
            engine = engines.get()
            try:
                return engine(part)
            finally:
                engines.put(engine)

        return lambda: list(pool.map(one, parts))

    def theirs(part):
        return [np.asarray(mask) for mask in convolutional(tf.constant(part))]

    wanted = np.stack(theirs(spectrum[:BATCH]))
    trial = {"count": 1}
    burst_ways, tried = ways.near_fastest("batches", trial, count=BURST)
    song_ways, _ = ways.near_fastest("batches", trial, count=len(magnitudes) // BATCH)
    with ThreadPoolExecutor(n_threads) as pool, threadpoolctl.threadpool_limits(1, "blas"):
        ours = np.concatenate(dense(), axis=1).reshape(wanted.shape)
        in_c = compiled(song[: BATCH * CONTEXT], n_threads)
        in_c_song = compiled(song, n_parts)
        same = np.concatenate(in_c(), axis=1).reshape(wanted.shape)
        bare = [measure.bare_products(products_of(dense), BURST)]
        bare.append(measure.bare_products(products_of(dense_song), 1))
        # Batches follow each other, so that neither finds the other's memory in the cache.
        one = alternate(
            {"dense": burst(dense), "in C": burst(in_c), "bare": bare[0], **burst_ways}, repeats=51
        )
        one = {name: [t / BURST for t in times] for name, times in one.items()}
        whole = alternate(
            {"dense": dense_song, "in C": in_c_song, "bare": bare[1], **song_ways}, repeats=21
        )
    heard = magnitudes[:BATCH] / magnitudes[:BATCH].max()
    error, other = (np.abs((found - wanted) * heard).max() for found in (ours, same))
    assert max(error, other) < 1e-5, (error, other)

    rows = []
    for name, times, near in (
        (f"forward pass, batch {BATCH}", one, burst_ways),
        ("forward pass, whole song", whole, song_ways),
    ):
        rows.append(
            against("network", name, times["dense"], fastest(times, near), "the report's Conv2D",
                    None, note=f"a batch of Conv2D by {told(tried)}; largest difference of the "
                               f"outputs: {error:.1e} of their peak")
        )  # fmt: skip
        for how, spent in (("NumPy", times["dense"]), ("compiled", times["in C"])):
            rows.append(
                near_limit("network", f"{name}, {how}", spent, times["bare"], PRODUCTS, goal=0.7)
            )
    return rows


def training_rows(ways: Ways) -> list[Row]:
    """Time a step through STFT and loss, and the batches it is fed with."""
    import keras

    from benchmarks.baselines import BATCH
    from sepkit import training
    from sepkit.batches import BlockBatches, SongStore, report_schedule
    from sepkit.model import build_model
    from sepkit.study.remix import Remix, RemixBatches

    n_steps = 20
    tracks = noise_tracks(2, 30)
    schedule = report_schedule(2, size=2, step=1, epochs=6, repetitions=1)
    blocks = BlockBatches(SongStore(tracks), schedule)
    remixed = RemixBatches(SongStore(tracks, channels=2), Remix(epochs=2, steps=n_steps))
    adadelta = partial(keras.optimizers.Adadelta, 0.01, rho=0.95, epsilon=1.0)

    def five_steps() -> float:
        """Return the time of five steps of a second epoch; the first one compiles."""
        row = training.fit(build_model(), remixed, optimizer=adadelta())[-1]
        return 5 * row["seconds"] / row["steps"]

    near, tried = ways.near_fastest("training", {})
    # The network's products and their gradients; and the transforms: of the mixture, of all masked
    # spectra but the last, and of the gradients of those.
    prepared = network.prepare(streaming.resolve_weights("experiment1"))
    batch = np.zeros((BATCH, CONTEXT, stft.N_BINS, 1), np.float32)

    def forward():
        shared = network.encode(prepared, network.vertical_convolution(prepared, batch))
        network.decode(prepared, shared)

    shapes = measure.with_gradients(products_of(forward))
    n_frames = BATCH * CONTEXT
    # Five steps a call.
    bare = {
        "products": measure.bare_products(shapes, 5),
        "transforms": measure.bare_transforms(4 * n_frames, 3 * n_frames, stft.FRAME_LENGTH, 5),
    }
    times = alternate({"ours": five_steps, **bare, **near}, repeats=7)
    times = {name: [t / 5 for t in spent] for name, spent in times.items()}
    ours = times["ours"]
    tried = {way: t / 5 for way, t in tried.items()}
    both = [sum(pair) for pair in zip(times["products"], times["transforms"], strict=True)]
    step = f"training step, batch {BATCH}"
    rows = [
        against("training", step, ours, fastest(times, near), "Keras fit on the report's graph",
                None, note=f"a step of fit by {told(tried)}"),
        near_limit("training", step, ours, both, PRODUCTS_AND_TRANSFORMS, goal=1 / 1.5),
    ]  # fmt: skip

    for name, batches in (("the report's", blocks), ("remixed", remixed)):
        count = batches.count(0)
        epoch = alternate({"read": lambda b=batches: [b.read(0, i) for i in range(b.count(0))]})[
            "read"
        ]
        each = [seconds / count for seconds in epoch]
        rows.append(
            Row("training", f"examples per second, {name} batches", BATCH / median(each), "1/s",
                ratio=median(ours) / median(each), goal=3, theirs=BATCH / median(ours),
                against="the rate at which training uses them", spread=measure.spread(each))
        )  # fmt: skip
    return rows


def bounds_of_song(seconds: float, hop: int) -> tuple[Callable, Callable, float]:
    """Return functions that compute a song's products and its transforms, with nothing else.

    And the number of operations of the products [1e9].
    """
    pairs = network.prepare(streaming.resolve_weights("experiment3"))
    window, frames, size = list(streaming._stretches([noise(10)], 2, CONTEXT, hop))[1]
    stems = np.empty((len(SOURCES), size, 1), np.float32)
    shapes = 2 * products_of(
        lambda: streaming._separate_group(pairs, 1, hop, window[:, :1], frames, stems)
    )
    count = math.ceil(seconds * RATE / size)
    # Both channels there, three of four stems of each back.
    n_frames = (len(window) - stft.FRAME_LENGTH) // stft.HOP_LENGTH + 1
    n_masked = len(range(*frames.indices(n_frames)))
    transforms = measure.bare_transforms(2 * n_frames, 6 * n_masked, stft.FRAME_LENGTH, count)
    operations = count * measure.operations(shapes) / 1e9
    return measure.bare_products(shapes, count), transforms, operations


def song_rows(seconds: float, folder: Path, ways: Ways) -> list[Row]:
    """Separate a stereo song, file to four stems."""
    path, short = folder / "song.wav", folder / "short.wav"
    # What the report reads: 16 bit.
    soundfile.write(path, noise(seconds), RATE, subtype="PCM_16")
    soundfile.write(short, noise(6), RATE, subtype="PCM_16")

    def command_line(model: str, hop: int, *more: str):
        """Separate into a new folder, as most songs are."""
        with (
            tempfile.TemporaryDirectory(dir=folder) as stems,
            contextlib.redirect_stdout(io.StringIO()),
        ):
            started = time.perf_counter()
            code = cli.main(
                ["separate", str(path), "-o", stems, "-n", model, "--hop", str(hop), *more]
            )
            took = time.perf_counter() - started
        assert code == 0
        return took

    near, tried = ways.near_fastest(
        "procedure", {"song": str(short), "folder": str(folder)}, song=str(path), folder=str(folder)
    )
    bounds = {hop: bounds_of_song(seconds, hop) for hop in (25, 5)}

    def limited(hop: int) -> dict[str, Callable]:
        """Return what is compared with its limits, and these, to be timed next to each other."""
        products, transforms, _ = bounds[hop]
        return {
            f"mono, {hop}": lambda: command_line("experiment3", hop),
            f"compiled, {hop}": lambda: command_line("experiment3", hop, "--engine", "compiled"),
            f"products, {hop}": products,
            f"transforms, {hop}": transforms,
        }

    times = alternate(
        {
            "25": lambda: command_line("experiment2", 25),
            "5": lambda: command_line("experiment2", 5),
            "16 bits": lambda: command_line("experiment3", 5, "--bit-depth", "16"),
            **near,
            "large product": measure.large_product(),
            **limited(25),
            **limited(5),
        },
        repeats=5,
    )
    report = fastest(times, near)
    length = f"{seconds / 60:g} min of stereo"
    rows = [
        against("song", f"{length}, {how}", times[key], report,
                "the report's procedure, two channels", None,
                note=f"6 s by the procedure: {told(tried)}")
        for key, how in (
            ("25", "stereo network, hop 25"),
            ("5", "stereo network, hop 5"),
            ("mono, 25", "mono network on each channel, hop 25"),
            ("mono, 5", "mono network on each channel, hop 5"),
            ("16 bits", "mono network on each channel, hop 5, stems of 16 bits"),
            ("compiled, 25", "mono network on each channel, hop 25, compiled"),
            ("compiled, 5", "mono network on each channel, hop 5, compiled"),
        )
    ]  # fmt: skip

    peak = 2 * measure.LARGE**3 / median(times["large product"]) / 1e9
    for hop, (*_, operations) in bounds.items():
        bare = times[f"products, {hop}"]
        both = [sum(pair) for pair in zip(bare, times[f"transforms, {hop}"], strict=True)]
        by_numpy, compiled = times[f"mono, {hop}"], times[f"compiled, {hop}"]
        for how, ours in (("NumPy", by_numpy), ("compiled", compiled)):
            name = f"{length}, hop {hop}, file to stems, {how}"
            rows += [
                near_limit("song", name, ours, bare, PRODUCTS, goal=None,
                           limit="peak rate of matrix products",
                           fraction=operations / median(ours) / peak),
                near_limit("song", name, ours, both, PRODUCTS_AND_TRANSFORMS, goal=0.7),
            ]  # fmt: skip
        rows.append(
            against("compiled", f"{length}, hop {hop}, file to stems, compiled", compiled, by_numpy,
                    "sepkit by NumPy", 1.5)
        )  # fmt: skip
    return rows + peer_rows(f"{length}, hop 5", times["mono, 5"], seconds, ways)


def peer_rows(name: str, ours: list[float], seconds: float, ways: Ways) -> list[Row]:
    """Time other separators on a part of the song: they take time in proportion to its length."""
    part = 24.0
    near, tried = ways.near_fastest("spleeter", {"seconds": part}, seconds=part)
    unets = fastest(alternate(near, repeats=1), near)
    told_more = f"without reading and writing files; scaled up from {part:g} s, timed once"
    rows = [
        against("peers", name, ours, [t * seconds / part for t in unets],
                "Spleeter's four U-Nets, in Keras", None, published="spleeter_masks",
                note=f"architecture reimplemented, random weights, {part:g} s by {told(tried)}; "
                     f"{told_more}")
    ]  # fmt: skip
    others = (
        ("open_unmix", "Open-Unmix (umx)", "open_unmix", 24.0, 1),
        ("demucs", "Hybrid Transformer Demucs, fine-tuned", "ht_demucs", 24.0, 4),
        ("bs_roformer", "BS-RoFormer, the default of audio-separator", "bs_roformer", 8.0, 1),
    )
    for module, label, key, part, times in others if PEERS.exists() else ():
        found = json.loads(
            measure.python("benchmarks/peers.py", module, f"{part}", interpreter=str(PEERS))
        )
        several = f"{times} networks (one timed) of " if times > 1 else ""
        rows.append(
            against("peers", name, ours, [times * found["seconds"] * seconds / part], label, None,
                    published=key,
                    note=f"random weights, {several}{found['parameters']:,} parameters, torch "
                         f"{found['torch']}, without reading and writing files; scaled up from "
                         f"{part:g} s, timed once; start-up, not included, "
                         f"{found['startup']:.1f} s")
        )  # fmt: skip
    return rows


COMMAND_LINE = """
import sys
from sepkit.cli import main
code = main(sys.argv[1:])
sys.exit(code or ("tensorflow" in sys.modules))
"""


def start_rows(folder: Path) -> list[Row]:
    """Time whole processes."""
    path = folder / "short.wav"
    audio.write(path, noise(30), RATE)
    runs = itertools.count()

    def separate(engine: str):
        place = str(folder / f"start-{next(runs)}")
        arguments = ("separate", str(path), "-o", place, "--engine", engine)
        measure.python("-c", COMMAND_LINE, *arguments)

    times = alternate(
        {
            "separate": lambda: separate("numpy"),
            "compiled": lambda: separate("compiled"),
            "import": lambda: measure.python("-c", "import sepkit"),
            "modules": lambda: measure.python("-c", "import sepkit.cli"),
            "numpy": lambda: measure.python("-c", "import numpy"),
            "python": lambda: measure.python("-c", "pass"),
        },
        repeats=9,
    )
    return [
        within("start", "sepkit separate, 30 s of stereo, until the last stem is written",
               median(times["separate"]), 0.5, "s", spread=measure.spread(times["separate"]),
               note="TensorFlow is not imported"),
        within("start", "sepkit separate --engine compiled, the same", median(times["compiled"]),
               0.5, "s", spread=measure.spread(times["compiled"]),
               note="compiled before, by the first run"),
        within("start", "import of all modules that the command needs", median(times["modules"]),
               0.25, "s", spread=measure.spread(times["modules"]),
               note=f"NumPy alone: {median(times['numpy']):.3f} s"),
        within("start", "import sepkit", median(times["import"]), 0.3, "s",
               spread=measure.spread(times["import"]),
               note=f"including {median(times['python']):.3f} s in which Python itself starts"),
    ]  # fmt: skip


def imported() -> dict[str, float]:
    """Time what `sepkit separate` imports [s]: by top-level package, median of several runs."""
    runs = [measure.import_times("sepkit.cli") for _ in range(9)]
    seconds = {name: median([run.get(name, 0.0) for run in runs]) for name in runs[0]}
    return {name: round(s, 4) for name, s in seconds.items() if s >= 0.001}


GROWTH = """
import resource, sys, time
import numpy as np
from sepkit.streaming import separate_stream
seconds, second = int(sys.argv[1]), np.random.default_rng(0).standard_normal((44100, 2), np.float32)
blocks = (0.1 * second for _ in range(seconds))
started, n = time.perf_counter(), 0
for stems in separate_stream(blocks, 44100, 2):
    n += stems.shape[1]
assert n == 44100 * seconds
took = time.perf_counter() - started
try:
    # Linux hands ru_maxrss on from the process that started this one.
    lines = open("/proc/self/status").read().splitlines()
    size = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
except OSError:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(took, size)
"""


def growth_rows() -> tuple[list[Row], list[dict]]:
    """Measure time and memory of songs of 10 s to one hour, each in a process of its own."""
    points = []
    for seconds in (10, 60, 600, 3600):
        runs = [
            [float(x) for x in measure.python("-c", GROWTH, str(seconds)).split()]
            for _ in range(3 if seconds < 600 else 1)
        ]
        took, size = min(runs)
        points.append({"seconds": seconds, "time": round(took, 4), "mib": round(size / 2**20, 1)})
    # Of a short song the start of the threads is a part: the line is fitted from a minute on.
    logs = np.log([[p["seconds"], p["time"]] for p in points[1:]])
    exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    hour, ten_minutes = points[-1]["mib"], points[-2]["mib"]
    return [
        within("growth", "one hour of stereo, peak memory", hour, 600.0, "MiB",
               note="the song is read and the stems are returned in blocks"),
        within("growth", "peak memory of one hour, relative to ten minutes", hour / ten_minutes,
               1.1, "times"),
        within("growth", "exponent of time against length, 1 to 60 minutes", exponent, 1.05, "",
               note="1 means proportional to the length"),
    ], points  # fmt: skip


def evaluation_rows(machine: dict) -> list[Row]:
    """Compare scores with museval."""
    import museval

    seconds = 15.0
    stems = noise_stems(seconds, 0)
    true = np.stack(list(stems.values())).astype(np.float64)
    estimates = true + 0.3 * np.roll(true, 1, axis=0) + 0.1 * np.roll(true, 7, axis=1)
    evaluate = partial(museval.evaluate, true, estimates, win=RATE, hop=RATE)
    left, heard = true[..., 0], estimates[..., 0]

    # One tap, one channel: museval's older measure is then the report's.
    one_tap = museval.metrics.bss_eval(
        true[..., :1], estimates[..., :1], window=np.inf, filters_len=1,
        bsseval_sources_version=True,
    )  # fmt: skip
    wanted = np.stack([one_tap[0], one_tap[2], one_tap[3]])[..., 0]
    ours = metrics.report_scores(left, heard)
    assert np.abs(ours - wanted).max() < 1e-9
    found = bsseval.scores(true, estimates, window=RATE, hop=RATE)
    error = np.abs(found - np.stack(evaluate())).max()
    assert error < 1e-6, error
    functions = {
        "report": lambda: metrics.report_scores(left, heard),
        "museval": evaluate,
        "full": lambda: bsseval.scores(true, estimates, window=RATE, hop=RATE),
    }
    times = alternate(functions, repeats=5)

    def bandwidth(key, arrays):
        size = sum(array.nbytes for array in arrays)
        return {"limit": BANDWIDTH,
                "fraction": size / machine["copy_gb_per_s"] / 1e9 / median(times[key])}  # fmt: skip

    rows = [
        against("evaluation", f"the report's metrics, {seconds:g} s, both channels",
                [2 * t for t in times["report"]], times["museval"], "museval.evaluate", 100,
                note="equal to museval's one-tap scores within 1e-9 dB",
                **bandwidth("report", (true, estimates))),
        against("evaluation", f"BSS Eval 4, 512 taps, {seconds:g} s of stereo", times["full"],
                times["museval"], "museval.evaluate", 5, note="equal within 1e-6 dB"),
    ]  # fmt: skip

    tracks = noise_tracks(4, 5.0)
    score = partial(evaluation.evaluate, "experiment3", tracks, measures=("report", "museval"))
    cores = os.cpu_count() or 1

    def one_core():
        with threadpoolctl.threadpool_limits(1):
            score(n_jobs=1)

    parallel = alternate(
        {
            "one": one_core,
            "process": lambda: score(n_jobs=1),
            "all": lambda: score(n_jobs=-1),
        },
        repeats=3,
    )
    rows.append(
        against("evaluation", f"4 songs on {cores} cores", parallel["all"],
                parallel["one"], "one core", 0.8 * cores, limit=f"{cores} times",
                note="one process whose linear algebra uses all cores: "
                     f"{median(parallel['process']):.2f} s",
                fraction=median(parallel["one"]) / median(parallel["all"]) / cores)
    )  # fmt: skip
    # Else the workers end with the interpreter, whose cleaning up they complain of.
    get_reusable_executor().shutdown(wait=True)
    return rows


def committed() -> dict:
    """Read the results that the last commit holds."""
    found = subprocess.run(
        ["git", "show", "HEAD:benchmarks/results.json"], cwd=ROOT, capture_output=True, text=True
    )
    return json.loads(found.stdout) if found.returncode == 0 else {"rows": []}


def reached(row: dict) -> float | None:
    """Return how much of a limit that the same run has measured is reached: that travels.

    How much faster than another program sepkit is depends on the machine; it is no such figure.
    Nor is the part of the memory's bandwidth, of which one thread gets more here and less there.
    """
    if row["against"] in (PRODUCTS, PRODUCTS_AND_TRANSFORMS):
        return row["ratio"]
    return None if row["limit"] == BANDWIDTH else row["fraction"]


def same_machine(one: dict, other: dict) -> bool:
    """Return whether two descriptions of machines are of the same kind."""
    fixed = ("cpu", "system", "cores", "blas", "threads")
    return all(one[key] == other[key] for key in fixed)


def regressions(rows: list[dict], before: list[dict], keep: float) -> list[str]:
    """List the fractions of limits that fell below a part of the committed ones.

    One has fallen if even the upper quartile of its turns has.
    """
    earlier = {(r["group"], r["name"], r["against"]): reached(r) for r in before}
    found = []
    for row in rows:
        old, now = earlier.get((row["group"], row["name"], row["against"])), reached(row)
        if old is not None and now is not None and (row["upper"] or now) < keep * old:
            what = row["limit"] or row["against"]
            found.append(f"{row['group']}: {row['name']}: {now:.3g} of {what}, was {old:.3g}")
    return found


def replaced(some: dict, before: dict) -> dict:
    """Return the results with the rows of some groups measured anew; none of another machine."""
    if not same_machine(some["machine"], before["machine"]):
        return {}
    groups = {row["group"] for row in some["rows"]}
    kept = [row for row in before["rows"] if row["group"] not in groups]
    again = dict.fromkeys(sorted(groups), {"date": some["date"], "commit": some["commit"]})
    return {
        **before,
        **{key: some[key] for key in ("imports", "growth") if key in some},
        "rows": some["rows"] + kept,
        "measured_again": before.get("measured_again", {}) | again,
    }


def main() -> int:
    """Measure all, or some groups; give 1 when a ratio fell."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="*", metavar="GROUP",
        help="measure these groups and, if the other rows are of this machine, replace theirs",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=180.0, help="of the song (default: 180)")
    options = parser.parse_args()
    started = time.perf_counter()
    machine = measure.machine()
    print(json.dumps(machine), flush=True)
    points: list[dict] = []

    def grown() -> list[Row]:
        rows, found = growth_rows()
        points.extend(found)
        return rows

    with tempfile.TemporaryDirectory() as place, Ways() as ways:
        groups = {
            "start": lambda: start_rows(Path(place)),
            "growth": grown,
            "network": lambda: network_rows(options.seconds, ways),
            "song": lambda: song_rows(options.seconds, Path(place), ways),
            "training": lambda: training_rows(ways),
            "evaluation": lambda: evaluation_rows(machine),
        }
        rows = []
        for name in options.only or groups:
            found = [row.as_dict() for row in groups[name]()]
            print(measure.table(found), flush=True)
            rows += found
    for point in points:
        print(f"{point['seconds']:5d} s of stereo: {point['time']:.3g} s, {point['mib']:.0f} MiB")
    if not PEERS.exists():
        print("Open-Unmix, Demucs, BS-RoFormer: not measured; `make bench-peers` installs them")
    print(f"measured in {time.perf_counter() - started:.0f} s")
    before = committed()
    here = not before["rows"] or same_machine(machine, before["machine"])
    fallen = regressions(rows, before["rows"], KEEP if here else KEEP_ELSEWHERE)
    results = {
        "date": date.today().isoformat(),
        "commit": cards.describe_commit(),
        "machine": machine,
        "versions": measure.versions(),
        "rows": rows,
    }
    if not options.only or "start" in options.only:
        results["imports"] = imported()
    if not options.only or "growth" in options.only:
        results["growth"] = points
    if options.only:
        results = replaced(results, files.read_json(RESULTS))
    else:
        results["page"] = in_the_page.measure_engines()
    if results:
        files.write_json(results, RESULTS)
        print(RESULTS.relative_to(ROOT))
    for line in fallen:
        print(f"SLOWER THAN COMMITTED: {line}", file=sys.stderr)
    return int(bool(fallen))


if __name__ == "__main__":
    sys.exit(main())
