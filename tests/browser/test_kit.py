"""What explorers stand on, in Chromium: the engine step by step, scores, controls, sound."""

import base64

import numpy as np
import pytest

import sepkit
from sepkit import masks, network, stft, weights
from sepkit.metrics import report_scores

TO_TEXT = """(arrays) => arrays.map((array) => {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (let i = 0; i < bytes.length; i += 32768)
    text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  return btoa(text);
})"""


def arrays_of(page, code):
    """Run code whose result is a list of Float32Arrays."""
    texts = page.evaluate(f"async () => ({TO_TEXT})(await ({code})())")
    return [np.frombuffer(base64.b64decode(text), np.float32) for text in texts]


@pytest.fixture
def left(falcon):
    """The left channel: mixture and stems, as 16 bits give them."""
    stems = {name: np.round(stem[:, 0] * 32768) / 32768 for name, stem in falcon.stems.items()}
    return {name: stem.astype(np.float32) for name, stem in stems.items()}


def test_the_engine_step_by_step_gives_the_stems_and_layers_of_the_library(live_page, left):
    page = live_page("<p>nothing</p>")
    got = arrays_of(
        page,
        """async () => {
          const { mixture } = await sepkitKit.decodeStems("falcon-69-stems");
          const bench = await sepkitEngine.Workbench.start("experiment3-float32", mixture, 5);
          await bench.forward();
          const layers = ["magnitudes", "timbres", "patterns", "bottleneck", "masks"];
          const found = [mixture, ...(await bench.stems())];
          for (const layer of layers) found.push(await bench.get(layer));
          bench.end();
          return found;
        }""",
    )
    mixture, stems, layers = got[0], np.stack(got[1:5]), got[5:]
    np.testing.assert_allclose(mixture, sum(left.values()), atol=1e-4)
    peak = np.abs(mixture).max()
    expected = np.stack(list(sepkit.separate(mixture, 44100, hop=5).values()))
    np.testing.assert_allclose(stems, expected, atol=1e-6 * peak)

    prepared = network.prepare(weights.load(weights.find_weights("experiment3")))
    magnitudes = np.abs(stft.stft(mixture[:, np.newaxis]))
    n_frames = len(magnitudes)
    padded = layers[0].reshape(-1, 513)
    np.testing.assert_allclose(padded[:n_frames], magnitudes[..., 0], atol=1e-5 * magnitudes.max())
    timbres = network.vertical_convolution(prepared, padded[..., np.newaxis])
    np.testing.assert_allclose(
        layers[1].reshape(-1, 50), timbres, atol=1e-5 * np.abs(timbres).max()
    )
    shared = network.encode_song(prepared, timbres, 5)
    assert layers[2].reshape(-1, 30).shape[0] == len(padded) - 11
    np.testing.assert_allclose(layers[3].reshape(-1, 128), shared, atol=1e-5 * shared.max())
    averaged = masks.mean_masks(prepared, magnitudes, 5)[..., 0]
    found = layers[4].reshape(4, -1, 513)[:, :n_frames]
    # Where decoders draw next to nothing, a mask is a ratio of rounding errors.
    assert (np.abs(found - averaged) < 1e-4).mean() > 0.999


def test_a_layer_can_be_changed_before_the_next_one_is_computed(live_page):
    page = live_page("<p>nothing</p>")
    one, other = arrays_of(
        page,
        """async () => {
          const { mixture } = await sepkitKit.decodeStems("falcon-69-stems");
          const bench = await sepkitEngine.Workbench.start("experiment3-float32", mixture, 5);
          await bench.forward({ bottleneck: (units) => units.fill(0) });
          const silenced = await bench.get("masks");
          await bench.put("masks", new Float32Array(silenced.length).fill(0.25));
          return [silenced, (await bench.stems())[0]];
        }""",
    )
    # Without a bottleneck all contexts have the same masks: their mean repeats every 5 frames.
    found = one.reshape(4, -1, 513)[0, 100:120]
    np.testing.assert_allclose(found[5:], found[:-5], atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.01
    mixture = sum(stem[:, 0] for stem in sepkit.example().stems.values())
    np.testing.assert_allclose(other, mixture / 4, atol=1e-4)


def test_scores_are_the_reports(live_page, left):
    page = live_page("<p>nothing</p>")
    names = list(left)
    scores = page.evaluate(
        """async () => {
          const { stems, mixture } = await sepkitKit.decodeStems("falcon-69-stems");
          const truths = sepkitKit.SOURCES.map((source) => stems[source]);
          const half = stems.vocals.map((x, i) => 0.5 * x + 0.1 * mixture[i] + 0.01 * Math.sin(i));
          const silent = new Float32Array(mixture.length);
          return [
            ...truths.map((_, i) => sepkitKit.reportScores(mixture, truths, i)),
            sepkitKit.reportScores(half, truths, 3),
            sepkitKit.reportScores(half, [truths[0], silent, truths[2], truths[3]], 3),
          ].map(({ SDR, SIR, SAR }) => [SDR, SIR, SAR].map((x) => Math.min(x, 1000)));
        }"""
    )
    references = np.stack([left[name] for name in names]).astype(np.float64)
    mixture = references.sum(axis=0)
    n = np.arange(len(mixture))
    half = 0.5 * references[3] + 0.1 * mixture + 0.01 * np.sin(n)
    expected = report_scores(references, np.stack([mixture] * 4)).T
    np.testing.assert_allclose(np.array(scores[:4])[:, :2], expected[:, :2], atol=0.01)
    np.testing.assert_allclose(
        scores[4], report_scores(references, np.stack([half] * 4))[:, 3], atol=0.01
    )
    references[1] = 0
    np.testing.assert_allclose(
        scores[5], report_scores(references, np.stack([half] * 4))[:, 3], atol=0.01
    )


def test_a_slider_has_a_name_a_value_and_steps(live_page):
    page = live_page('<div id="here"></div>')
    page.evaluate(
        """() => {
          const { slider } = sepkitKit;
          const show = (x) => `${x} samples`;
          const options = { label: "Hop", values: [128, 256, 512], value: 256, show };
          here.append(slider(options, (value) => (window.heard = value)));
        }"""
    )
    handle = page.get_by_role("slider", name="Hop")
    assert handle.get_attribute("aria-valuetext") == "256 samples"
    handle.press("ArrowRight")
    assert page.evaluate("window.heard") == 512
    assert page.locator("output").inner_text() == "512 samples"


def test_one_loop_sounds_at_a_time_and_goes_on_at_its_place_when_it_changes(live_page):
    page = live_page("<p>nothing</p>")
    places = page.evaluate(
        """async () => {
          const tone = (f) => Float32Array.from({ length: 44100 }, (_, i) => 0.1 * Math.sin(f * i));
          const wait = (ms) => new Promise((done) => setTimeout(done, ms));
          const [one, two] = [new sepkitKit.Loop(), new sepkitKit.Loop()];
          one.set([tone(0.05)]);
          two.set([tone(0.1)]);
          await one.play();
          await wait(300);
          const before = one.position;
          one.set([tone(0.07)]);
          const after = one.position;
          await two.play();
          return [before, after, one.source === null, two.source !== null];
        }"""
    )
    before, after, stopped, sounds = places
    assert before > 0.1 and abs(after - before) < 0.05
    assert stopped and sounds
