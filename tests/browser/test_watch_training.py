"""The training in the page: its derivatives, optimizers and curves, and how it behaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from sepkit import metrics, stft

ROOT = Path(__file__).parents[2]
HTML = "<watch-training><p>A picture</p></watch-training>"
TRAINED = "document.querySelector('watch-training').status.textContent.startsWith('Paused')"
ELEMENT = "document.querySelector('watch-training')"


@pytest.fixture
def trained(live_page):
    """Open a page in which the first 200 steps are done."""

    def start(body=HTML, **options):
        page = live_page(body, "watch_training", **options)
        page.wait_for_function(TRAINED, timeout=60_000)
        return page

    return start


def errors_of(page, **settings):
    """Train without the element; errors of every tenth step, one row a point."""
    given = {"optimizer": "Adadelta", "rate": 0.01, "epsilon": 1, "alpha": 0, "augment": False}
    given |= {"amount": 8, "seed": 1, "steps": 200, **settings}
    rows = page.evaluate(
        """(settings) => {
          const { Training } = (window.core ??= sepkitTraining(sepkitKit.random));
          const training = new Training(settings.seed);
          const points = [training.point(settings)];
          while (training.steps < settings.steps) {
            training.step(settings);
            if (training.steps % 10 === 0) points.push(training.point(settings));
          }
          return points;
        }""",
        given,
    )
    return np.array(rows)


@pytest.fixture
def bare(live_page):
    """A page with the script and no element."""
    return live_page("<p>nothing</p>", "watch_training")


@pytest.fixture(scope="session")
def chapter():
    """What the chapter's cells define: the same songs, network and training, by TensorFlow."""
    tf = pytest.importorskip("tensorflow")
    cells = json.loads((ROOT / "book" / "training.ipynb").read_text(encoding="utf-8"))["cells"]
    source = {cell.get("id"): "".join(cell["source"]) for cell in cells}
    names = {"np": np, "tf": tf, "stft": stft}
    for cell in ("c04-7a7955", "watch-songs", "watch-network", "watch-twin"):
        exec(source[cell], names)
    return names


@pytest.mark.parametrize("alpha", [0, 0.1])
def test_the_backward_pass_gives_the_slopes_of_the_loss(alpha, bare):
    found = bare.evaluate(
        """(alpha) => {
          const core = sepkitTraining(sepkitKit.random);
          const { newWeights, views, song, forward, lossOf, gradientOf } = core;
          const weights = newWeights(sepkitKit.random(3));
          const p = views(weights);
          const { x, truth } = song(1).bands;
          const batch = { x: x.slice(1920, 4480), truth: truth.map((y) => y.slice(1920, 4480)) };
          const gradient = gradientOf(p, batch, alpha);
          const loss = () => lossOf(forward(p, batch.x).mask, batch, alpha);
          // Some of every array, biases too.
          const places = Object.entries(p).flatMap(([name, array]) =>
            [0, 5, 11].map((i) => [name, (array.byteOffset - weights.byteOffset) / 8 + i]));
          return places.map(([name, i]) => {
            const [old, h] = [weights[i], 1e-6];
            weights[i] = old + h;
            const above = loss();
            weights[i] = old - h;
            const below = loss();
            weights[i] = old;
            return [name, gradient[i], (above - below) / (2 * h)];
          });
        }""",
        alpha,
    )
    ours, slopes = np.array([[g, slope] for _, g, slope in found]).T
    assert {name for name, *_ in found} >= {"V", "bV", "W", "bW", "D0", "bD0", "U1", "bU1"}
    assert (np.abs(slopes) > 1e-3).mean() > 0.7
    np.testing.assert_allclose(ours, slopes, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rate", "epsilon"),
    [("Adadelta", 0.01, 1), ("Adadelta", 1.0, 1e-6), ("Adam", 0.003, 1e-7), ("Adam", 0.003, 1)],
)
def test_optimizers_step_as_those_of_keras(name, rate, epsilon, bare):
    keras = pytest.importorskip("keras")
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(20, 50)) * 10.0 ** rng.uniform(-3, 1, 50)
    ours = bare.evaluate(
        """({ gradients, ...settings }) => {
          const { update } = sepkitTraining(sepkitKit.random);
          const [weights, state] = [new Float64Array(50).fill(1), {}];
          return gradients.map((g) => {
            update(weights, Float64Array.from(g), state, settings);
            return [...weights];
          });
        }""",
        {"gradients": gradients.tolist(), "optimizer": name, "rate": rate, "epsilon": epsilon},
    )
    given = {"rho": 0.95} if name == "Adadelta" else {}
    optimizer = getattr(keras.optimizers, name)(rate, epsilon=epsilon, **given)
    weights = keras.Variable(np.ones(50, np.float32))
    optimizer.build([weights])
    for gradient, found in zip(gradients, ours, strict=True):
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")])
        np.testing.assert_allclose(found, weights.numpy(), rtol=1e-5, atol=1e-5)


def test_the_curve_is_that_of_the_chapters_network(bare, chapter):
    # Rounding errors grow from step to step: where both decoders draw next to nothing, the slope of
    # a mask is steep. With a small epsilon even such a slope makes a short step.
    train = chapter["train_small"]
    _, errors = train(1, range(1, 9), (0.03, 0.95, 1e-6), 20)
    found = errors_of(bare, rate=0.03, epsilon=1e-6, steps=20)
    assert found[-1, 2] < 0.98 * found[0, 2]
    np.testing.assert_allclose(found, errors, rtol=1e-3)


def test_training_lowers_the_validation_error_and_one_second_overfits(bare):
    errors = errors_of(bare, steps=100)
    assert errors[-1, 2] < 0.4 * errors[0, 2]
    overfit = errors_of(bare, amount=0.25, steps=600)
    lowest = overfit[:, 2].argmin()
    assert overfit[lowest, 0] < 300
    assert overfit[-1, 2] > 1.05 * overfit[lowest, 2]
    assert overfit[-1, 1] < 0.8 * overfit[lowest, 1]
    assert overfit[-1, 2] > 2 * errors[-1, 2]


@pytest.mark.parametrize("augment", [False, True])
def test_a_seed_determines_the_curve(augment, bare):
    one = errors_of(bare, amount=2, augment=augment, steps=30)
    assert (one == errors_of(bare, amount=2, augment=augment, steps=30)).all()
    assert (one[1:, 1:] != errors_of(bare, amount=2, augment=not augment, steps=30)[1:, 1:]).all()
    assert (one[:, 1:] != errors_of(bare, amount=2, augment=augment, seed=2, steps=30)[:, 1:]).all()


def test_songs_are_mixed_anew_in_every_epoch(bare):
    code = """(augment) => {
      const { Training } = sepkitTraining(sepkitKit.random);
      const training = new Training(1);
      return [0, 1, 2].map(() => {
        training.queue = [];
        training.epoch({ amount: 1, augment });
        const [{ x, truth }] = training.queue;
        return [x, ...truth].map((values) => Math.hypot(...values));
      });
    }"""
    plain = np.array(bare.evaluate(code, False))
    np.testing.assert_allclose(plain, plain[:1].repeat(3, axis=0), rtol=1e-9)
    mixture, *sources = np.array(bare.evaluate(code, True)).T
    gains = 20 * np.log10(sources / plain[0, 1:, None])
    assert (np.abs(gains) < 6.01).all() and (np.ptp(gains, axis=1) > 0.5).all()
    assert (mixture < sum(sources)).all() and (mixture > 0.5 * np.hypot(*sources)).all()


def test_the_first_state_is_a_curve_and_scores_are_the_librarys(trained):
    page = trained()
    points = np.array(page.evaluate(f"{ELEMENT}.points"))
    np.testing.assert_allclose(points, errors_of(page), rtol=1e-12)
    shown = page.locator(".kit-scores").inner_text()
    assert f"Step 200: training error {points[-1, 1]:.3f}" in shown
    assert f"validation error {points[-1, 2]:.3f}" in shown
    names = ["true line", "true drums", "line now", "drums now", "mixture"]
    sounds = page.evaluate(f"(names) => names.map((name) => [...{ELEMENT}.heldOut[name]])", names)
    line, drums, *estimates, mixture = np.array(sounds)
    np.testing.assert_allclose(mixture, line + drums, atol=1e-7)
    expected = metrics.report_scores(np.stack([line, drums]), np.stack(estimates))
    page.get_by_text("Scores of the held-out song").click()
    cells = page.locator(".kit-table").first.locator("td").all_inner_texts()
    found = [float(text.removesuffix(" dB").replace("−", "-")) for text in cells]
    np.testing.assert_allclose(found, expected.T.ravel(), atol=0.01)
    before = metrics.report_scores(np.stack([line, drums]), np.stack([mixture] * 2))
    assert (expected[0] > before[0] + 4).all()


def test_the_loop_plays_the_line_as_it_becomes(trained):
    page = trained(served=False)  # from disk too
    before = page.evaluate(f"{ELEMENT}.loop.channels[0].slice(5000, 5010).join()")
    page.get_by_role("button", name="Play").press("Enter")
    page.get_by_role("button", name="Train").press("Enter")
    page.wait_for_function(f"{ELEMENT}.steps > 220", timeout=20_000)
    page.get_by_role("button", name="Pause").press("Enter")
    page.wait_for_function(f"{ELEMENT}.loop.channels[0].slice(5000, 5010).join() !== '{before}'")
    assert page.evaluate(f"{ELEMENT}.loop.source !== null")
    page.get_by_role("button", name="true line").press("Enter")
    same = f"{ELEMENT}.loop.channels[0] === {ELEMENT}.heldOut['true line']"
    assert page.evaluate(same)


def test_pause_and_removal_end_the_work(trained):
    page = trained()
    page.evaluate(f"window.element = {ELEMENT}")
    page.get_by_role("button", name="Train").click()
    page.wait_for_function("element.steps > 210")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_timeout(200)
    steps = page.evaluate("element.steps")
    page.evaluate("element.worker.addEventListener('message', () => (window.heard = true))")
    page.wait_for_timeout(400)
    assert page.evaluate("[element.steps, window.heard ?? false]") == [steps, False]
    page.get_by_role("button", name="One step").click()
    page.wait_for_function(f"element.steps === {steps + 1}")

    page.get_by_role("button", name="Train").click()
    page.evaluate("window.scrollTo(0, 0); document.body.style.paddingTop = '3000px'")
    page.wait_for_timeout(500)  # out of sight
    steps = page.evaluate("element.steps")
    page.wait_for_timeout(400)
    assert page.evaluate("element.steps") == steps
    page.evaluate("document.body.style.paddingTop = 0")
    page.wait_for_function(f"element.steps > {steps}")

    assert len(page.workers) == 1
    page.evaluate("element.remove()")
    page.wait_for_timeout(200)
    assert page.workers == []
    page.evaluate("document.querySelector('main').append(element)")
    page.wait_for_function("element.steps === 200", timeout=30_000)
    assert len(page.workers) == 1


def test_the_keyboard_reaches_and_changes_every_setting(trained):
    page = trained()
    page.get_by_label("Learning rate").press("ArrowRight")
    page.get_by_label("ε").press("ArrowLeft")
    page.get_by_label("Optimizer").select_option("Adam")
    page.get_by_label("Loss").select_option("0.1")
    page.get_by_label("Trained on").select_option("1")
    page.get_by_role("button", name="Mix anew").press("Enter")
    page.get_by_role("button", name="another seed").press("Enter")
    settings = page.evaluate(f"{ELEMENT}.settings")
    assert settings == {
        "optimizer": "Adam", "rate": 0.03, "epsilon": 0.3, "alpha": 0.1, "amount": 1,
        "augment": True, "seed": 2, "run": 1,
    }  # fmt: skip
    page.wait_for_function(f"{ELEMENT}.points.length === 1")
    page.get_by_role("button", name="Train").press("Enter")
    page.wait_for_function(f"{ELEMENT}.points.length > 2")
    page.get_by_role("button", name="Pause").press("Enter")
    found = np.array(page.evaluate(f"{ELEMENT}.points"))[:2]
    del settings["run"]
    np.testing.assert_allclose(found, errors_of(page, steps=10, **settings), rtol=1e-12)
    page.get_by_label("Optimizer").select_option("Gradient descent")
    assert page.get_by_label("ε").is_disabled()


def test_the_page_answers_while_it_trains(trained):
    page = trained()
    page.get_by_role("button", name="Train").click()
    best = []
    for _ in range(3):
        times, longest = page.evaluate(
            """async () => {
              const rate = document.querySelector("watch-training input");
              const [times, tasks] = [[], []];
              const watcher = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
              watcher.observe({ entryTypes: ["longtask"] });
              for (let i = 0; i < 90; i++) {
                times.push(await new Promise(requestAnimationFrame));
                rate.value = 2 + (i % 5);
                rate.dispatchEvent(new Event("input"));
              }
              watcher.disconnect();
              return [times, Math.max(0, ...tasks.map((task) => task.duration))];
            }"""
        )
        best.append((np.median(np.diff(times)), longest))
    assert min(middle for middle, _ in best) <= 20
    assert min(longest for _, longest in best) <= 100
    assert page.evaluate(f"{ELEMENT}.steps") > 200


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_and_a_phone_does_not_scroll_sideways(theme, trained):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = trained(width=375, color_scheme=theme)
    if theme == "dark":
        page.evaluate(
            "document.documentElement.dataset.theme = 'dark';"
            "Object.assign(document.body.style, { background: '#121212', color: '#ccc' })"
        )
    for summary in page.locator("summary").all():
        summary.click()
    found = axe.run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    small = page.evaluate(
        "[...document.querySelectorAll('.kit :is(button, select)')]"
        ".filter((each) => each.getBoundingClientRect().height < 36).map((each) => each.outerHTML)"
    )
    assert small == []
