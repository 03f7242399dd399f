"""Cards: what made a weight file, how it scores, and how others score."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from sepkit import weights
from sepkit.errors import SepkitError
from sepkit.files import packaged, read_json, write_json
from sepkit.metrics import METRICS
from sepkit.study.evaluation import Evaluation
from sepkit.tracks import Track


def describe_songs(tracks: Sequence[Track]) -> list[dict[str, str]]:
    """Return name, licence and hash of songs, as a card holds them."""
    return [{"name": t.name, "licence": t.licence, "sha256": t.sha256()} for t in tracks]


def write_card(
    path: str | os.PathLike[str],
    *,
    experiment: Mapping[str, Any],
    values: weights.Weights,
    seed: int,
    songs: Sequence[Mapping[str, str]],
    history: Sequence[Mapping[str, Any]],
    seconds: float,
) -> None:
    """Write the card of a training, without scores: what made the weights, from what data."""
    card = {
        "name": experiment["name"],
        "experiment": experiment,
        "parameters": weights.count_parameters(values),
        "seed": seed,
        "steps": sum(row["steps"] for row in history),
        "wall_time_seconds": round(seconds, 1),
        "date": date.today().isoformat(),
        "commit": describe_commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: _version(name) for name in ("tensorflow", "keras", "numpy", "sepkit")},
        "weights_licence": "Trained on songs that are licensed for academic use; "
        "use the weights accordingly.",
        "data": {"licences": sorted({song["licence"] for song in songs}), "songs": songs},
        "history": history,
        "scores": {},
    }
    write_json(card, path)


def describe_commit() -> str:
    """Return the commit of the checkout that this code runs from, "+" added if files differ."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40",
               "--dirty=+"]  # fmt: skip
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def epoch_losses(history: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, float]]:
    """Iterate over a card's history as (steps done by the end of an epoch, its mean loss)."""
    steps = 0
    for row in history:
        steps += row["steps"]
        yield steps, row["loss"]


def published_scores() -> dict[str, dict[str, Any]]:
    """Return the figures that others have published.

    paper, report_experiment1, report_experiment2, campaign_dev, campaign_test: label, source, mean
    and deviation by metric, in the order of `sepkit.SOURCES` [dB]. On other songs, by another
    measure: open_unmix, spleeter_masks, musdb_quarter, musdb_ratio_masks: label, source and SDR by
    source (under "mean"); spleeter, ht_demucs: label, source and SDR of all sources together (under
    "overall"); bs_roformer: of vocals alone (under "vocals").
    """
    return dict(read_json(packaged("published.json")))


def score_arrays(scored: Mapping[str, Any], measure: str = "report") -> dict[str, np.ndarray]:
    """Return the scores of ``card["scores"][mode]`` by song: float64 (n_rows, 3, 4) [dB].

    SDR, SIR, SAR by source, a row per channel for the report's metrics; NaN for a missing score.
    """
    return {
        song["name"]: np.array([[row[m] for m in METRICS] for row in song[measure]], np.float64)
        for song in scored["songs"]
    }


def compare_with_card(evaluation: Evaluation, card: Mapping[str, Any]) -> tuple[int, float]:
    """Compare scores with those that a card holds for the same songs, mode and, for songs, hop.

    Returns the number of common songs and the largest absolute difference [dB]: infinite where only
    one has a score, 0 without songs.
    """
    kept = card["scores"].get(evaluation.mode, {"songs": []})
    if evaluation.mode == "song" and kept.get("hop") != evaluation.hop:
        return 0, 0.0
    ours = evaluation.as_dict()
    common, largest = 0, 0.0
    for measure in evaluation.measures:
        if measure not in kept:
            continue
        theirs = score_arrays(kept, measure)
        pairs = [(a, theirs[n]) for n, a in score_arrays(ours, measure).items() if n in theirs]
        common = max(common, len(pairs))
        for a, b in pairs:
            differences = np.where(np.isnan(a) & np.isnan(b), 0.0, np.abs(a - b))
            largest = max(largest, float(np.nan_to_num(differences, nan=np.inf).max()))
    return common, largest


def read_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a card that scores can be added to; a `SepkitError` if it is none."""
    if not Path(path).is_file():
        raise SepkitError(f"{path}: no such card; sepkit train writes it beside the weights")
    card = read_json(path)
    if not isinstance(card, dict) or not isinstance(card.get("scores"), dict):
        raise SepkitError(f"{path}: not a card; give one that sepkit train has written")
    return card


def add_scores(path: str | os.PathLike[str], evaluations: Sequence[Evaluation]) -> None:
    """Add evaluations, one per mode, to an existing card."""
    card = read_card(path)
    for evaluation in evaluations:
        card["scores"][evaluation.mode] = evaluation.as_dict()
    write_json(card, path)
