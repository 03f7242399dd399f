"""The tables of the experiments' chapters: rebuilt from cards and results, digit by digit."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sepkit import metrics, weights
from sepkit.study import arms, cards, evaluation, experiments, results, statistics, tables

ROOT = Path(__file__).parents[1]
SITE = Path(os.environ.get("SEPKIT_SITE", ROOT / "_build" / "html"))
Table = list[list[str]]
# Sphinx sets quotes as a printer does.
TYPED = str.maketrans("’“”", '\'""')


class Tables(HTMLParser):
    """The texts of a page's table cells."""

    def __init__(self, html: str):
        super().__init__()
        self.tables: list[Table] = []
        self._cell: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in ("td", "th") and self.tables:
            self._cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append("".join(self._cell).strip().translate(TYPED))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)


def cells(markdown: str) -> Table:
    """Split a Markdown table into cells, without the line under its head and without marks."""
    head, _, *rows = markdown.splitlines()
    return [
        [cell.strip().replace("`", "").replace("**", "") for cell in row[1:-1].split("|")]
        for row in (head, *rows)
    ]


def means(scored: dict) -> list[str]:
    values = [np.mean(scored["mean"][metric]) for metric in metrics.METRICS]
    return [f"{value:.1f}".replace("-", "−") for value in values]


def scores(number: int, mode: str, measure: str = "report") -> dict:
    return weights.read_card(f"experiment{number}")["scores"][mode][measure]


def floor(name: str) -> dict:
    return results.read_analysis("floors")[name]["report"]


def effects(*groups: str) -> Table:
    found = statistics.effects()
    chosen = [e for e in found.values() if arms.ARMS[e.arm].group in groups]
    return cells(tables.effects_table(chosen, statistics.verdicts(found)))


def experiment1() -> list[Table]:
    published = cards.published_scores()
    reported = {published[k]["label"]: published[k] for k in ("paper", "report_experiment1")}
    here = {
        "here, the report's procedure": scores(1, "report"),
        "here, whole song, hop 5": scores(1, "song"),
    }
    by_museval = {
        "the report's procedure, museval": scores(1, "report", "bsseval"),
        "whole song, museval": scores(1, "song", "bsseval"),
    }
    floors = {
        "the mixture": floor("the mixture"),
        "equalizer, the report's segments": floor("equalizer, segments"),
        "equalizer, whole song": floor("equalizer"),
        "HPSS, whole song": floor("HPSS"),
    }
    return [cells(tables.scores_table(rows)) for rows in (floors | reported | here, by_museval)]


def experiment2() -> list[Table]:
    published = cards.published_scores()
    rows = {
        "equalizer, the report's segments": floor("equalizer, segments"),
        "equalizer, whole song": floor("equalizer"),
        published["paper"]["label"]: published["paper"],
    }
    for number in (1, 2):
        reported = published[f"report_experiment{number}"]
        rows[reported["label"]] = reported
        rows[f"{number}, here, the report's procedure"] = scores(number, "report")
        rows[f"{number}, here, whole song"] = scores(number, "song")
    return [cells(tables.scores_table(rows))]


def causes() -> list[Table]:
    ways = [
        [name, *means(scored["report"])]
        for name, scored in results.read_analysis("resyntheses").items()
    ]
    measured = [
        [measure, split.title(), metric]
        + [f"{value:.1f}".replace("-", "−") for value in scored["mean"][metric]]
        for measure, by_split in results.read_analysis("comparison").items()
        for split, scored in by_split.items()
        for metric in metrics.METRICS
    ]
    return [
        [["what, and how", *metrics.METRICS], *ways],
        [["measure", "songs", "metric", "bass", "drums", "other", "vocals"], *measured],
        *(
            effects(group)
            for group in (
                "tried in the report",
                "left out in the report",
                "the published code",
                "optimiser",
                "loss",
                "parts of mixing anew",
                "architecture or music",
            )
        ),
        effects("data", "Experiment 3"),
    ]


def experiment3() -> list[Table]:
    labels = {"report": "the report's procedure", "song": "whole song"}
    ours = {
        "the mixture": floor("the mixture"),
        "equalizer, whole song": floor("equalizer"),
        "HPSS, whole song": floor("HPSS"),
    }
    ours |= {
        f"Experiment {number}, {label}": scores(number, mode)
        for number in (1, 2, 3)
        for mode, label in labels.items()
    }
    by_museval = {
        f"Experiment {number}, whole song, museval": scores(number, "song", "bsseval")
        for number in (1, 2, 3)
    }
    shown = [cells(tables.scores_table(rows)) for rows in (ours, by_museval)]
    taken = ("adam", "base3", "remix", "remix-tilt", "remix-speeds", "relative")
    found = statistics.effects()
    judged = statistics.verdicts(found)
    for names in ((*taken, "experiment3-chosen"), ("effects", "band", "speeds-alone", "balanced")):
        shown.append(cells(tables.effects_table([found[name] for name in names], judged)))
    runs = results.read_results()
    scatter = statistics.seed_scatter(runs, experiments.EXPERIMENTS)
    gain = statistics.compare(runs, "experiment3", "experiment1", scatter)
    shown.append(cells(tables.by_source_table(gain)))
    return shown


CHAPTERS = {
    "experiment1": experiment1,
    "experiment2": experiment2,
    "causes": causes,
    "experiment3": experiment3,
}


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_tables_of_a_chapter_are_what_cards_and_results_say(name):
    path = SITE / f"{name}.html"
    if not path.is_file():
        pytest.skip(f"no built site at {SITE}: run `make book` first")
    html = path.read_text(encoding="utf-8")
    shown = Tables(html).tables
    for wanted in CHAPTERS[name]():
        assert wanted in shown, wanted[:3]
        # And the test would see a digit that differs.
        digit = next(d for row in wanted[1:] for d in row[1:] if re.search(r"\d\.\d", d))
        other = re.sub(r"\d", lambda found: str((int(found[0]) + 1) % 10), digit, count=1)
        assert wanted not in Tables(html.replace(digit, other)).tables


def test_the_means_of_cards_are_those_of_their_songs():
    for number in (1, 2, 3):
        card = weights.read_card(f"experiment{number}")
        for mode in evaluation.MODES:
            scored = card["scores"][mode]
            for metric in metrics.METRICS:
                values = np.array(
                    [channel[metric] for song in scored["songs"] for channel in song["report"]]
                )
                told = scored["report"]
                np.testing.assert_allclose(values.mean(axis=0), told["mean"][metric], atol=1e-3)
                np.testing.assert_allclose(values.std(axis=0), told["deviation"][metric], atol=1e-3)
