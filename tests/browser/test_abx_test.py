"""The ABX test in Chromium: its statistics, its hidden order, its sounds; keys, phone, disk."""

import json

import numpy as np
import pytest
import scipy.stats
from helpers import assert_usable_on_a_phone, set_theme
from test_kit import arrays_of

from sepkit.errors import AudioError, ParameterError
from sepkit.notebook import blind, loudness

RATE = 44100
TONES = np.arange(RATE) / RATE


def noise(seed, level=0.1, channels=1):
    return level * np.random.default_rng(seed).standard_normal((RATE, channels))


PAIRS = {
    "hiss": {"white": noise(0), "quieter": noise(1, 0.01)},
    "tones": {
        "low": 0.2 * np.sin(2 * np.pi * 300 * TONES)[:, np.newaxis],
        "high": 0.05 * np.sin(2 * np.pi * 900 * TONES)[:, np.newaxis],
    },
}

STATE = """(element) => ({
  heading: element.heading.textContent, text: element.text.textContent,
  kept: element.results, focused: document.activeElement?.textContent,
})"""


@pytest.fixture
def abx(live_page, live_site, monkeypatch):
    """Open a page with the test of two pairs; coins of each test fall as bytes say."""

    def start(coins=None, **options):
        monkeypatch.setenv("SEPKIT_PLAYER_DIRECTORY", str(live_site / "_static" / "audio"))
        html = blind.abx_test(PAIRS, RATE, title="Two pairs", licence="noise, CC0").data
        page = live_page(html, "abx_test", **options)
        page.wait_for_selector("abx-test[data-ready]", timeout=20_000)
        if coins is not None:
            page.evaluate(
                """(coins) => {
                  window.asked = 0;
                  crypto.getRandomValues = (array) => {
                    window.asked += array.length;
                    array.forEach((_, i) => (array[i] = coins[i % coins.length]));
                    return array;
                  };
                }""",
                coins,
            )
        return page

    return start


def element(page):
    return page.locator("abx-test")


def state(page):
    return element(page).evaluate(STATE)


def answer_all(page, answers, start=True):
    """Make a test, with the keys alone."""
    if start:
        page.get_by_role("button", name="Start the test").press("Enter")
    for i, answer in enumerate(answers):
        page.wait_for_function(
            """(i) => {
              const test = document.querySelector("abx-test");
              return test.trial === i && test.channels;
            }""",
            arg=i,
        )
        page.keyboard.press(str(answer))


def test_chances_are_scipys_for_every_outcome_of_up_to_20_trials(abx):
    page = abx()
    # As the table of the page shows them, and as a test's result keeps them.
    for n in (5, 10, 16, 20):
        page.get_by_label("Trials").select_option(str(n))
        rows = page.locator(".kit-table").first.locator("tbody tr")
        shown = rows.evaluate_all(
            "(rows) => rows.map((row) => [...row.children].map((x) => Number(x.textContent)))"
        )
        assert len(shown) == n + 1
        for k, chance, more in shown:
            test = scipy.stats.binomtest(int(k), n, alternative="greater")
            assert more == pytest.approx(100 * test.pvalue, abs=0.00501)
            assert chance == pytest.approx(100 * scipy.stats.binom.pmf(k, n, 0.5), abs=0.00501)
    exact = page.evaluate(
        """() => {
          const { chanceOfMore } = customElements.get("abx-test");
          const found = [];
          for (let n = 1; n <= 20; n++) {
            for (let k = 0; k <= n; k++) found.push([n, k, chanceOfMore(k, n)]);
          }
          return found;
        }"""
    )
    assert len(exact) == 230
    for n, k, p in exact:
        assert p == pytest.approx(scipy.stats.binomtest(k, n, alternative="greater").pvalue, 1e-12)


def test_verdict_claims_no_more_than_it_shows(abx):
    coins = [0, 1, 1, 0, 1, 0, 0, 0, 1, 1]
    page = abx(coins)
    right = [coin + 1 for coin in coins]
    answer_all(page, [*right[:7], *(3 - x for x in right[7:])])
    found = state(page)
    assert found["heading"] == "7 of 10: guessing gives this or more in 17 % of tests."
    power = 100 * scipy.stats.binom.sf(8, 10, 0.8)
    assert f"reaches the 9 that count in {power:.0f} % of tests" in found["text"]
    assert "does not show that you hear a difference, nor that you hear none" in found["text"]
    assert page.evaluate("window.asked") == 10
    (kept,) = found["kept"]
    assert (kept["right"], kept["n"], kept["pair"]) == (7, 10, "hiss")
    assert kept["p"] == scipy.stats.binomtest(7, 10, alternative="greater").pvalue
    assert [trial["x"] for trial in kept["trials"]] == ["AB"[coin] for coin in coins]

    page.get_by_role("button", name="Another test").press("Enter")
    answer_all(page, right)
    found = state(page)
    assert found["heading"] == "10 of 10: guessing gives this in 0.1 % of tests."
    assert "you probably heard a difference" in found["text"]
    two = 100 * (1 - (1 - scipy.stats.binom.sf(8, 10, 0.5)) ** 2)
    assert (
        f"2 tests are kept here: by guessing, one or more of so many succeed in {two:.1f} %"
        in (found["text"])
    )


def test_nothing_is_told_before_the_end_and_who_gives_up_has_no_result(abx):
    page = abx([0] * 10)
    answer_all(page, [1, 1, 2, 1])
    page.wait_for_function("document.querySelector('abx-test').trial === 4")
    shown = element(page).inner_text()
    assert "Trial 5 of 10" in shown
    assert not any(word in shown for word in ("correct", "guessing", "right", "3 of", "white"))
    assert state(page)["kept"] == []
    # Neither other sounds nor another number of trials can be chosen now.
    assert page.locator("abx-test :is(select, canvas, table)").evaluate_all(
        "(all) => all.every((x) => x.getClientRects().length === 0)"
    )
    # The order is out of reach of what the page has.
    reachable = page.evaluate(
        """() => {
          const test = document.querySelector("abx-test");
          return Object.entries(test).filter(([, x]) => Array.isArray(x) && x.length === 10).length;
        }"""
    )
    assert reachable == 0
    page.get_by_role("button", name="Give up").press("Enter")
    found = state(page)
    assert found["heading"] == "Given up after 4 of 10 trials: this test has no result."
    (kept,) = found["kept"]
    assert kept["right"] is None and kept["trials"] == []
    # It counts for nothing in the next verdict.
    page.get_by_role("button", name="Another test").press("Enter")
    answer_all(page, [1] * 10)
    assert "tests are kept" not in state(page)["text"]


def test_x_is_the_sound_of_its_coin_and_every_switch_passes_the_same_silence(abx):
    page = abx([1, 0])
    sounds = page.evaluate(
        """async () => {
          const test = document.querySelector("abx-test");
          const wait = (ms) => new Promise((done) => setTimeout(done, ms));
          const set = test.loop.set.bind(test.loop);
          const log = [];
          const name = (channels) =>
            channels === test.silence ? "-" : "AB"[test.channels.indexOf(channels)];
          test.loop.set = (channels) => {
            log.push(name(channels));
            set(channels);
          };
          await test.begin();
          await wait(120);
          const place = test.loop.position;
          for (const key of ["A", "X", "B", "X"]) {
            await test.listen(key);
            await wait(120);
          }
          const later = test.loop.position;
          test.answer(0);
          await wait(120);
          return { log, place, later, running: test.loop.source !== null };
        }"""
    )
    # The first trial's X is B, the second's A.
    assert sounds["log"] == list("-B-A-B-B-B-A")
    assert sounds["running"] and 0.3 < sounds["later"] - sounds["place"] < 0.9


def test_sounds_of_a_pair_are_equally_loud_as_a_page_decodes_them(abx):
    page = abx()
    decoded = arrays_of(
        page,
        """async () => {
          const test = document.querySelector("abx-test");
          await test.load();
          return test.channels.flat();
        }""",
    )
    measured = [loudness.integrated_loudness(sound[:, np.newaxis], RATE) for sound in decoded]
    assert measured == pytest.approx([-23, -23], abs=0.1)
    assert np.corrcoef(decoded[0], PAIRS["hiss"]["white"][:, 0])[0, 1] > 0.99


def test_peaks_below_full_scale_keep_both_equally_loud():
    click = np.zeros((RATE, 2))
    click[::8000] = 1
    matched = blind.match_loudness({"click": click, "hiss": noise(0, channels=2)}, RATE)
    measured = [loudness.integrated_loudness(sound, RATE) for sound in matched]
    assert measured[0] < -24 and measured[1] == pytest.approx(measured[0], abs=0.1)
    assert np.abs(matched).max() <= 1


@pytest.mark.parametrize(
    ("sounds", "error", "says"),
    [
        ({"a": noise(0)}, ParameterError, "compares two"),
        ({"a": noise(0), "b": noise(1)[:-1]}, ParameterError, "one shape"),
        ({"a": noise(0), "b": 0 * noise(1)}, AudioError, "b: has no loudness"),
        ({"a": noise(0), "b": np.nan * noise(1)}, AudioError, "b: holds NaN"),
    ],
)
def test_what_cannot_be_compared_is_refused(sounds, error, says):
    with pytest.raises(error, match=says):
        blind.abx_test({"pair": sounds}, RATE, title="A test")


def test_a_notebook_gets_picture_and_sound_and_loads_no_script(monkeypatch):
    monkeypatch.delenv("SEPKIT_PLAYER_DIRECTORY", raising=False)
    html = blind.abx_test(PAIRS, RATE, title="Two pairs").data
    assert html.count("<audio") == 1 and html.count("<img") == 1 and ".mjs" not in html
    monkeypatch.setenv("SEPKIT_PLAYER_DIRECTORY", "/nowhere")
    with pytest.raises(ParameterError, match="licence"):
        blind.abx_test(PAIRS, RATE, title="Two pairs")


def test_results_are_saved_as_a_file_and_forgotten(abx):
    page = abx([0, 1])
    page.get_by_role("combobox", name="Sounds").select_option("1")
    page.get_by_label("Trials").select_option("5")
    answer_all(page, [1, 2, 1, 2, 1])
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the results").click()
    content = json.loads(download.value.path().read_text(encoding="utf-8"))
    assert (content["kind"], content["version"]) == ("sepkit-abx", 1)
    (test,) = content["tests"]
    assert test["sounds"] == ["low", "high"] and (test["right"], test["n"]) == (5, 5)
    page.reload()
    page.wait_for_selector("abx-test[data-ready]")
    assert len(state(page)["kept"]) == 1
    page.get_by_role("button", name="Forget the results").click()
    assert state(page)["kept"] == []
    assert page.get_by_role("button", name="Save the results").count() == 0


def test_keyboard_alone_listens_answers_and_reaches_everything(abx):
    page = abx([0, 1])
    page.locator("h1").evaluate("(x) => { x.tabIndex = -1; x.focus(); }")
    names = []
    for _ in range(9):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.innerText.split('\\n')[0]"))
    assert names[2:6] == ["Play", "A: white", "B: quieter", "Start the test"]
    page.get_by_role("button", name="Start the test").focus()
    page.keyboard.press("b")
    page.wait_for_function("document.querySelector('abx-test').loop.source")
    status = page.get_by_role("status")
    assert status.inner_text() == "B sounds."
    page.keyboard.press("Enter")
    assert state(page)["focused"] == "X"
    for key in "abx":
        page.keyboard.press(key)
        page.wait_for_function(
            f"document.querySelector('.kit-status').textContent === '{key.upper()} sounds.'"
        )
    answer_all(page, [1, 2] * 5, start=False)
    assert state(page)["focused"] == "10 of 10: guessing gives this in 0.1 % of tests."
    assert status.inner_text() == "The test is over."


def test_the_test_runs_from_disk(abx):
    page = abx([0, 1], served=False)
    answer_all(page, [1, 2] * 5)
    assert "10 of 10" in state(page)["heading"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_a_phone_scrolls_not_sideways(abx, scheme):
    page = abx([0, 1], width=375, color_scheme=scheme)
    set_theme(page, scheme)
    assert_usable_on_a_phone(page, "abx-test")
    page.get_by_role("button", name="Start the test").press("Enter")
    page.wait_for_function("document.querySelector('abx-test').channels")
    assert_usable_on_a_phone(page, "abx-test")
    answer_all(page, [1, 2] * 5, start=False)
    for table in page.locator("abx-test summary").all():
        table.click()
    assert_usable_on_a_phone(page, "abx-test")
