"""The page on whole data sets: its commands run, on computed songs in the folders of DSD100."""

import json
import re
import shlex
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import soundfile
from conftest import ROOT
from helpers import one_line

from sepkit import batches, cli, datasets, files, metrics, weights
from sepkit.errors import DatasetError, ParameterError
from sepkit.study import band, cards, experiments, rehearsal, tables
from sepkit.tracks import SOURCES
from sepkit.weights import Sizes

PAGE = json.loads((ROOT / "book" / "whole_datasets.ipynb").read_text(encoding="utf-8"))
PROSE = "\n".join("".join(c["source"]) for c in PAGE["cells"] if c["cell_type"] == "markdown")
WRITING, JUDGING = re.findall(r"^```python\n(.*?)^```", PROSE, re.DOTALL | re.MULTILINE)
# All but the first, which installs sepkit by a command of IPython's.
CELLS = ["".join(cell["source"]) for cell in PAGE["cells"] if cell["cell_type"] == "code"][1:]
PRINTED = [
    " ".join(line.split())
    for line in re.findall(r"^sepkit .*$", PROSE.replace("\\\n", " "), re.MULTILINE)
    if "--root DSD100" in line
]
SMALL = Sizes(n_timbres=8, n_patterns=4, n_shared=16)


@pytest.fixture(scope="module")
def dsd100(tmp_path_factory):
    """The folder that the page's own lines write, with fewer and shorter songs."""
    pytest.importorskip("midirenderer")
    pytest.importorskip("pretty_midi")
    folder = tmp_path_factory.mktemp("rehearsal")
    few = partial(rehearsal.write_songs, n_dev=3, n_test=2, seconds=(20, 30))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(rehearsal, "write_songs", few)
        exec(WRITING, {})
    return folder / "DSD100"


def test_the_songs_lie_as_those_of_dsd100(dsd100):
    tracks = datasets.dsd100("dev", dsd100)
    names = [f"sepkit band - Song {number}" for number in (51, 52, 53)]
    assert [track.name for track in tracks] == names
    assert [track.name[-1] for track in datasets.dsd100("test", dsd100)] == ["1", "2"]
    assert [source.stem for source in tracks[0].files] == [*SOURCES]
    seconds = [track.read().shape[1] / track.rate for track in tracks]
    np.testing.assert_allclose(seconds, [20, 25, 30], atol=5)
    song = "Dev/051 - sepkit band - Song 51"
    header = soundfile.info(dsd100 / "Mixtures" / song / "mixture.wav")
    assert (header.samplerate, header.channels, header.subtype) == (44100, 2, "PCM_16")
    mixture, _ = soundfile.read(dsd100 / "Mixtures" / song / "mixture.wav")
    # Five files, each rounded to 16 bits.
    np.testing.assert_allclose(tracks[0].mixture, mixture, atol=3 / 32768)
    stems = band.render(band.compose(0, 51, duration=20))
    np.testing.assert_allclose(tracks[0].stems["bass"], stems["bass"], atol=1 / 32768)


def test_a_folder_that_exists_is_not_written_into(tmp_path):
    with pytest.raises(DatasetError) as error:
        rehearsal.write_songs(tmp_path)
    one_line(error, tmp_path, "exists")
    for counts in ({"n_dev": 0}, {"n_test": 51}):
        with pytest.raises(ParameterError, match=str(*counts.values())):
            rehearsal.write_songs(tmp_path / "new", **counts)
    assert not [*tmp_path.iterdir()]


@pytest.fixture(scope="module")
def ran(dsd100):
    """Run all commands of the page in order, with small networks and few steps; give the folder."""
    pytest.importorskip("tensorflow")
    get_reusable_executor = pytest.importorskip("joblib.externals.loky").get_reusable_executor
    small = {
        name: replace(
            experiment,
            sizes=SMALL,
            epochs=1,
            remix=experiment.remix and replace(experiment.remix, epochs=2, steps=3),
        )
        for name, experiment in experiments.EXPERIMENTS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(dsd100.parent)
        # Processes that earlier tests have left are in another folder.
        get_reusable_executor().shutdown(wait=True)
        patch.setattr(experiments, "EXPERIMENTS", small)
        for command in PRINTED:
            assert cli.main(shlex.split(command)[1:]) == 0, command
    return dsd100.parent


def test_the_commands_train_each_experiment_on_all_of_dev(ran, dsd100):
    tracks = datasets.dsd100("dev", dsd100)
    n_segments = sum(-(-track.read().shape[1] // 7168) for track in tracks)
    # Three songs make one block, which comes three times.
    steps = {"experiment1": n_segments // 32 * 3, "experiment2": n_segments // 32 * 3}
    for name, channels in (("experiment1", 1), ("experiment2", 2), ("experiment3", 1)):
        card = files.read_json(ran / "whole" / f"{name}.json")
        assert card["steps"] == steps.get(name, 6)
        assert [song["name"] for song in card["data"]["songs"]] == [t.name for t in tracks]
        values = weights.load(ran / "whole" / f"{name}.weights.h5")
        assert weights.check_shapes(values) == (channels, 4)


def test_the_commands_score_both_ways_on_all_of_test(ran, dsd100):
    names = [track.name for track in datasets.dsd100("test", dsd100)]
    found = [ran / "whole-scores.json", *(ran / "whole" / f"scores{i}.json" for i in (1, 2, 3))]
    for path in found:
        scores = files.read_json(path)["scores"]
        for mode in ("report", "song"):
            assert [song["name"] for song in scores[mode]["songs"]] == names
            assert np.isfinite(scores[mode]["report"]["mean"]["SDR"]).all()
            assert np.isfinite(scores[mode]["bsseval"]["mean"]["SDR"]).all()
    for i in (1, 2, 3):
        card = files.read_json(ran / "whole" / f"experiment{i}.json")
        assert card["scores"] == files.read_json(ran / "whole" / f"scores{i}.json")["scores"]


@pytest.fixture(scope="module")
def page():
    """The names of the page after all of its cells have run."""
    pytest.importorskip("IPython")
    names = {}
    for cell in CELLS:
        exec(cell, names)
    return names


def test_the_page_judges_the_new_cards(ran, page, monkeypatch):
    monkeypatch.chdir(ran)
    exec("from sepkit import files", page)
    table = eval(JUDGING, page).data
    lines = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert [line[1] for line in lines] == [*metrics.METRICS] * 2
    for line, name in ((lines[2], "experiment1"), (lines[5], "experiment2")):
        ours = np.array(
            [
                [channel["SAR"][2] for channel in song["report"]]
                for song in files.read_json(ran / "whole" / f"{name}.json")["scores"]["report"][
                    "songs"
                ]
            ]
        )
        gap = ours.mean() - cards.published_scores()[f"report_{name}"]["mean"]["SAR"][2]
        assert line[4].startswith(tables.signed(gap, 1))


def test_the_stored_rehearsal_is_one_of_the_commands_that_the_page_prints():
    stored = files.read_json(ROOT / "book" / "results" / "rehearsal.json")
    assert [run["command"] for run in stored["commands"]] == PRINTED
    assert all(run["output"] and run["memory"] > 0 for run in stored["commands"])
    # With the report's blocks of ten songs, half overlapping, each of them once in an epoch.
    schedule = batches.report_schedule(stored["songs"]["dev"]["songs"], epochs=1)
    assert len({epoch.block for epoch in schedule}) > 1
    trained = [run for run in stored["commands"] if "train" in run["command"]]
    assert [run["added"] for run in trained] == ["--epochs 1"] * 3
    assert trained[0]["steps"] == trained[1]["steps"]
    assert trained[2]["steps"] == experiments.get_experiment("experiment3").remix.steps
