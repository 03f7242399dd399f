/* <measures-by-ear>: the true vocals of a song, spoiled by sliders: their sound, the parts of the
   estimate in a picture to be turned, and all scores, with one tap and with 512.

   data-start: the first state in JSON, as FIRST below: levels in decibels, a delay in samples, the
   edge of a low-pass in hertz; null is off. */
(() => {
  "use strict";
  const kit = sepkitKit;
  const { make } = kit;

  const ORDER = ["vocals", "drums", "bass", "other"]; // the scored source first
  const FIRST = { from: "drums", leak: -20, noise: null, delay: 3, lowpass: null, level: 0 };
  const CLEAN = { leak: null, noise: null, delay: 0, lowpass: null, level: 0 };
  const ERRORS = [null, ...Array.from({ length: 51 }, (_, i) => i - 50)]; // [dB]
  const DELAYS = [
    ...[-50, -30, -20, -14, -10, -7, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 10, 14, 20, 30, 50],
    ...[100, 200, 400, 511, 512, 550, 600, 1000],
  ]; // [samples]
  const EDGES = [null, 8000, 4000, 2000, 1000, 500]; // [Hz]
  const VIEWS = { Oblique: [-25, 25], "From above": [0, 90], "From the side": [0, 0] }; // [degrees]
  const PARTS = { estimate: "#7f7f7f", target: "#0072b2", interference: "#cc79a7", artifacts: "#009e73" };
  const HEARD = ["estimate", "true vocals", "mixture", "interference", "artifacts"];

  const TAPS = ["1 tap", "512 taps"];
  const SWATCH = "display: inline-block; width: 1.2em; height: 0.35em; margin: 0 0.4em 0.2em 0";
  const BAR = "display: block; padding-bottom: 3px; background: linear-gradient(#1f73d6, #1f73d6) 0 100% /";
  const GRID =
    "display: grid; gap: 0.25rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr))";
  const SAID =
    "Low-pass and delay act on the voice; leakage and noise are relative to it; the level is that of the whole " +
    "estimate. Sounds play at their true levels; “Match levels” gives each the energy of the true vocals. ";

  const inDecibels = (x) => (x === null ? "none" : kit.inDecibels(x, 0));
  const late = (d) => (d ? `${Math.abs(d)} ${d > 0 ? "late" : "early"}` : "none");
  const SLIDERS = {
    leak: { label: "Leakage", values: ERRORS, show: inDecibels },
    noise: { label: "Noise", values: ERRORS, show: inDecibels },
    delay: { label: "Delay [samples]", values: DELAYS, show: late },
    lowpass: { label: "Low-pass", values: EDGES, show: (f) => (f ? `${f / 1000} kHz` : "none") },
    level: { label: "Level", min: -20, max: 6, step: 1, show: inDecibels },
  };

  const gain = (level) => (level === null ? 0 : 10 ** (level / 20));
  const norm = (x) => Math.sqrt(kit.dot(x, x));
  /** A score as text; above 90 dB it measures rounding. */
  const told = (value) => (value > 90 ? "> 90" : kit.inDecibels(value).replace(" dB", ""));
  /** Angle between an estimate and its target, of which an SDR is the squared cotangent [degrees]. */
  const angle = (sdr) => (Math.atan(10 ** (-sdr / 20)) * 180) / Math.PI;

  /** SI-SDR, with the factor of the truth. */
  function scaleInvariant(estimate, truth, factor) {
    let [target, rest] = [0, 0];
    for (let n = 0; n < truth.length; n++) {
      const scaled = factor * truth[n];
      target += scaled * scaled;
      rest += (estimate[n] - scaled) * (estimate[n] - scaled);
    }
    return kit.decibels(target / rest);
  }

  /* ---- Filters of 512 taps ---- */

  /** A worker that gets the true sources once, and then one estimate after the other.

      Copies of m sources, delayed by 0 to 511 samples, span what filters can make of them. G holds
      the products of the copies, c those with an estimate, both in the order delay * m + source. G
      is factored once: G = L L'. The projection of an estimate has the energy c' G^-1 c, which is
      the sum of squares of L^-1 c. */
  function work(Fourier) {
    const [TAPS, SIZE] = [512, 16384];
    const STEP = SIZE - TAPS + 1; // new samples of a block, behind the last 511 of the one before
    const fourier = new Fourier(SIZE);
    const transform = (re, im, sign) => fourier.transform((i) => re[i], (i) => im[i], sign);
    let blocks, vocals, all; // columns of L, for the vocals alone and for all sources

    /** SIZE samples of a sound from `start` on, the first `skipped` of them 0. */
    function block(sound, start, skipped = 0) {
      const found = new Float64Array(SIZE);
      const from = Math.max(0, start + skipped);
      found.set(sound.subarray(from, start + SIZE), from - start);
      return found;
    }

    /** Products of a sound with the copies of the four sources: c. Sources are transformed two at a
        time, as real and imaginary parts, and so are their products. */
    function correlate(sound) {
      const sums = [0, 1].map(() => [new Float64Array(SIZE), new Float64Array(SIZE)]);
      for (const { start, pairs } of blocks) {
        const [re, im] = transform(block(sound, start, TAPS - 1), new Float64Array(SIZE), -1);
        pairs.forEach(([a, b], pair) => {
          const [x, y] = sums[pair];
          for (let k = 0; k < SIZE; k++) {
            const m = (SIZE - k) % SIZE; // the source backwards in time
            x[k] += re[k] * a[m] - im[k] * b[m];
            y[k] += re[k] * b[m] + im[k] * a[m];
          }
        });
      }
      const products = sums.flatMap(([x, y]) => transform(x, y, 1));
      return Float64Array.from({ length: 4 * TAPS }, (_, i) => products[i % 4][i >> 2] / SIZE);
    }

    function prepare(sources) {
      blocks = [];
      for (let start = 1 - TAPS; start + TAPS <= sources[0].length; start += STEP) {
        const [a, b, c, d] = sources.map((source) => block(source, start));
        blocks.push({ start, pairs: [transform(a, b, -1), transform(c, d, -1)] });
      }
      const products = sources.map(correlate);
      vocals = factorize([ofVocals(products[0])]);
      all = factorize(products);
    }

    /** Of products with all sources those with the first one. */
    const ofVocals = (c) => c.filter((_, i) => i % 4 === 0);

    /** Columns of L, each from the diagonal on, by Schur's method: since G depends on differences of
        delays, its first m columns are enough. The columns of one delay are those of the delay
        before, moved down, and turned so that others, B, which begin as equal, become zero. */
    function factorize(first) {
      const m = first.length;
      const [A, columns] = [[], []];
      for (const [j, column] of first.entries()) {
        const rest = column.map((x, row) => A.reduce((sum, a) => sum - a[j] * a[row], x));
        A.push(rest.map((x) => x / Math.sqrt(rest[j])));
        columns.push(A[j].slice(j));
      }
      const B = A.map((a) => a.map((x, row) => (row < m ? 0 : x)));
      for (let delay = 1; delay < TAPS; delay++) {
        for (const [j, a] of A.entries()) {
          const diagonal = delay * m + j;
          a.copyWithin(m, 0);
          for (const b of B) {
            const turn = b[diagonal] / a[diagonal];
            const scale = Math.sqrt(1 - turn * turn);
            for (let row = diagonal; row < a.length; row++) {
              a[row] = (a[row] - turn * b[row]) / scale;
              b[row] = scale * b[row] - turn * a[row];
            }
          }
          columns.push(a.slice(diagonal));
        }
      }
      return columns;
    }

    /** Energy of a projection: the sum of squares of L^-1 c. */
    function energy(columns, c) {
      let sum = 0;
      const rest = c.slice();
      for (const [j, column] of columns.entries()) {
        const z = rest[j] / column[0];
        for (let row = 0; row < column.length; row++) rest[j + row] -= z * column[row];
        sum += z * z;
      }
      return sum;
    }

    onmessage = ({ data: { sources, estimate } }) => {
      if (sources) return prepare(sources);
      const c = correlate(estimate);
      postMessage({ product: c[0], target: energy(vocals, ofVocals(c)), span: energy(all, c) });
    };
  }

  /** Scores with 512 taps, and those of images, from energies and the product of truth and estimate. */
  function filterScores({ product, target, span }, truth, estimate) {
    const ratio = (part, rest) => kit.decibels(part / Math.max(0, rest));
    const [SIR, SAR] = [ratio(target, span - target), ratio(span, estimate - span)];
    const images = { SDR: ratio(truth, truth - 2 * product + estimate), SIR, SAR };
    images.ISR = ratio(truth, truth - 2 * product + target);
    return { filters: { SDR: ratio(target, estimate - target), SIR, SAR }, images };
  }

  /* ---- The explorer ---- */

  class MeasuresByEar extends kit.Explorer {
    async build() {
      const { stems, mixture, rate, notice } = await kit.decodeStems("falcon-69-stems");
      const truths = ORDER.map((name) => stems[name]);
      const first = { ...FIRST, ...JSON.parse(this.dataset.start ?? "{}") };
      const [gram, random] = [kit.gramOf(truths), kit.random(1)];
      const unit = Math.sqrt(gram[0][0]); // the length of the true vocals
      Object.assign(this, { rate, truths, gram, unit, first, state: { ...first } });
      const noise = mixture.map(() => random() - 0.5);
      const scale = unit / norm(noise);
      this.noise = noise.map((x) => scale * x);
      this.estimate = new Float32Array(mixture.length);
      const code = new Blob([`(${work})(${kit.Fourier})`], { type: "text/javascript" });
      this.worker = new Worker(URL.createObjectURL(code));
      this.worker.postMessage({ sources: truths });
      this.projectLatest = kit.latest(() => this.project());
      this.refresh = kit.onFrame(() => this.compute());
      this.layOut(notice);
      this.compute();
    }

    layOut(notice) {
      const row = (...content) => make("div", { class: "kit-row" }, ...content);
      this.loop = new kit.Loop(this.rate);
      this.heard = HEARD[0];
      const heard = (name) => ({ "aria-pressed": String(name === this.heard) });
      this.sounds = HEARD.map((name) => kit.button(name, () => this.listen(name), heard(name)));
      const matched = kit.toggle("Match levels", (on) => this.listen(this.heard, on));
      const draw = (context, width, ...more) => TAPS.forEach((_, i) => this.draw(i, context, width / 2, ...more));
      this.picture = new kit.Picture({ label: "Parts of the estimate as arrows", interactive: true, draw });
      this.picture.canvas.style.height = "clamp(190px, 25vw, 270px)";
      [this.azimuth, this.elevation] = VIEWS.Oblique;
      this.followHands(this.picture.canvas);
      const views = Object.entries(VIEWS).map(([name, angles]) => kit.button(name, () => this.turn(...angles)));
      const key = Object.entries(PARTS).map(([name, color]) =>
        make("span", {}, make("span", { style: `${SWATCH}; background: ${color}` }), name),
      );
      this.scores = new kit.Table("Scores [dB]; bars end at 40", ["", "SDR", "SIR", "SAR", "ISR"]);
      this.scores.element.open = true;
      const leaking = { drums: "drums", bass: "bass", other: "other" };
      this.from = kit.choice("Leaking source", leaking, this.state.from, (from) => this.set({ from }));
      this.sliders = {};
      for (const [name, options] of Object.entries(SLIDERS)) {
        const act = (value) => this.set({ [name]: value });
        this.sliders[name] = kit.slider({ ...options, value: this.state[name] }, act);
        this.sliders[name].querySelector("input").style.flexBasis = "5rem"; // one line on a phone
      }
      this.softer = make("span");
      this.stage.append(
        row(this.loop.element, ...this.sounds, matched),
        this.picture.canvas,
        row(...key),
        row(...views, make("span", { class: "kit-notice" }, "To turn it: drag, or arrow keys; Home: first view.")),
        this.scores.element,
        make("div", { style: GRID }, this.from, ...Object.values(this.sliders)),
        row(kit.button("No error", () => this.set(CLEAN)), kit.button("Start again", () => this.set(this.first))),
        make("p", { class: "kit-notice" }, SAID, this.softer, notice),
      );
    }

    /** Change some of the state, as the sliders do. */
    set(changes) {
      Object.assign(this.state, changes);
      for (const [name, slider] of Object.entries(this.sliders)) {
        if (slider.value !== this.state[name]) slider.set(this.state[name]);
      }
      this.from.list.value = this.state.from;
      this.refresh();
    }

    /* ---- Sound ---- */

    /** The spoiled vocals: the voice filtered and delayed, with a source and noise, at a level. */
    spoil() {
      const { level, leak, from, noise, delay, lowpass } = this.state;
      const { estimate, truths } = this;
      const [voice, source] = [this.filtered(lowpass), ORDER.indexOf(from)];
      const [other, own] = [truths[source], gain(level)];
      const [leaking, noisy] = [(own * gain(leak) * this.unit) / norm(other), own * gain(noise)];
      for (let n = 0; n < estimate.length; n++) estimate[n] = leaking * other[n] + noisy * this.noise[n];
      const end = Math.min(estimate.length, estimate.length + delay);
      for (let n = Math.max(0, delay); n < end; n++) estimate[n] += own * voice[n - delay];
    }

    /** The voice through Butterworth's low-pass of second order; the last one is kept. */
    filtered(edge) {
      if (edge === null) return this.truths[0];
      if (this.kept?.edge === edge) return this.kept.voice;
      const k = Math.tan((Math.PI * edge) / this.rate);
      const scale = 1 / (1 + Math.SQRT2 * k + k * k);
      const [b, a1, a2] = [k * k * scale, 2 * (k * k - 1) * scale, (1 - Math.SQRT2 * k + k * k) * scale];
      let [x1, x2, y1, y2] = [0, 0, 0, 0];
      const voice = this.truths[0].map((x) => {
        const y = b * (x + 2 * x1 + x2) - a1 * y1 - a2 * y2;
        [x2, x1, y2, y1] = [x1, x, y1, y];
        return y;
      });
      this.kept = { edge, voice };
      return voice;
    }

    listen(name, matched = this.matched) {
      Object.assign(this, { heard: name, matched });
      for (const button of this.sounds) button.setAttribute("aria-pressed", button.textContent === name);
      this.sound();
    }

    /** Give the loop what is heard: with one tap, a sum of the estimate and the true sources. */
    sound() {
      clearTimeout(this.soon);
      this.soon = null;
      const { estimate, truths, gram, own } = this;
      const weights = () => kit.solve(gram, truths.map((truth) => kit.dot(truth, estimate)));
      const sums = {
        "estimate": () => [1, 0, 0, 0, 0],
        "true vocals": () => [0, 1, 0, 0, 0],
        "mixture": () => [0, 1, 1, 1, 1],
        "interference": () => [0, ...weights().map((w, i) => (i ? w : w - own))],
        "artifacts": () => [1, ...weights().map((w) => -w)],
      };
      const [e, p, q, r, s] = sums[this.heard]();
      const [a, b, c, d] = truths;
      const sound = new Float32Array(estimate.length);
      let [energy, peak] = [0, 0];
      for (let n = 0; n < sound.length; n++) {
        sound[n] = e * estimate[n] + p * a[n] + q * b[n] + r * c[n] + s * d[n];
        energy += sound[n] * sound[n];
        peak = Math.max(peak, Math.abs(sound[n]));
      }
      const level = Math.sqrt(energy) / this.unit;
      let factor = this.matched && level > 1e-4 ? 1 / level : 1;
      const over = 20 * Math.log10(factor * peak); // full scale [dB]
      this.softer.textContent = over > 0 ? `Played ${kit.inDecibels(over)} softer, so that it does not clip. ` : "";
      if (over > 0) factor = 1 / peak;
      if (factor !== 1) for (let n = 0; n < sound.length; n++) sound[n] *= factor;
      this.loop.set([sound]);
    }

    /* ---- Scores ---- */

    /** All but the filters, which follow from the worker. */
    compute() {
      this.spoil();
      const { estimate, truths, gram } = this;
      this.own = kit.dot(truths[0], estimate) / gram[0][0];
      this.one = kit.reportScores(estimate, truths, 0, gram);
      this.scaled = { SDR: scaleInvariant(estimate, truths[0], this.own) };
      this.size = norm(estimate) / this.unit;
      this.version = (this.version ?? 0) + 1;
      this.show();
      this.soon ??= setTimeout(() => this.sound(), 60); // not for every frame of a drag
      this.projectLatest();
    }

    async project() {
      const { version, unit, size } = this;
      const answer = new Promise((resolve) => (this.worker.onmessage = resolve));
      this.worker.postMessage({ estimate: this.estimate });
      const { data } = await answer;
      this.many = { version, ...filterScores(data, unit ** 2, (unit * size) ** 2) };
      this.show();
    }

    show() {
      const { one, scaled, many } = this;
      const waits = many?.version !== this.version;
      const rows = { "1 tap": one, "SI-SDR": scaled, "512 taps": many?.filters, images: many?.images };
      const cell = (value) => {
        if (value === undefined) return "";
        const bar = `${BAR} ${Math.max(0, Math.min(100, 2.5 * value))}% 3px no-repeat`;
        return make("span", { style: bar }, told(value));
      };
      this.scores.fill(
        Object.entries(rows).map(([name, scores], i) => [
          `${name}${i > 1 && waits ? " …" : ""}`,
          ...["SDR", "SIR", "SAR", "ISR"].map((score) => cell(scores?.[score])),
        ]),
      );
      this.picture.ask();
      clearTimeout(this.timer);
      if (!waits) this.timer = setTimeout(() => this.tell(), 500);
    }

    /** For those who cannot see it, once nothing changes. */
    tell() {
      const { one, many } = this;
      this.say(`SDR with 1 tap ${kit.inDecibels(one.SDR)}, with 512 taps ${kit.inDecibels(many.filters.SDR)}.`);
      const texts = [one, many.filters].map((scores, i) => {
        const parts = Object.entries(this.lengths(scores)).map(([part, length]) => `${part} ${length.toFixed(2)}`);
        return `${TAPS[i]}: ${parts.join(", ")}, angle to the target ${angle(scores.SDR).toFixed(0)}°`;
      });
      const said = "Parts of the estimate as arrows; arrow keys turn them. Lengths, true vocals 1.";
      this.picture.say(`${said} ${texts.join(". ")}.`);
    }

    /* ---- The picture ---- */

    /** Lengths of the parts of the estimate, that of the true vocals being 1. */
    lengths({ SDR, SIR }) {
      const target = this.size * Math.cos((angle(SDR) * Math.PI) / 180);
      const interference = target * 10 ** (-SIR / 20);
      const artifacts = Math.sqrt(Math.max(0, this.size ** 2 - target ** 2 - interference ** 2));
      return { target, interference, artifacts };
    }

    draw(i, context, width, height, colors) {
      const scores = i ? this.many?.filters : this.one;
      context.font = "13px system-ui, sans-serif";
      context.fillStyle = colors.text;
      const said = scores ? `${kit.inDecibels(scores.SDR)}, ${angle(scores.SDR).toFixed(0)}°` : "…";
      context.fillText(`${TAPS[i]}: ${said}`, i * width + 4, 14);
      if (!scores) return;
      const { target, interference, artifacts } = this.lengths(scores);
      const along = i || this.own > 0 ? target : -target;
      const span = Math.max(1, this.size);
      const scale = Math.min(0.6 * width, 0.72 * height) / span;
      const [a, e] = [this.azimuth, this.elevation].map((degrees) => (degrees * Math.PI) / 180);
      const turned = (x, y, z) => [
        x * Math.cos(a) - y * Math.sin(a),
        -z * Math.cos(e) - (x * Math.sin(a) + y * Math.cos(a)) * Math.sin(e),
      ];
      const middle = turned(0.5, 0.15, 0.27 * span);
      const center = [(i + 0.5) * width, 0.6 * height];
      const place = (...point) => turned(...point).map((x, k) => (x - middle[k]) * scale + center[k]);
      const line = (points, color, thick, dashes = []) => {
        context.beginPath();
        for (const point of points) context.lineTo(...point);
        Object.assign(context, { strokeStyle: color, fillStyle: color, lineWidth: thick });
        context.setLineDash(dashes);
        context.stroke();
        context.setLineDash([]);
      };
      const arrow = (from, to, color) => {
        line([from, to], color, 2.5);
        const way = Math.atan2(to[1] - from[1], to[0] - from[0]);
        const barb = (turn) => [to[0] - 9 * Math.cos(way + turn), to[1] - 9 * Math.sin(way + turn)];
        line([barb(0.4), to, barb(-0.4)], color, 2.5);
      };
      const plane = [[-0.15, -0.3], [1.15, -0.3], [1.15, 0.6], [-0.15, 0.6]];
      line(plane.map(([x, y]) => place(x, y, 0)), "#7f7f7f30", 0.1);
      context.fill();
      const [zero, foot] = [place(0, 0, 0), place(along, 0, 0)];
      const [floor, tip] = [0, artifacts].map((up) => place(along, interference, up));
      line([zero, foot], `${PARTS.target}80`, 6);
      line([foot, floor], PARTS.interference, 4, [4, 3]);
      line([floor, tip], PARTS.artifacts, 4, [4, 3]);
      arrow(zero, i ? foot : place(1, 0, 0), PARTS.target);
      arrow(zero, tip, PARTS.estimate);
      context.fillStyle = colors.text;
      context.textAlign = "center";
      Object.assign(context, { strokeStyle: colors.ground, lineWidth: 3 });
      const [x, y] = place(0.5, 0, 0);
      const name = i ? "filtered vocals" : "true vocals";
      context.strokeText(name, x, y + 24);
      context.fillText(name, x, y + 24);
      context.textAlign = "start";
    }

    turn(azimuth, elevation) {
      Object.assign(this, { azimuth, elevation: Math.min(90, Math.max(0, elevation)) });
      this.picture.ask();
    }

    followHands(canvas) {
      const by = (x, y) => this.turn(this.azimuth + x, this.elevation + y);
      const keys = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, -5], ArrowDown: [0, 5] };
      canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
      canvas.addEventListener("pointermove", (event) => {
        if (canvas.hasPointerCapture(event.pointerId)) by(event.movementX / 2, event.movementY / 2);
      });
      canvas.addEventListener("keydown", (event) => {
        if (event.key === "Home") this.turn(...VIEWS.Oblique);
        else if (keys[event.key]) by(...keys[event.key]);
        else return;
        event.preventDefault();
      });
    }
  }
  MeasuresByEar.parts = ["falcon-69-stems"];
  MeasuresByEar.title = "The vocals of Falcon 69, spoiled";
  kit.define("measures-by-ear", MeasuresByEar);
})();
