"""The rating test's files joined: screening, intervals, correlations with known answers; errors."""

import copy
import json

import numpy as np
import pytest
import scipy.stats

from sepkit import cli
from sepkit.errors import SepkitError
from sepkit.study import listening

SYSTEMS = {"first": (1.0, 5.0, 2.0), "second": (3.0, 4.0, 6.0), "third": (8.0, 6.0, 4.0)}


def content(ratings, *, listener="a", date="2026-11-01T10:00:00.000Z", reference=(100, 95, 98)):
    """A file's content: by trial the ratings of the three systems."""
    trials = []
    for i, (row, hidden) in enumerate(zip(ratings, reference, strict=False)):
        stimuli = [
            {"system": "hidden reference", "kind": "reference", "rating": hidden,
             "scores": dict.fromkeys(("SDR", "SIR", "SAR"))},
            {"system": "low-pass anchor", "kind": "anchor", "rating": 20,
             "scores": {"SDR": 9.5, "SIR": 40.0, "SAR": 9.6}},
        ]  # fmt: skip
        for (system, scores), rating in zip(SYSTEMS.items(), row, strict=True):
            scored = dict(zip(("SDR", "SIR", "SAR"), [s + 0.1 * i for s in scores], strict=True))
            stimuli.append({"system": system, "kind": "system", "rating": rating, "scores": scored})
        trials.append({"song": f"song {i}", "source": "vocals", "stimuli": stimuli})
    return {
        "kind": "sepkit-listening", "version": 1, "page": "sepkit 0.1.0", "test": "abc",
        "listener": listener, "date": date, "rate": 48000, "ratings": trials,
    }  # fmt: skip


GOOD = [
    content([(10, 40, 80), (12, 44, 70), (20, 30, 60)], listener="a"),
    content([(20, 50, 60), (22, 54, 90), (30, 40, 80)], listener="b"),
    content([(30, 60, 70), (32, 64, 80), (10, 50, 70)], listener="c"),
]


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """Write contents as files of the current folder and give their names."""
    monkeypatch.chdir(tmp_path)

    def write(*contents):
        names = []
        for i, value in enumerate(contents):
            names.append(f"{i}.json")
            (tmp_path / names[-1]).write_text(json.dumps(value), encoding="utf-8")
        return names

    return write


def joined(*contents, saved, **options):
    return listening.join([listening.read_session(p) for p in saved(*contents)], **options)


def test_means_have_bootstrap_intervals_over_listeners(saved):
    found = joined(*GOOD, saved=saved)
    by_listener = {
        name: [np.mean([t["stimuli"][2 + i]["rating"] for t in c["ratings"]]) for c in GOOD]
        for i, name in enumerate(SYSTEMS)
    }
    for name, values in by_listener.items():
        mean = found.means[name]
        assert mean.value == pytest.approx(np.mean(values))
        # SciPy's, with other draws: of three listeners there are 27 resamples in all.
        expected = scipy.stats.bootstrap(
            (values,), np.mean, method="percentile", n_resamples=20_000, random_state=1
        ).confidence_interval
        assert (mean.low, mean.high) == pytest.approx(tuple(expected), abs=0.3)
    assert found.means["low-pass anchor"].value == 20
    assert found.means["hidden reference"].value == pytest.approx(np.mean([100, 95, 98]))


def test_correlations_are_spearmans_over_the_systems_sounds_alone(saved):
    found = joined(*GOOD, saved=saved)
    rated = np.mean(
        [[s["rating"] for t in c["ratings"] for s in t["stimuli"][2:]] for c in GOOD], axis=0
    )
    assert found.n_sounds == 9
    for metric, mean in found.correlations.items():
        scores = [s["scores"][metric] for t in GOOD[0]["ratings"] for s in t["stimuli"][2:]]
        assert mean.value == pytest.approx(scipy.stats.spearmanr(rated, scores).statistic)
        assert -1 <= mean.low <= mean.value <= mean.high <= 1
    # Ratings in the order of the SDR, whatever the song.
    exact = content([(10, 40, 70), (11, 41, 71), (12, 42, 72)])
    sdr = joined(exact, saved=saved).correlations["SDR"]
    assert (sdr.value, sdr.low, sdr.high) == pytest.approx((1, 1, 1))


def test_one_seed_gives_one_interval(saved):
    one, same, other = (joined(*GOOD, saved=saved, seed=s) for s in (0, 0, 7))
    assert one == same
    assert one.correlations["SAR"] != other.correlations["SAR"]


def test_who_misses_the_reference_in_more_than_15_percent_of_trials_is_left_out(saved):
    deaf = content([(90, 80, 10)] * 3, listener="d", reference=(89, 100, 100))
    sharp = content([(90, 80, 10)] * 3, listener="e", reference=(90, 90, 90))
    found = joined(*GOOD, deaf, sharp, saved=saved)
    assert found.excluded == {"d": (1, 3)} and found.kept == ("a", "b", "c", "e")
    # One of seven is 14 %: not more than 15.
    long = content([(90, 80, 10)] * 7, listener="f", reference=(89, *[100] * 6))
    assert joined(long, saved=saved).excluded == {}


def test_two_sessions_of_one_listener_are_one_listener(saved):
    again = content([(70, 40, 80)] * 3, listener="a", date="2026-11-02T10:00:00.000Z")
    found = joined(GOOD[0], again, saved=saved)
    assert found.kept == ("a",)
    assert found.means["first"].value == pytest.approx((np.mean([10, 12, 20]) + 70) / 2)
    assert np.isnan(found.means["first"].low)


def test_a_metric_without_three_scores_has_no_correlation(saved):
    bare = copy.deepcopy(GOOD[0])
    for trial in bare["ratings"]:
        for stimulus in trial["stimuli"]:
            stimulus["scores"]["SIR"] = None
    found = joined(bare, saved=saved)
    assert np.isnan(found.correlations["SIR"].value)
    assert not np.isnan(found.correlations["SAR"].value)


def test_the_command_prints_what_was_joined_and_how_little_it_shows(saved, capsys):
    deaf = content([(90, 80, 10)] * 3, listener="d", reference=(89, 100, 100))
    assert cli.main(["study", "listening", *saved(*GOOD, deaf)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "4 listeners, 3 trials: vocals, song 0; vocals, song 1; vocals, song 2"
    assert "  d: below 90 in 1 of 3" in lines
    names = [line[2:18].strip() for line in lines[5:10]]
    assert names == ["hidden reference", "third", "second", "first", "low-pass anchor"]
    assert "  73.3  [70.0, 76.7]" in next(line for line in lines if line.startswith("  third"))
    assert any(line.startswith("  SDR    0.89  [") for line in lines)
    assert "From so few they come out too narrow" in out
    # One listener has an opinion and no interval.
    assert cli.main(["study", "listening", *saved(GOOD[0])]) == 0
    out, _ = capsys.readouterr()
    assert "One listener: the ratings are one opinion" in out


def broken(change):
    value = copy.deepcopy(GOOD[0])
    change(value)
    return value


def stimulus(value, index=2):
    return value["ratings"][0]["stimuli"][index]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ('{"kind": "sepkit-listen', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no rating test's file"),
        ('{"kind": "sepkit-abx"}', "an ABX test's file"),
        (broken(lambda v: v.update(version=2)), "another version"),
        (broken(lambda v: v.pop("listener")), "'listener' is missing"),
        (broken(lambda v: v.update(listener="a\nb")), "is no name"),
        (broken(lambda v: v.update(ratings=[])), "not one rating for each sound"),
        (broken(lambda v: v.update(ratings=None)), "damaged"),
        (broken(lambda v: stimulus(v).update(rating=101)), "a rating of 101"),
        (broken(lambda v: stimulus(v).update(rating=float("nan"))), "is no number"),
        (broken(lambda v: stimulus(v).update(rating="80")), "is no number"),
        (broken(lambda v: stimulus(v).update(rating=True)), "is no number"),
        (broken(lambda v: stimulus(v).update(kind="person")), "is none of"),
        (broken(lambda v: stimulus(v).update(system="second")), "not one rating for each"),
        (broken(lambda v: stimulus(v, 0).update(kind="system")), "not one hidden reference"),
        (broken(lambda v: stimulus(v)["scores"].pop("SAR")), "'SAR' is missing"),
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_one_line_and_exit_2(saved, tmp_path, capsys, text, says):
    (good,) = saved(GOOD[1])
    (tmp_path / "bad.json").write_text(text if isinstance(text, str) else json.dumps(text))
    assert cli.main(["study", "listening", good, "bad.json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("sepkit: bad.json: ") and says in err


def test_missing_file_is_one_line(saved, capsys):
    saved()
    assert cli.main(["study", "listening", "none.json"]) == 2
    assert capsys.readouterr().err.startswith("sepkit: none.json: cannot be read (No such file")


def test_other_sounds_and_one_session_twice_are_not_joined(saved):
    other = broken(lambda v: v.update(test="xyz", listener="z"))
    moved = broken(lambda v: (v.update(listener="z"), stimulus(v)["scores"].update(SDR=4.0)))
    for wrong in (other, moved):
        with pytest.raises(SepkitError, match="1.json: rates other sounds than 0.json"):
            joined(GOOD[0], wrong, saved=saved)
    with pytest.raises(SepkitError, match="1.json: the same session as 0.json"):
        joined(GOOD[0], GOOD[0], saved=saved)
    (name,) = saved(GOOD[0])
    with pytest.raises(SepkitError, match="the same session"):
        listening.join([listening.read_session(name)] * 2)


def test_nobody_left_is_said(saved):
    deaf = content([(90, 80, 10)] * 3, reference=(50, 50, 50))
    with pytest.raises(SepkitError, match="nobody is left"):
        joined(deaf, saved=saved)
