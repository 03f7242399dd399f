/* A training you can watch: a small network of two sources, trained in a worker of the page.

   `makeTraining` is all that the worker knows: songs composed from seeds, the STFT, the network with
   its backward pass, the optimizers. It uses nothing from outside, since its text becomes the worker. */
(() => {
  "use strict";
  const { make, button, toggle, slider, choice, Table, Picture, Loop, inDecibels } = sepkitKit;

  function makeTraining(random) {
    const [RATE, SIZE, HOP, FRAMES] = [16000, 1024, 256, 240];
    const [BINS, EDGE] = [SIZE / 2 + 1, SIZE - HOP];
    const LENGTH = FRAMES * HOP - EDGE; // 3.8 s
    const [BANDS, CONTEXT, FILTERS, SHARED] = [64, 10, 12, 24];
    const BATCH = FRAMES / CONTEXT; // contexts: as many as a song has
    const WINDOW = Float64Array.from({ length: SIZE }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / SIZE));

    /* ---- Songs ---- */

    /** A line of notes, and drums: each seed has another key, timbre, rhythm and drum kit. */
    function compose(seed) {
      const next = random(seed);
      const [line, drums] = [new Float64Array(LENGTH), new Float64Array(LENGTH)];
      const root = 110 * 2 ** (1.5 * next()); // [Hz]
      const step = Math.round(RATE * (0.14 + 0.1 * next())); // samples from note to note
      const [bright, fall, even] = [0.55 + 0.3 * next(), 1 + 5 * next(), next() < 0.4 ? 0.15 : 1];
      const [deep, dull, ring] = [50 + 30 * next(), 0.6 + 0.3 * next(), 8 + 30 * next()];
      for (let start = 0, i = 0; start < LENGTH; start += step, i++) {
        const frequency = root * 2 ** ([0, 3, 5, 7, 10, 12][Math.floor(6 * next())] / 12);
        const [rests, hit, kick] = [next() < 0.2, next(), i % 4 === 0];
        const noise = i % 4 === 2 ? 0.9 : hit < 0.6 ? 0.3 : 0;
        const level = 1.5 * noise * Math.sqrt((1 + dull) / (1 - dull));
        const overtones = Math.min(16, Math.floor(RATE / 2 / frequency));
        for (let n = 0, last = 0; n < 2 * step && start + n < LENGTH; n++) {
          const t = n / RATE;
          const edge = Math.min(1, n / 80) * Math.min(1, Math.max(0, step - n) / 400);
          for (let h = 1; !rests && edge > 0 && h <= overtones; h++) {
            const strength = bright ** (h - 1) * (h % 2 ? 1 : even);
            line[start + n] += edge * Math.exp(-fall * t) * strength * Math.sin(2 * Math.PI * h * frequency * t);
          }
          const turns = deep * t - 2 * Math.exp(-30 * t);
          if (kick) drums[start + n] += 0.6 * Math.exp(-14 * t) * Math.sin(2 * Math.PI * turns);
          if (!noise) continue;
          last = dull * last + (1 - dull) * (2 * next() - 1);
          drums[start + n] += level * Math.exp(-ring * t) * last;
        }
      }
      return [line, drums].map((sound) => {
        const loudness = Math.sqrt(sound.reduce((sum, x) => sum + x * x, 0) / LENGTH);
        return sound.map((x) => (0.1 * x) / loudness);
      });
    }

    /** The Fourier transform of a frame in place, by halves. */
    const COS = Float64Array.from({ length: SIZE / 2 }, (_, k) => Math.cos((2 * Math.PI * k) / SIZE));
    const SIN = Float64Array.from({ length: SIZE / 2 }, (_, k) => -Math.sin((2 * Math.PI * k) / SIZE));
    function transform(re, im) {
      for (let i = 1, j = 0; i < SIZE; i++) {
        let bit = SIZE >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
      }
      for (let half = 1; half < SIZE; half *= 2) {
        for (let k = 0; k < half; k++) {
          const c = COS[(k * SIZE) / (2 * half)];
          const s = SIN[(k * SIZE) / (2 * half)];
          for (let a = k; a < SIZE; a += 2 * half) {
            const b = a + half;
            const x = c * re[b] - s * im[b];
            const y = c * im[b] + s * re[b];
            re[b] = re[a] - x;
            im[b] = im[a] - y;
            re[a] += x;
            im[a] += y;
          }
        }
      }
    }

    /** The STFT of a sound, as sepkit.stft.stft: frame m starts at sample 256 m - 768. */
    function stft(sound) {
      const spectra = { re: new Float32Array(FRAMES * BINS), im: new Float32Array(FRAMES * BINS) };
      const [re, im] = [new Float64Array(SIZE), new Float64Array(SIZE)];
      for (let m = 0; m < FRAMES; m++) {
        for (let n = 0; n < SIZE; n++) re[n] = WINDOW[n] * (sound[HOP * m - EDGE + n] ?? 0);
        im.fill(0);
        transform(re, im);
        spectra.re.set(re.subarray(0, BINS), m * BINS);
        spectra.im.set(im.subarray(0, BINS), m * BINS);
      }
      return spectra;
    }

    /** The inverse of `stft`, of a spectrum times a mask. */
    function istft(spectra, mask) {
      const sound = new Float32Array(LENGTH);
      const [re, im] = [new Float64Array(SIZE), new Float64Array(SIZE)];
      for (let m = 0; m < FRAMES; m++) {
        for (let k = 0; k < BINS; k++) {
          const i = m * BINS + k;
          [re[k], im[k]] = [mask[i] * spectra.re[i], -mask[i] * spectra.im[i]];
          if (k) [re[SIZE - k], im[SIZE - k]] = [re[k], -im[k]];
        }
        transform(re, im);
        for (let n = 0, at = HOP * m - EDGE; n < SIZE; n++, at++)
          if (at >= 0 && at < LENGTH) sound[at] += (re[n] * WINDOW[n]) / (1.5 * SIZE);
      }
      return sound;
    }

    /** Where a bin lies between bands, which are evenly spaced in mel: band and share of the next. */
    const mel = (f) => 2595 * Math.log10(1 + f / 700);
    const PLACE = Float64Array.from({ length: BINS }, (_, k) => ((BANDS - 1) * mel((k * RATE) / SIZE)) / mel(RATE / 2));
    const BAND = Int32Array.from(PLACE, (place) => Math.min(BANDS - 2, place));
    const SHARE = PLACE.map((place, k) => place - BAND[k]);

    /** Magnitudes by band of a line, of drums that begin `shift` frames later, and of their mixture.
        They are divided by 16, which brings the loss to the order of the report's. */
    function mix([a, b], frames = FRAMES, gains = [1, 1], shift = 0) {
      const [x, line, drums] = [0, 1, 2].map(() => new Float64Array(frames * BANDS));
      const add = (bands, at, k, value) => {
        bands[at] += (1 - SHARE[k]) * value;
        bands[at + 1] += SHARE[k] * value;
      };
      for (let m = 0; m < frames; m++) {
        for (let k = 0; k < BINS; k++) {
          const i = m * BINS + k;
          const j = ((m + shift) % frames) * BINS + k;
          const at = m * BANDS + BAND[k];
          const [re_a, im_a, re_b, im_b] = [gains[0] * a.re[i], gains[0] * a.im[i], gains[1] * b.re[j], gains[1] * b.im[j]];
          const [re, im] = [re_a + re_b, im_a + im_b];
          add(x, at, k, Math.sqrt(re * re + im * im) / 16);
          add(line, at, k, Math.sqrt(re_a * re_a + im_a * im_a) / 16);
          add(drums, at, k, Math.sqrt(re_b * re_b + im_b * im_b) / 16);
        }
      }
      return { x, truth: [line, drums] };
    }

    const songs = new Map();
    /** The song of a seed: sounds, spectra, and magnitudes by band. */
    function song(seed) {
      if (!songs.has(seed)) {
        const sounds = compose(seed);
        const spectra = sounds.map(stft);
        songs.set(seed, { sounds, spectra, bands: mix(spectra) });
      }
      return songs.get(seed);
    }
    const HELD = [101, 102, 103, 104]; // seeds of the songs on which no network is trained

    /** What a network is trained on: some songs, or the first second of one (6 contexts). */
    function material(amount) {
      const frames = Math.round(Math.min(1, amount) * BATCH) * CONTEXT;
      const cut = (values) => values.subarray(0, frames * BANDS);
      return Array.from({ length: Math.ceil(amount) }, (_, i) => {
        const { spectra, bands } = song(i + 1);
        return { spectra, frames, bands: { x: cut(bands.x), truth: bands.truth.map(cut) } };
      });
    }

    /* ---- The network ---- */

    /** Its arrays: timbre filters, bottleneck, and for each source a dense layer and spectra. */
    const SHAPES = {
      V: [BANDS, FILTERS], W: [CONTEXT * FILTERS, SHARED],
      D0: [SHARED, CONTEXT * FILTERS], U0: [FILTERS, BANDS], D1: [SHARED, CONTEXT * FILTERS], U1: [FILTERS, BANDS],
    };
    const COUNT = Object.values(SHAPES).reduce((sum, [n, m]) => sum + (n + 1) * m, 0);

    /** Views of a flat array of all parameters: by name, with biases as bV and so on. */
    function views(flat) {
      let at = 0;
      const cut = (length) => flat.subarray(at, (at += length));
      return Object.fromEntries(Object.entries(SHAPES).flatMap(([name, [n, m]]) => [[name, cut(n * m)], [`b${name}`, cut(m)]]));
    }

    /** Random weights, as Keras begins with (Glorot and Bengio), and biases of 0. */
    function newWeights(next) {
      const flat = new Float64Array(COUNT);
      const parameters = views(flat);
      for (const [name, [n, m]] of Object.entries(SHAPES)) {
        const bound = Math.sqrt(6 / (n + m));
        for (let i = 0; i < n * m; i++) parameters[name][i] = bound * (2 * next() - 1);
      }
      return flat;
    }

    /** Forward pass of a dense layer: input times W, plus b, for each row. */
    function dense(input, W, b) {
      const m = b.length;
      const n = W.length / m;
      const rows = input.length / n;
      const output = new Float64Array(rows * m);
      for (let r = 0; r < rows; r++) {
        const row = output.subarray(r * m, r * m + m);
        row.set(b);
        for (let i = 0; i < n; i++) {
          const value = input[r * n + i];
          if (value !== 0) for (let j = 0, at = i * m; j < m; j++, at++) row[j] += value * W[at];
        }
      }
      return output;
    }

    /** Its backward pass: adds to the derivatives by W and b, returns those by the input. */
    function denseBackward(input, W, d_output, d_W, d_b, d_input) {
      const m = d_b.length;
      const n = W.length / m;
      for (let r = 0; r < input.length / n; r++) {
        const d_row = d_output.subarray(r * m, r * m + m);
        for (let j = 0; j < m; j++) d_b[j] += d_row[j];
        for (let i = 0; i < n; i++) {
          const value = input[r * n + i];
          let sum = 0;
          for (let j = 0, at = i * m; j < m; j++, at++) {
            d_W[at] += value * d_row[j];
            sum += W[at] * d_row[j];
          }
          if (d_input) d_input[r * n + i] += sum;
        }
      }
    }

    const relu = (v) => v.map((value) => Math.max(0, value));
    const TINY = 1e-18;

    /** Forward pass for contexts one after the other: all layers, and the mask of the line. */
    function forward(p, x) {
      const T = dense(x, p.V, p.bV);
      const h = relu(dense(T, p.W, p.bW));
      const P = [relu(dense(h, p.D0, p.bD0)), relu(dense(h, p.D1, p.bD1))];
      const o = [dense(P[0], p.U0, p.bU0), dense(P[1], p.U1, p.bU1)];
      const mask = o[0].map((value, i) => {
        const total = Math.abs(value) + Math.abs(o[1][i]);
        return total > TINY ? Math.abs(value) / total : 0.5;
      });
      return { T, h, P, o, mask };
    }

    /** Loss of a batch, for each context: squared errors, less alpha times the distance of estimates. */
    function lossOf(mask, { x, truth }, alpha) {
      let [error, apart] = [0, 0];
      for (let i = 0; i < x.length; i++) {
        const [a, b] = [mask[i] * x[i], (1 - mask[i]) * x[i]];
        error += (a - truth[0][i]) ** 2 + (b - truth[1][i]) ** 2;
        apart += (a - b) ** 2;
      }
      return ((error - alpha * apart) * CONTEXT * BANDS) / x.length;
    }

    /** Backward pass: the derivatives of the loss by all parameters, in one flat array. */
    function gradientOf(p, batch, alpha) {
      const { x, truth } = batch;
      const { T, h, P, o, mask } = forward(p, x);
      const flat = new Float64Array(COUNT);
      const d = views(flat);
      const d_o = [new Float64Array(x.length), new Float64Array(x.length)];
      for (let i = 0; i < x.length; i++) {
        const total = Math.abs(o[0][i]) + Math.abs(o[1][i]);
        if (!(total > TINY)) continue;
        const [a, b] = [mask[i] * x[i], (1 - mask[i]) * x[i]];
        const d_a = 2 * (a - truth[0][i]) - 2 * alpha * (a - b);
        const d_b = 2 * (b - truth[1][i]) + 2 * alpha * (a - b);
        const d_mask = ((d_a - d_b) * x[i] * CONTEXT * BANDS) / x.length;
        d_o[0][i] = ((d_mask * (1 - mask[i])) / total) * Math.sign(o[0][i]);
        d_o[1][i] = ((-d_mask * mask[i]) / total) * Math.sign(o[1][i]);
      }
      const d_h = new Float64Array(h.length);
      for (const s of [0, 1]) {
        const d_P = new Float64Array(P[s].length);
        denseBackward(P[s], p[`U${s}`], d_o[s], d[`U${s}`], d[`bU${s}`], d_P);
        for (let i = 0; i < d_P.length; i++) if (P[s][i] <= 0) d_P[i] = 0;
        denseBackward(h, p[`D${s}`], d_P, d[`D${s}`], d[`bD${s}`], d_h);
      }
      for (let i = 0; i < d_h.length; i++) if (h[i] <= 0) d_h[i] = 0;
      const d_T = new Float64Array(T.length);
      denseBackward(T, p.W, d_h, d.W, d.bW, d_T);
      denseBackward(x, p.V, d_T, d.V, d.bV);
      return flat;
    }

    /* ---- Optimizers ---- */

    /** Change all parameters by one step, with the running means of `state`, as Keras does. */
    function update(weights, g, state, { optimizer, rate, epsilon }) {
      const one = (state.one ??= new Float64Array(g.length));
      const two = (state.two ??= new Float64Array(g.length));
      const t = (state.t = (state.t ?? 0) + 1);
      const corrected = (rate * Math.sqrt(1 - 0.999 ** t)) / (1 - 0.9 ** t);
      for (let i = 0; i < g.length; i++) {
        let change = rate * g[i];
        if (optimizer === "Adadelta") {
          one[i] = 0.95 * one[i] + 0.05 * g[i] * g[i]; // E_g
          const step = (Math.sqrt(two[i] + epsilon) / Math.sqrt(one[i] + epsilon)) * g[i];
          two[i] = 0.95 * two[i] + 0.05 * step * step; // E_Δ
          change = rate * step;
        } else if (optimizer === "Adam") {
          one[i] = 0.9 * one[i] + 0.1 * g[i];
          two[i] = 0.999 * two[i] + 0.001 * g[i] * g[i];
          change = (corrected * one[i]) / (Math.sqrt(two[i]) + epsilon);
        }
        weights[i] -= change;
      }
    }

    /* ---- A training ---- */

    /** Squared error of a mask as a fraction of the sources' energy: a pair of sums. */
    function errorOf(maskAt, { x, truth }) {
      let [error, energy] = [0, 0];
      for (let i = 0; i < x.length; i++) {
        const a = maskAt(i) * x[i] - truth[0][i];
        const b = (1 - maskAt(i)) * x[i] - truth[1][i];
        error += a * a + b * b;
        energy += truth[0][i] * truth[0][i] + truth[1][i] * truth[1][i];
      }
      return [error, energy];
    }
    const meanError = (pairs) => pairs.reduce((sum, [e]) => sum + e, 0) / pairs.reduce((sum, [, e]) => sum + e, 0);

    /** Validation error of the fixed filter that is best for the songs trained on: a mask by band. */
    function fixedFilter(amount) {
      const [above, below] = [new Float64Array(BANDS), new Float64Array(BANDS)];
      for (const { bands: { x, truth } } of material(amount)) {
        for (let i = 0; i < x.length; i++) {
          above[i % BANDS] += x[i] * (truth[0][i] - truth[1][i] + x[i]);
          below[i % BANDS] += 2 * x[i] * x[i];
        }
      }
      const mask = above.map((value, k) => Math.min(1, Math.max(0, value / below[k])));
      return meanError(HELD.map((seed) => errorOf((i) => mask[i % BANDS], song(seed).bands)));
    }

    class Training {
      constructor(seed) {
        this.next = random(seed);
        this.weights = newWeights(this.next);
        this.parameters = views(this.weights);
        Object.assign(this, { state: {}, queue: [], steps: 0 });
      }

      shuffled(list) {
        for (let i = list.length - 1; i > 0; i--) {
          const j = Math.floor((i + 1) * this.next());
          [list[i], list[j]] = [list[j], list[i]];
        }
        return list;
      }

      /** The batches of an epoch: all contexts in a random order, of songs mixed anew on request. */
      epoch({ amount, augment }) {
        const set = material(amount);
        const partners = augment ? this.shuffled(set.map((_, i) => i)) : [];
        const mixed = set.map(({ spectra, bands, frames }, i) => {
          if (!augment) return bands;
          const gains = [0, 1].map(() => 10 ** (0.6 * this.next() - 0.3)); // -6 to 6 dB
          return mix([spectra[0], set[partners[i]].spectra[1]], frames, gains, Math.floor(frames * this.next()));
        });
        const size = CONTEXT * BANDS;
        const contexts = mixed.flatMap((bands) => Array.from({ length: bands.x.length / size }, (_, i) => [bands, i * size]));
        this.shuffled(contexts);
        const gather = (chosen, of) => {
          const rows = new Float64Array(chosen.length * size);
          chosen.forEach(([bands, at], r) => rows.set(of(bands).subarray(at, at + size), r * size));
          return rows;
        };
        for (let i = 0; i < contexts.length; i += BATCH) {
          const chosen = contexts.slice(i, i + BATCH);
          const truth = [0, 1].map((s) => gather(chosen, (bands) => bands.truth[s]));
          this.queue.push({ x: gather(chosen, (bands) => bands.x), truth });
        }
      }

      step(settings) {
        if (settings.optimizer !== this.optimizer) this.state = {};
        this.optimizer = settings.optimizer;
        if (!this.queue.length) this.epoch(settings);
        const gradient = gradientOf(this.parameters, this.queue.shift(), settings.alpha);
        update(this.weights, gradient, this.state, settings);
        this.steps++;
      }

      /** Step, error on the songs trained on, and on those held out. */
      point({ amount }) {
        const error = (sets) =>
          meanError(sets.map((bands) => {
            const { mask } = forward(this.parameters, bands.x);
            return errorOf((i) => mask[i], bands);
          }));
        return [this.steps, error(material(amount).map(({ bands }) => bands)), error(HELD.map((seed) => song(seed).bands))];
      }

      /** Masks of the first held-out song, averaged over contexts 5 frames apart, and its line. */
      example() {
        const { spectra, bands } = song(HELD[0]);
        const size = CONTEXT * BANDS;
        const starts = Array.from({ length: (FRAMES - CONTEXT) / 5 + 1 }, (_, i) => 5 * i * BANDS);
        const rows = new Float64Array(starts.length * size);
        starts.forEach((at, r) => rows.set(bands.x.subarray(at, at + size), r * size));
        const found = forward(this.parameters, rows).mask;
        const [mask, count] = [new Float32Array(FRAMES * BANDS), new Float32Array(FRAMES * BANDS)];
        starts.forEach((at, r) => {
          for (let i = 0; i < size; i++) {
            mask[at + i] += found[r * size + i];
            count[at + i]++;
          }
        });
        mask.forEach((sum, i) => (mask[i] = sum / count[i]));
        const fine = new Float32Array(FRAMES * BINS);
        for (let i = 0; i < fine.length; i++) {
          const k = i % BINS;
          const at = ((i - k) / BINS) * BANDS + BAND[k];
          fine[i] = (1 - SHARE[k]) * mask[at] + SHARE[k] * mask[at + 1];
        }
        const [a, b] = spectra;
        const mixed = { re: a.re.map((re, i) => re + b.re[i]), im: a.im.map((im, i) => im + b.im[i]) };
        return { mask, line: istft(mixed, fine), weights: Float32Array.from(this.weights) };
      }
    }
    return {
      RATE, FRAMES, BANDS, FILTERS, BATCH, HELD, compose, song, material, mix, views, newWeights, forward, lossOf, gradientOf,
      update, fixedFilter, Training,
    };
  }

  /** The worker: it trains up to a number of steps, and tells of every tenth. */
  function serve({ Training, RATE, HELD, song, material, fixedFilter }) {
    let [settings, goal, training, told, timer] = [{}, 0, null, 0, 0];
    const tell = (more) => postMessage({ run: settings.run, steps: training.steps, ...more });
    const work = () => {
      timer = 0;
      const until = performance.now() + 25;
      const points = [];
      while (training.steps < goal && performance.now() < until) {
        training.step(settings);
        if (training.steps % 10 === 0 || training.steps === goal) points.push(training.point(settings));
      }
      const arrived = training.steps >= goal;
      const now = performance.now();
      const due = arrived || now - told > 1000; // a sound every second
      if (due) told = now;
      tell({ points, arrived, ...(due && { example: training.example() }) });
      if (!arrived) timer = setTimeout(work);
    };
    onmessage = ({ data: { goal: wanted, ...more } }) => {
      const before = settings;
      settings = { ...settings, ...more };
      if (settings.seed !== before.seed || settings.run !== before.run) {
        for (const seed of HELD) song(seed);
        material(settings.amount);
        training = new Training(settings.seed);
        const { sounds, bands } = song(HELD[0]);
        if (before.run === undefined) tell({ truth: { sounds: sounds.map((sound) => Float32Array.from(sound)), bands, rate: RATE } });
        tell({ points: [training.point(settings)], arrived: training.steps >= wanted, example: training.example() });
      }
      if (settings.amount !== before.amount) tell({ filter: fixedFilter(settings.amount) });
      goal = wanted;
      if (training.steps < goal) timer ||= setTimeout(work);
    };
  }

  const AMOUNTS = { 0.25: "1 s of one song", 1: "1 song (3.8 s)", 2: "2 songs", 4: "4 songs", 8: "8 songs" };
  const OPTIMIZERS = Object.fromEntries(["Gradient descent", "Adadelta", "Adam"].map((name) => [name, name]));
  const HEARD = ["mixture", "line now", "true line", "drums now", "true drums"];
  const [FIRST, LIMIT] = [200, 5000]; // steps: those of the first state, and of the longest training
  const powers = (from, to) => Array.from({ length: 2 * (to - from) + 1 }, (_, i) => Number(`${i % 2 ? 3 : 1}e${from + Math.floor(i / 2)}`));
  const short = (x) => (x >= 0.001 && x < 1000 ? String(x) : x.toExponential(0).replace("e-", "e−").replace("e+", "e"));
  const LEAST = 0.015; // the lowest error on the axis
  const [BLUE, ORANGE] = ["#0072b2", "#d55e00"];

  class WatchTraining extends sepkitKit.Explorer {
    static title = "A training in the page";
    static parts = ["colors"];

    async build() {
      this.scales = await sepkitKit.loadScales();
      this.core = makeTraining(sepkitKit.random);
      this.settings = { optimizer: "Adadelta", rate: 0.01, epsilon: 1, alpha: 0, amount: 8, augment: false, seed: 1, run: 0 };
      const set = (name, number = true) => (value) => {
        this.settings[name] = number ? Number(value) : value;
        epsilon.querySelector("input").disabled = this.settings.optimizer === "Gradient descent";
        if (this.points.length && this.marks.at(-1) !== this.steps) this.marks.push(this.steps);
        this.send();
        this.curves.ask();
      };
      const { rate, alpha, amount, optimizer } = this.settings;
      const row = (...content) => make("div", { class: "kit-row" }, ...content);
      this.starter = toggle("Train", (on) => this.train(on), false, { class: "kit-play" });
      this.reset = button("Start again", () => this.again());
      const seed = button("Start again with another seed", () => {
        this.settings.seed++;
        this.again();
      });
      const one = button("One step", () => this.train(false, this.steps + 1));
      const epsilon = slider({ label: "ε", values: powers(-8, 0), value: this.settings.epsilon, show: short }, set("epsilon"));
      const alphas = { 0: "squared error", 0.001: "with α = 0.001, as the report", 0.1: "with α = 0.1", 0.4: "with α = 0.4" };
      this.curves = new Picture({ label: "Errors", height: 260, draw: (...on) => this.drawCurves(...on) });
      this.numbers = make("p", { class: "kit-scores" });
      this.held = new Picture({ label: "Held-out song", height: 260, draw: (...on) => this.drawHeld(...on) });
      this.filters = new Picture({ label: "Timbre filters, and the spectra of both decoders, by band", height: 150, draw: (...on) => this.drawFilters(...on) });
      this.loop = new Loop(this.core.RATE);
      this.heard = "line now";
      const sounds = HEARD.map((name) => button(name, () => this.hear(name), { "aria-pressed": name === this.heard }));
      this.sounds = make("div", { class: "kit-row", role: "group", "aria-label": "What the loop plays" }, this.loop.element, ...sounds);
      this.scores = new Table("Scores of the held-out song as numbers", ["", "SDR", "SIR", "SAR"]);
      this.table = new Table("Both curves as numbers", ["step", "training error", "validation error"]);
      this.stage.append(
        row(this.starter, one, this.reset, seed), this.curves.canvas, this.numbers,
        slider({ label: "Learning rate η", values: powers(-4, 2), value: rate, show: short }, set("rate")), epsilon,
        row(
          choice("Optimizer", OPTIMIZERS, optimizer, set("optimizer", false)),
          choice("Loss", alphas, alpha, set("alpha")),
          choice("Trained on", AMOUNTS, amount, set("amount")),
          toggle("Mix anew in every epoch", set("augment", false)),
        ),
        this.held.canvas, this.sounds, this.filters.canvas, this.scores.element, this.table.element,
      );
      Object.assign(this, { points: [], marks: [], before: [], steps: 0, seen: true });
      this.watcher = new IntersectionObserver(([{ isIntersecting }]) => {
        this.seen = isIntersecting;
        if (this.worker) this.send();
      });
      this.open();
    }

    connectedCallback() {
      super.connectedCallback();
      if (this.watcher && !this.worker) this.open();
    }

    disconnectedCallback() {
      this.watcher?.disconnect();
      this.loop?.stop();
      this.worker?.terminate();
      this.worker = null;
    }

    /** Start a worker, and in it the training of the first state. */
    open() {
      const code = `(${serve})((${makeTraining})(${sepkitKit.random}))`;
      const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
      this.worker = new Worker(address);
      URL.revokeObjectURL(address);
      this.worker.onmessage = ({ data }) => this.take(data);
      this.watcher.observe(this);
      this.goal = 0;
      this.points = [];
      this.marks = [];
      this.train(false, FIRST);
    }

    send() {
      this.worker.postMessage({ ...this.settings, goal: this.seen ? this.goal : 0 });
    }

    /** Train on, or up to a step, or not. */
    train(on, goal = on ? LIMIT : 0) {
      this.goal = Math.min(goal, LIMIT);
      this.running = on;
      this.starter.textContent = on ? "Pause" : "Train";
      this.starter.setAttribute("aria-pressed", on);
      this.send();
      if (on) this.say("It trains.");
      else if (!goal) this.tell();
    }

    /** A new network; the validation curve of this one stays as a dashed line. */
    again() {
      if (this.points.length > 1) this.before = this.points;
      Object.assign(this, { points: [], marks: [], steps: 0 });
      this.settings.run++;
      this.train(this.running);
      this.say(`A new network, seed ${this.settings.seed}.`);
    }

    /** What the worker has done. */
    take({ run, steps, points = [], arrived, example, truth, filter }) {
      if (truth) this.setTruth(truth);
      if (filter) this.filter = filter;
      if (run !== this.settings.run) return;
      this.steps = steps;
      this.points.push(...points);
      if (example) this.setExample(example);
      const [last] = this.points.slice(-1);
      const lowest = this.lowest();
      if (last)
        this.numbers.textContent =
          `Step ${last[0]}: training error ${last[1].toFixed(3)}, validation error ${last[2].toFixed(3)} ` +
          `(lowest ${lowest[2].toFixed(3)}, at step ${lowest[0]})`;
      if (arrived && this.steps >= this.goal) this.train(false);
      this.curves.ask();
    }

    lowest() {
      return this.points.reduce((best, point) => (point[2] < best[2] ? point : best), [0, 1, Infinity]);
    }

    /** Say where the training stands, and fill the table. */
    tell() {
      if (!this.points.length) return;
      this.say(`Paused. ${this.numbers.textContent}.`);
      this.curves.say(`Errors on a logarithmic axis against steps. ${this.numbers.textContent}. The best fixed filter: ${this.filter?.toFixed(3)}.`);
      const every = Math.ceil(this.points.length / 12);
      const chosen = this.points.filter((_, i) => i % every === 0 || i === this.points.length - 1);
      this.table.fill(chosen.map(([step, ...errors]) => [step, ...errors.map((error) => error.toFixed(4))]));
    }

    setTruth({ sounds: [line, drums], bands }) {
      const mixture = line.map((x, i) => x + drums[i]);
      this.heldOut = { "true line": line, "true drums": drums, mixture };
      const { x, truth } = bands;
      const best = x.map((value, i) => Math.min(1, Math.max(0, (truth[0][i] - truth[1][i] + value) / (2 * value || 1))));
      this.reference = Math.max(...x);
      this.images = { "true line": this.image(this.levels(truth[0])), "best mask": this.image(best, "diverging") };
      this.bands = x;
    }

    setExample({ mask, line, weights }) {
      const drums = this.heldOut.mixture.map((x, i) => x - line[i]);
      Object.assign(this.heldOut, { "line now": line, "drums now": drums });
      this.images["mask now"] = this.image(mask, "diverging");
      this.images["line now"] = this.image(this.levels(this.bands.map((x, i) => mask[i] * x)));
      this.weights = this.core.views(Float64Array.from(weights));
      const truths = [this.heldOut["true line"], this.heldOut["true drums"]];
      this.gram ??= sepkitKit.gramOf(truths);
      const score = (name, source) => {
        const { SDR, SIR, SAR } = sepkitKit.reportScores(this.heldOut[name], truths, source, this.gram);
        return [name, ...[SDR, SIR, SAR].map((value) => inDecibels(value, 2))];
      };
      const rows = [score("line now", 0), score("drums now", 1)];
      this.scores.fill(rows);
      this.held.say(
        "A held-out song: spectrograms of the true line and of the line as it is now, the best mask and the mask now. " +
          `SDR of the line ${rows[0][1]}, of the drums ${rows[1][1]}.`,
      );
      this.sdr = `SDR ${rows[0][1]}`;
      this.loop.set([this.heldOut[this.heard]]);
      this.held.ask();
      this.filters.ask();
    }

    hear(name) {
      this.heard = name;
      for (const each of this.sounds.querySelectorAll("button:not(.kit-play)")) each.setAttribute("aria-pressed", each.textContent === name);
      if (this.heldOut?.[name]) this.loop.set([this.heldOut[name]]);
    }

    /* ---- Pictures ---- */

    levels(magnitudes) {
      return magnitudes.map((m) => 1 + Math.log10(Math.max(m, 1e-9) / this.reference) / 3); // 60 dB
    }

    /** Levels from 0 to 1 by frame and band as an image, low bands at the bottom. */
    image(levels, name = "magma", [frames, bands] = [this.core.FRAMES, this.core.BANDS]) {
      const data = new ImageData(frames, bands);
      const scale = this.scales[name];
      for (let i = 0; i < levels.length; i++) {
        const [m, k] = [Math.floor(i / bands), i % bands];
        const color = 3 * Math.round(255 * Math.min(1, Math.max(0, levels[i])));
        const at = 4 * ((bands - 1 - k) * frames + m);
        for (let c = 0; c < 3; c++) data.data[at + c] = scale[color + c];
        data.data[at + 3] = 255;
      }
      const canvas = make("canvas", { width: frames, height: bands });
      canvas.getContext("2d").putImageData(data, 0, 0);
      return canvas;
    }

    drawCurves(context, width, height, { text, faint }) {
      const [left, top, right, bottom] = [42, 44, width - 16, height - 32];
      const last = Math.max(FIRST, this.steps, this.before.at(-1)?.[0] ?? 0);
      const x = (step) => left + ((right - left) * step) / last;
      const y = (error) => bottom + (top - bottom) * (Math.log(Math.min(0.7, Math.max(error, LEAST)) / LEAST) / Math.log(0.7 / LEAST));
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      const write = (label, at, height_, color = text, align = "left") => {
        context.fillStyle = color;
        context.textAlign = align;
        context.fillText(label, at, height_);
      };
      const stroke = (points, color, dashes = [], thick = 2) => {
        context.beginPath();
        points.forEach(([a, b]) => context.lineTo(a, b));
        Object.assign(context, { strokeStyle: color, lineWidth: thick });
        context.setLineDash(dashes);
        context.stroke();
        context.setLineDash([]);
      };
      for (const error of [0.02, 0.05, 0.1, 0.2, 0.5]) {
        stroke([[left, y(error)], [right, y(error)]], faint, [], 1);
        write(error, left - 4, y(error), text, "right");
      }
      const unit = 10 ** Math.floor(Math.log10(last));
      const tick = last / unit < 2 ? unit / 2 : last / unit < 5 ? unit : 2 * unit;
      for (let step = 0; step <= last; step += tick) write(step, x(step), bottom + 12, text, step ? "center" : "left");
      write("error", 4, top - 2);
      write("step", right, bottom + 25, text, "right");
      for (const step of this.marks) stroke([[x(step), top], [x(step), bottom]], faint, [2, 2], 1);
      if (this.filter) stroke([[left, y(this.filter)], [right, y(this.filter)]], text, [1, 4]);
      stroke(this.before.map(([step, , error]) => [x(step), y(error)]), "#8c8c8c", [6, 4]);
      stroke(this.points.map(([step, error]) => [x(step), y(error)]), BLUE);
      stroke(this.points.map(([step, , error]) => [x(step), y(error)]), ORANGE);
      const lowest = this.lowest();
      if (lowest[0] && lowest[0] < this.steps) {
        context.fillStyle = ORANGE;
        context.beginPath();
        context.arc(x(lowest[0]), y(lowest[2]), 4, 0, 7);
        context.fill();
        write("lowest", x(lowest[0]), y(lowest[2]) - 13, text, x(lowest[0]) > right - 30 ? "right" : "center");
      }
      const legend = [["training", BLUE, []], ["validation", ORANGE, []], ["fixed filter", text, [1, 4]]];
      if (this.before.length) legend.push(["validation before", "#8c8c8c", [6, 4]]);
      legend.forEach(([label, color, dashes], i) => {
        const [at, line] = [4 + (i % 2) * 140, 10 + 16 * Math.floor(i / 2)];
        stroke([[at, line], [at + 22, line]], color, dashes);
        write(label, at + 28, line);
      });
    }

    drawHeld(context, width, height, { text }) {
      if (!this.images) return;
      const [wide, tall] = [(width - 8) / 2, height / 2];
      context.imageSmoothingEnabled = false;
      context.font = "12px system-ui, sans-serif";
      for (const [i, name] of ["true line", "line now", "best mask", "mask now"].entries()) {
        const [at, top] = [(i % 2) * (wide + 8), Math.floor(i / 2) * tall];
        context.fillStyle = text;
        context.fillText(name === "line now" ? `line now: ${this.sdr ?? ""}` : name, at, top + 12);
        if (this.images[name]) context.drawImage(this.images[name], at, top + 18, wide, tall - 24);
      }
    }

    drawFilters(context, width, height, { text }) {
      if (!this.weights) return;
      const { BANDS, FILTERS } = this.core;
      const { V, U0, U1 } = this.weights;
      const turned = new Float64Array(V.length);
      for (let i = 0; i < V.length; i++) turned[(i % FILTERS) * BANDS + Math.floor(i / FILTERS)] = V[i];
      const wide = (width - 24) / 3;
      context.imageSmoothingEnabled = false;
      context.font = "12px system-ui, sans-serif";
      for (const [g, [name, columns]] of Object.entries({ "filters V": turned, "line's spectra": U0, "drums' spectra": U1 }).entries()) {
        const levels = new Float32Array(columns.length);
        for (let at = 0; at < columns.length; at += BANDS) {
          const column = columns.subarray(at, at + BANDS);
          const largest = column.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
          levels.set(column.map((value) => 0.5 + value / (2 * largest)), at);
        }
        context.fillStyle = text;
        context.fillText(name, g * (wide + 12), 12);
        context.drawImage(this.image(levels, "diverging", [FILTERS, BANDS]), g * (wide + 12), 18, wide, height - 18);
      }
    }
  }

  globalThis.sepkitTraining = makeTraining; // for whoever wants the network without the element
  sepkitKit.define("watch-training", WatchTraining);
})();
