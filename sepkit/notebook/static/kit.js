/* What the explorers of the book share: controls, pictures, sound, scores, state.

   An explorer is a custom element whose class extends `sepkitKit.Explorer`:

     class LossSimplex extends sepkitKit.Explorer {
       static title = "The loss in one bin";
       static parts = [];               // scripts of separator/ that it needs, by name
       async build() { ... }            // fills this.stage; once, when the reader comes near
     }
     sepkitKit.define("loss-simplex", LossSimplex);

   What sepkit.notebook.live writes stands inside the element until then: a picture and a sound of the
   explorer's first state, for readers without scripts. With `parts` that weigh more than a few
   kilobytes, a button first says what will be loaded. */
(() => {
  "use strict";
  if (globalThis.sepkitKit) return;

  const SOURCES = ["bass", "drums", "other", "vocals"];
  const COLORS = {
    bass: "#0072b2", drums: "#d55e00", other: "#009e73", vocals: "#cc79a7", mixture: "#7f7f7f",
  };
  const SIZES = { experiment3: 1.3, experiment1: 1.3, "falcon-69-stems": 1.2 }; // [MB]

  /* ---- Elements ---- */

  /** An element with attributes and content. */
  function make(tag, attributes = {}, ...content) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("aria-") && value != null) element.setAttribute(name, value); // "false" too
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value != null) element.setAttribute(name, value);
    }
    element.append(...content);
    return element;
  }

  function button(text, act, attributes = {}) {
    const element = make("button", { type: "button", ...attributes }, text);
    element.addEventListener("click", () => act(element));
    return element;
  }

  /** A button that stays pressed; `act` gets whether it is. */
  function toggle(text, act, pressed = false, attributes = {}) {
    return button(
      text,
      (element) => {
        const now = element.getAttribute("aria-pressed") !== "true";
        element.setAttribute("aria-pressed", now);
        act(now);
      },
      { "aria-pressed": pressed, ...attributes },
    );
  }

  /** A labelled slider. `show` turns its value into text; `values` are its steps, where they are not
      evenly spaced. The element has `value` and `set(value)`, which does not call `act`. */
  function slider({ label, min = 0, max = 1, step = 0.01, value = min, values = null, show = String }, act) {
    if (values) [min, max, step] = [0, values.length - 1, 1];
    const index = (x) => (values ? values.indexOf(x) : x);
    const input = make("input", { type: "range", min, max, step, value: index(value), autocomplete: "off" });
    const text = make("output", { class: "kit-value" });
    const element = make("label", { class: "kit-slider" }, make("span", { class: "kit-label" }, label), input, text);
    const update = () => {
      element.value = values ? values[input.value] : Number(input.value);
      text.textContent = show(element.value);
      input.setAttribute("aria-valuetext", text.textContent);
    };
    element.set = (x) => {
      input.value = index(x);
      update();
    };
    input.addEventListener("input", () => {
      update();
      act?.(element.value);
    });
    update();
    return element;
  }

  /** A labelled list to choose from; `options` maps values to texts. */
  function choice(label, options, value, act) {
    const list = make(
      "select",
      { autocomplete: "off" },
      ...Object.entries(options).map(([key, text]) => make("option", { value: key, selected: key === String(value) }, text)),
    );
    list.addEventListener("change", () => act(list.value));
    const element = make("label", { class: "kit-choice" }, make("span", { class: "kit-label" }, label), list);
    element.list = list;
    return element;
  }

  /** A table whose rows can be replaced, for readers who cannot see a picture: open by a click. */
  class Table {
    constructor(caption, headings) {
      this.body = make("tbody");
      const head = make("tr", {}, ...headings.map((text) => make("th", { scope: "col" }, text)));
      const table = make("table", {}, make("thead", {}, head), this.body);
      this.element = make("details", { class: "kit-table" }, make("summary", {}, caption), make("div", { tabindex: 0 }, table));
    }

    fill(rows) {
      this.body.replaceChildren(
        ...rows.map(([first, ...rest]) =>
          make("tr", {}, make("th", { scope: "row" }, first), ...rest.map((text) => make("td", {}, text))),
        ),
      );
    }
  }

  /** Call a function once before the next picture, however often it is asked for. */
  function onFrame(act) {
    let asked = false;
    return () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        act();
      });
    };
  }

  /** Call an asynchronous function, and once more with the last input when it was asked meanwhile. */
  function latest(act) {
    let [running, next] = [false, null];
    return async function run(...input) {
      if (running) {
        next = input;
        return;
      }
      running = true;
      try {
        await act(...input);
      } finally {
        running = false;
        if (next) {
          const again = next;
          next = null;
          run(...again);
        }
      }
    };
  }

  /* ---- Numbers ---- */

  const decibels = (ratio) => 10 * Math.log10(ratio); // of energies
  /** "−3.2 dB", with a minus sign; "–" for what is not defined. */
  function inDecibels(value, digits = 1) {
    if (Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return value > 0 ? "∞ dB" : "−∞ dB";
    return `${(Number(value.toFixed(digits)) + 0).toFixed(digits).replace("-", "−")} dB`;
  }
  const signed = (value, digits = 2) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;

  function dot(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
    return sum;
  }

  /** Solve a symmetric system by Gauss's method with pivots; rows that depend on others give 0. */
  function solve(matrix, right) {
    const n = right.length;
    const rows = matrix.map((row, i) => [...row, right[i]]);
    const scale = Math.max(...rows.map((row, i) => Math.abs(row[i])), 1e-300);
    const pivots = [];
    for (let column = 0, top = 0; column < n; column++) {
      let best = top;
      for (let row = top; row < n; row++) if (Math.abs(rows[row][column]) > Math.abs(rows[best]?.[column] ?? 0)) best = row;
      if (!rows[best] || Math.abs(rows[best][column]) < 1e-12 * scale) continue;
      [rows[top], rows[best]] = [rows[best], rows[top]];
      for (let row = 0; row < n; row++) {
        if (row === top) continue;
        const factor = rows[row][column] / rows[top][column];
        for (let k = column; k <= n; k++) rows[row][k] -= factor * rows[top][k];
      }
      pivots[column] = top++;
    }
    return Array.from({ length: n }, (_, i) => (pivots[i] === undefined ? 0 : rows[pivots[i]][n] / rows[pivots[i]][i]));
  }

  /** The report's scores of an estimate of one of the true sources, all arrays of one length: SDR, SIR
      and SAR in decibels, as sepkit.metrics.report_scores. `gram` may hold the products of the truths
      (`gramOf`), which need not be computed again. */
  function reportScores(estimate, truths, source, gram = gramOf(truths)) {
    const products = truths.map((truth) => dot(truth, estimate));
    const total = dot(estimate, estimate);
    const weights = solve(gram, products);
    const energy = (w) => w.reduce((sum, a, i) => sum + w.reduce((s, b, j) => s + a * b * gram[i][j], 0), 0);
    const own = gram[source][source] ? products[source] / gram[source][source] : NaN;
    const target = own * own * gram[source][source];
    const interference = weights.map((w, i) => (i === source ? w - own : w));
    const span = energy(weights);
    return {
      SDR: decibels(target / Math.max(0, total - target)),
      SIR: decibels(target / energy(interference)),
      SAR: decibels(span / Math.max(0, total - span)),
    };
  }

  const gramOf = (truths) => truths.map((a) => truths.map((b) => dot(a, b)));

  /** Pseudorandom numbers from 0 to 1 that are the same for one seed (mulberry32). */
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** The discrete Fourier transform of real frames of `size` samples, a power of two (radix 2). */
  class Fourier {
    constructor(size) {
      const half = size / 2;
      this.size = size;
      this.cos = Float64Array.from({ length: half }, (_, k) => Math.cos((2 * Math.PI * k) / size));
      this.sin = Float64Array.from({ length: half }, (_, k) => Math.sin((2 * Math.PI * k) / size));
      this.order = new Uint32Array(size); // of the inputs: their bits reversed
      for (let i = 1; i < size; i++) this.order[i] = (this.order[i >> 1] >> 1) | (i & 1 ? half : 0);
    }

    /** Bins 0 to size / 2, as real and imaginary parts. */
    forward(samples) {
      const [re, im] = this.transform((i) => samples[i], () => 0, -1);
      return { re: re.slice(0, this.size / 2 + 1), im: im.slice(0, this.size / 2 + 1) };
    }

    /** The samples of bins 0 to size / 2. */
    inverse({ re, im }) {
      const { size } = this;
      const there = (i) => re[Math.min(i, size - i)];
      const turned = (i) => (i % (size / 2) === 0 ? 0 : i < size / 2 ? im[i] : -im[size - i]);
      return this.transform(there, turned, 1)[0].map((x) => x / size);
    }

    transform(real, imaginary, sign) {
      const { size, cos, sin, order } = this;
      const [re, im] = [new Float64Array(size), new Float64Array(size)];
      for (let i = 0; i < size; i++) {
        re[i] = real(order[i]);
        im[i] = imaginary(order[i]);
      }
      for (let half = 1; half < size; half *= 2) {
        const step = size / (2 * half);
        for (let start = 0; start < size; start += 2 * half) {
          for (let k = 0; k < half; k++) {
            const [a, b] = [start + k, start + k + half];
            const [c, s] = [cos[k * step], sign * sin[k * step]];
            const x = re[b] * c - im[b] * s;
            const y = re[b] * s + im[b] * c;
            re[b] = re[a] - x;
            im[b] = im[a] - y;
            re[a] += x;
            im[a] += y;
          }
        }
      }
      return [re, im];
    }
  }

  /* ---- Pictures ---- */

  /** Colors of the page: text, faint lines, ground, and those of the sources. */
  function theme(element = document.body) {
    const dark = document.documentElement.dataset.theme === "dark";
    const text = getComputedStyle(element).color;
    return { dark, text, faint: dark ? "#555" : "#ccc", ground: dark ? "#121212" : "#fff", ...COLORS };
  }

  /** Colors of a scale from 0 to 1, as [r, g, b] by 256 steps: "magma" or "diverging". */
  let scales = null;
  async function loadScales() {
    if (!scales) {
      const coded = await sepkitEngine.part("colors");
      scales = Object.fromEntries(Object.entries(coded).map(([name, text]) => [name, sepkitEngine.fromBase64(text)]));
    }
    return scales;
  }

  /** A canvas as sharp as the screen, drawn anew when its size or the page's colors change.

      `draw(context, width, height, colors)` draws, in CSS pixels. `ask()` draws before the next frame.
      `label` says what is seen; keep it true by `say(text)`. */
  class Picture {
    constructor({ label, height = 200, draw, interactive = false }) {
      const role = interactive ? { role: "application", tabindex: 0 } : { role: "img" };
      this.canvas = make("canvas", { class: "kit-picture", "aria-label": label, ...role, style: `height: ${height}px` });
      this.draw = draw;
      this.ask = onFrame(() => this.paint());
      new ResizeObserver(this.ask).observe(this.canvas);
      new MutationObserver(this.ask).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    }

    say(text) {
      this.canvas.setAttribute("aria-label", text);
    }

    paint() {
      const { canvas } = this;
      const { clientWidth: width, clientHeight: height } = canvas;
      if (!width) return;
      const ratio = devicePixelRatio || 1;
      if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
      if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, height);
      this.draw(context, width, height, theme(canvas));
    }

    /** Where an event is, in CSS pixels. */
    at(event) {
      const box = this.canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    }
  }

  /** The mel scale, which the book's spectrograms have. */
  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const hertz = (mels) => 700 * (10 ** (mels / 2595) - 1);

  /** A spectrogram's axes: frames along x, bins of 43 Hz along a mel axis up to `highest` [Hz].

      `row(y, height)` is the bin at a height, `y(bin, height)` the other way round. */
  class MelAxis {
    constructor(highest = 16000, n_bins = 513, rate = 44100) {
      Object.assign(this, { top: mel(highest), width: rate / 2 / (n_bins - 1), last: n_bins - 1 });
    }

    bin(y, height) {
      return Math.min(this.last, hertz((1 - y / height) * this.top) / this.width);
    }

    y(bin, height) {
      return (1 - mel(bin * this.width) / this.top) * height;
    }

    /** Labels at some frequencies, on the left, on top of a picture. */
    labels(context, height, colors = { text: "#fff" }) {
      context.font = "11px system-ui, sans-serif";
      context.textBaseline = "middle";
      for (const [f, text] of [[250, "250 Hz"], [1000, "1 kHz"], [4000, "4 kHz"], [10000, "10 kHz"]]) {
        const y = this.y(f / this.width, height);
        context.strokeStyle = "#0008";
        context.lineWidth = 3;
        context.strokeText(text, 4, y);
        context.fillStyle = colors.text;
        context.fillText(text, 4, y);
      }
    }
  }

  /** An image of levels from 0 to 1, rows of frames by bins, on a mel axis: made once, drawn scaled. */
  function melImage(levels, n_frames, n_bins, axis, scale, height = 256) {
    const image = new ImageData(n_frames, height);
    for (let y = 0; y < height; y++) {
      const [low, high] = [axis.bin(y + 1, height), axis.bin(y, height)];
      const [first, last] = [Math.round(low), Math.max(Math.round(low), Math.round(high) - 1)];
      for (let frame = 0; frame < n_frames; frame++) {
        let level = 0;
        for (let bin = first; bin <= last; bin++) level = Math.max(level, levels[frame * n_bins + bin]);
        const color = 3 * Math.round(255 * Math.min(1, Math.max(0, level)));
        image.data.set([scale[color], scale[color + 1], scale[color + 2], 255], 4 * (y * n_frames + frame));
      }
    }
    const canvas = Object.assign(document.createElement("canvas"), { width: n_frames, height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /** Levels for `melImage`: magnitudes in decibels below `reference`, 0 at `dynamic` dB below it. */
  function levelsOf(magnitudes, reference, dynamic = 80) {
    return Float32Array.from(magnitudes, (m) => 1 + (20 * Math.log10(Math.max(m, 1e-5) / reference)) / dynamic);
  }

  /* ---- Sound ---- */

  /** A loop that can change while it sounds: the new sound goes on at the old one's place.

      One sound of a page at a time: players and other loops stop when this one starts. */
  class Loop {
    constructor(rate = 44100) {
      this.rate = rate;
      this.element = toggle("Play", (on) => (on ? this.play() : this.stop()), false, { class: "kit-play" });
      document.addEventListener("sepkit-sound", ({ detail }) => detail === this || this.stop());
    }

    /** Set what sounds: one Float32Array for each channel. */
    set(channels) {
      this.channels = channels;
      if (this.source) this.switch();
    }

    get position() {
      if (!this.source) return this.resting ?? 0;
      const duration = this.channels[0].length / this.rate;
      return (this.offset + Math.max(0, this.context.currentTime - this.when)) % duration;
    }

    async play() {
      if (!this.channels || this.source) return;
      document.dispatchEvent(new CustomEvent("sepkit-sound", { detail: this }));
      this.context ??= new AudioContext({ sampleRate: this.rate });
      await this.context.resume();
      this.element.textContent = "Stop";
      this.element.setAttribute("aria-pressed", true);
      this.switch();
    }

    switch() {
      const { context, channels, rate } = this;
      const offset = this.position;
      const buffer = new AudioBuffer({ length: channels[0].length, numberOfChannels: channels.length, sampleRate: rate });
      channels.forEach((samples, i) => buffer.copyToChannel(samples, i));
      const source = new AudioBufferSourceNode(context, { buffer, loop: true });
      const gain = new GainNode(context, { gain: 0 });
      source.connect(gain).connect(context.destination);
      const now = context.currentTime;
      source.start(now, offset);
      gain.gain.setTargetAtTime(1, now, 0.005);
      this.fade();
      Object.assign(this, { source, gain, offset, when: now });
    }

    fade() {
      if (!this.source) return;
      const now = this.context.currentTime;
      this.gain.gain.setTargetAtTime(0, now, 0.005);
      this.source.stop(now + 0.05);
    }

    stop() {
      if (!this.source) return;
      this.resting = this.position;
      this.fade();
      this.source = null;
      this.element.textContent = "Play";
      this.element.setAttribute("aria-pressed", false);
    }
  }

  /** Decode a part with stems: { rate, notice, stems: a Float32Array by source, mixture }. */
  async function decodeStems(name) {
    const { rate, notice, stems: coded } = await sepkitEngine.part(name);
    const stems = {};
    for (const [source, text] of Object.entries(coded)) {
      const context = new OfflineAudioContext(1, 1, rate);
      const sound = await context.decodeAudioData(sepkitEngine.fromBase64(text).buffer);
      stems[source] = sound.getChannelData(0);
    }
    const mixture = new Float32Array(stems[SOURCES[0]].length);
    for (const samples of Object.values(stems)) for (let i = 0; i < mixture.length; i++) mixture[i] += samples[i];
    return { rate, notice, stems, mixture };
  }

  /** Give a file to the reader. */
  function save(content, name, type) {
    const link = make("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  /** What a reader has done, kept in this browser: an object by name, or `fallback`. */
  const store = {
    get(name, fallback = null) {
      try {
        return JSON.parse(localStorage.getItem(`sepkit-${name}`)) ?? fallback;
      } catch {
        return fallback; // a page that may keep nothing
      }
    },
    set(name, value) {
      try {
        localStorage.setItem(`sepkit-${name}`, JSON.stringify(value));
      } catch {
        // It is then forgotten with the page.
      }
    },
  };

  /* ---- The explorer ---- */

  class Explorer extends HTMLElement {
    connectedCallback() {
      if (document.readyState !== "loading") this.setUp();
      else document.addEventListener("DOMContentLoaded", () => this.setUp(), { once: true });
    }

    setUp() {
      if (this.stage) return;
      const { parts, title } = this.constructor;
      this.classList.add("kit");
      this.setAttribute("role", "group");
      this.setAttribute("aria-label", title);
      this.fallback = [...this.childNodes];
      this.status = make("p", { class: "kit-status", role: "status" });
      this.stage = make("div", { class: "kit-stage" });
      this.prepend(make("p", { class: "kit-title" }, title));
      this.append(this.stage, this.status);
      const megabytes = parts.reduce((sum, name) => sum + (SIZES[name] ?? 0), 0);
      if (megabytes) {
        this.stage.append(button(`Start (loads ${megabytes.toFixed(1)} MB)`, () => this.start(), { class: "kit-start" }));
        return;
      }
      const watcher = new IntersectionObserver(
        (entries) => {
          if (!entries.some((entry) => entry.isIntersecting)) return;
          watcher.disconnect();
          this.start();
        },
        { rootMargin: "300px" },
      );
      watcher.observe(this);
    }

    /** Load what is needed and build; once. Returns a promise that tests can wait for. */
    start() {
      return (this.started ??= this.tryToStart());
    }

    async tryToStart() {
      this.say("Loading …");
      try {
        await Promise.all(this.constructor.parts.map((name) => sepkitEngine.part(name)));
        this.stage.replaceChildren();
        await this.build();
        for (const node of this.fallback) node.remove();
        this.say("");
        this.setAttribute("data-ready", "");
      } catch (error) {
        this.started = null;
        this.say(`This part of the page cannot start: ${error.message}.`);
        throw error;
      }
    }

    say(text) {
      this.status.textContent = text;
    }
  }
  Explorer.parts = [];
  Explorer.title = "Explorer";

  function define(name, element) {
    if (!customElements.get(name)) customElements.define(name, element);
  }

  globalThis.sepkitKit = {
    SOURCES, COLORS, make, button, toggle, slider, choice, Table, onFrame, latest, decibels, inDecibels, signed, dot,
    solve, reportScores, gramOf, random, Fourier, theme, loadScales, Picture, MelAxis, melImage, levelsOf, Loop,
    decodeStems, save, store, Explorer, define,
  };
})();
