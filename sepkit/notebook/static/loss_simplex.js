/* The loss in one bin. The masks of four sources sum to one and form a tetrahedron: it is seen from the
   corner of the drums and cut at the mask that the drums have at the optimum; lines join masks of one
   loss. The same weights can be heard: the best masks of all bins of a song. */
(() => {
  "use strict";
  const { SOURCES, make, button, slider, choice, Table, Picture, Loop, Fourier, latest, onFrame } = sepkitKit;

  const [B, D, O, V] = [0, 1, 2, 3];
  const REPORT = { alpha: 0.001, beta: 0.01, gamma: 0.03 };
  const ZERO = { alpha: 0, beta: 0, gamma: 0 };
  const PRESETS = {
    "The report's": REPORT, "All zero": ZERO, "Strong": { alpha: 0.03, beta: 0.3, gamma: 0.5 },
    "No minimum": { ...REPORT, alpha: 0.15 },
  };
  const LABELS = { alpha: "Weight α", beta: "Weight β", gamma: "Weight γ" };
  const MORE = { alpha: [0.02, 0.03, 0.05, 0.1, 0.15, 0.2], beta: [0.3], gamma: [0.2, 0.5] };
  const LARGEST = { alpha: 0.27, beta: 0.99, gamma: 1.4 };
  const SHARES = [0.5, 0.1, 0.3, 0.1]; // of the chapter's example
  const [START, SECONDS] = [2.8, 3]; // of the song

  /** Steps of a slider: zero, twelve a decade around the report's value, and those of the chapter. */
  function stepsOf(name) {
    const around = Array.from({ length: 48 }, (_, k) => Number((REPORT[name] * 10 ** (k / 12 - 1)).toPrecision(3)));
    return [...new Set([0, ...around.filter((x) => x < LARGEST[name]), ...MORE[name]])].sort((a, b) => a - b);
  }

  /* ---- The loss ---- */

  /** J as in the chapter: the report's loss in a bin of |X| = 1, without what no mask changes. */
  function lossOf(M, S, { alpha, beta, gamma }) {
    let J = -alpha * (4 * (M[0] ** 2 + M[1] ** 2 + M[2] ** 2 + M[3] ** 2) - (M[0] + M[1] + M[2] + M[3]) ** 2);
    for (const s of [B, D, V]) J += (M[s] - S[s]) ** 2 - (s === V ? gamma : beta) * (M[s] - S[O]) ** 2;
    return J;
  }

  const SUBSETS = Array.from({ length: 15 }, (_, i) => [0, 1, 2, 3].filter((s) => ((i + 1) >> s) & 1));

  /** J as the sum of a M² - 2 c M with c = S - beta S_o. */
  class Bowl {
    constructor({ alpha, beta, gamma }) {
      this.beta = [beta, beta, 0, gamma];
      const a = this.beta.map((b, s) => (s === O ? 0 : 1) - b - 4 * alpha);
      this.a = a.map((x) => (Math.abs(x) < 1e-9 ? -1e-9 : x)); // never on a pole
      this.sums = SUBSETS.map((set) => set.reduce((sum, s) => sum + 1 / this.a[s], 0));
      this.convex = Bowl.isConvex(alpha, beta, gamma);
    }

    static isConvex(alpha, beta, gamma) {
      const a = [beta, beta, gamma].map((b) => 1 - b - 4 * alpha);
      return a.every((x) => x > 0) && 4 * alpha * a.reduce((sum, x) => sum + 1 / x, 0) < 1;
    }

    /** The alpha from which on J has no minimum. */
    static limit(beta, gamma) {
      let [low, high] = [0, 0.25];
      for (let i = 0; i < 40; i++) {
        const middle = (low + high) / 2;
        if (Bowl.isConvex(middle, beta, gamma)) low = middle;
        else high = middle;
      }
      return low;
    }

    /** The masks of a subset of sources at which J has no slope, the others 0; into M. */
    level(c, subset, M) {
      let lambda = 1;
      for (const s of SUBSETS[subset]) lambda -= c[s] / this.a[s];
      lambda /= this.sums[subset];
      M.fill(0);
      for (const s of SUBSETS[subset]) M[s] = (c[s] + lambda) / this.a[s];
      return M;
    }

    /** The best masks: `free` of any size (the point without slope), `held` from 0 to 1; into arrays. */
    best(S, free = new Float64Array(4), held = new Float64Array(4), trial = new Float64Array(4)) {
      const { a, beta } = this;
      const c = [S[B] - beta[B] * S[O], S[D] - beta[D] * S[O], 0, S[V] - beta[V] * S[O]];
      this.level(c, 14, free);
      let lowest = Infinity;
      for (let subset = 14; subset >= 0; subset--) {
        const M = this.level(c, subset, trial);
        if (!(Math.min(M[0], M[1], M[2], M[3]) >= 0)) continue;
        let J = 0;
        for (let s = 0; s < 4; s++) J += a[s] * M[s] * M[s] - 2 * c[s] * M[s];
        if (J < lowest) {
          lowest = J;
          held.set(M);
        }
        if (subset === 14 && this.convex) break;
      }
      return { free, held };
    }
  }

  /* ---- The song ---- */

  const breathe = (m) => m % 4 === 3 && new Promise((done) => setTimeout(done)); // so that the page stays alive

  /** The STFT of a few seconds of the stems, and their estimates by the best masks. */
  class Song {
    static async load() {
      const { rate, stems } = await sepkitKit.decodeStems("falcon-69-stems");
      const song = new Song();
      const [from, length] = [Math.floor(START * rate), SECONDS * rate];
      song.fourier = new Fourier(1024);
      song.window = Float64Array.from({ length: 1024 }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / 1024));
      song.truths = SOURCES.map((source) => stems[source].slice(from, from + length));
      song.gram = sepkitKit.gramOf(song.truths);
      song.frames = [];
      for (let m = 0; m < Math.ceil((length + 768) / 256); m++) {
        song.frames.push(song.analyze(256 * m - 768));
        await breathe(m);
      }
      song.zero = (await song.separate(ZERO)).scores;
      return song;
    }

    /** The mixture's bins and the shares of a frame. */
    analyze(start) {
      const spectra = this.truths.map((y) => this.fourier.forward(this.window.map((w, n) => w * (y[start + n] ?? 0))));
      const sum = (part) => Float64Array.from({ length: 513 }, (_, k) => spectra.reduce((total, Y) => total + Y[part][k], 0));
      const [re, im] = [sum("re"), sum("im")];
      const shares = new Float64Array(4 * 513).map((_, i) => {
        const [k, Y] = [i >> 2, spectra[i & 3]];
        const energy = re[k] ** 2 + im[k] ** 2;
        return energy ? (Y.re[k] * re[k] + Y.im[k] * im[k]) / energy : 0.25;
      });
      return { re, im, shares };
    }

    async separate(weights) {
      const estimates = this.truths.map((y) => new Float32Array(y.length));
      const masked = SOURCES.map(() => ({ re: new Float64Array(513), im: new Float64Array(513) }));
      const [bowl, room] = [new Bowl(weights), [0, 1, 2].map(() => new Float64Array(4))];
      for (const [m, { re, im, shares }] of this.frames.entries()) {
        for (let k = 0; k < 513; k++) {
          const { held } = bowl.best(shares.subarray(4 * k, 4 * k + 4), ...room);
          for (let s = 0; s < 4; s++) {
            masked[s].re[k] = held[s] * re[k];
            masked[s].im[k] = held[s] * im[k];
          }
        }
        estimates.forEach((estimate, s) => {
          const frame = this.fourier.inverse(masked[s]);
          const start = 256 * m - 768;
          const stop = Math.min(1024, estimate.length - start);
          for (let n = Math.max(0, -start); n < stop; n++) estimate[start + n] += (frame[n] * this.window[n]) / 1.5;
        });
        await breathe(m);
      }
      const scores = estimates.map((y, s) => sepkitKit.reportScores(y, this.truths, s, this.gram));
      return { estimates, scores };
    }
  }

  const faded = (y) => y.map((x, n) => x * Math.min(1, n / 400, (y.length - 1 - n) / 400));

  /* ---- The element ---- */

  const short = (x, digits = 2) => (Number(x.toFixed(digits)) + 0).toFixed(digits).replace("-", "−");
  const listed = (M) => SOURCES.map((source, s) => `${source} ${short(M[s])}`).join(", ");
  const onGrid = (x) => Math.round(100 * Math.min(2, Math.max(-1, x))) / 100;

  class LossSimplex extends sepkitKit.Explorer {
    build() {
      this.S = [...SHARES];
      this.weights = { ...REPORT };
      const picture = (height, draw, interactive) => new Picture({ label: "", height, interactive, draw: draw.bind(this) });
      this.simplex = picture(310, this.drawSimplex, true);
      this.masks = picture(122, this.drawMasks);
      this.profile = picture(122, this.drawProfile);
      // Only the mark itself takes touches: elsewhere they scroll the page.
      this.handle = make("div", { style: "position: absolute; width: 44px; height: 44px; margin: -22px; cursor: grab; touch-action: none" });
      this.listen();
      this.drums = slider({ label: "Share of drums", min: -0.3, max: 1, value: SHARES[D], show: (x) => short(x) }, (x) => {
        this.S[D] = x;
        this.move(this.S[B], this.S[V]);
      });
      this.sliders = Object.entries(LABELS).map(([name, label]) =>
        slider({ label, values: stepsOf(name), value: REPORT[name] }, (x) => this.weigh({ [name]: x })),
      );
      const presets = Object.entries(PRESETS).map(([text, weights]) => button(text, () => this.weigh(weights)));
      this.numbers = make("p", { class: "kit-scores" });
      this.table = new Table("All numbers", ["", "shares", "optimum", "without limits"]);
      const place = make("div", { style: "position: relative; overflow: hidden" }, this.simplex.canvas, this.handle);
      const hint = "Drag the cross, or choose the picture and use the arrow keys (with Shift: larger steps).";
      const grid = (...content) => make("div", { style: "display: grid; gap: 0.5rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr))" }, ...content);
      this.stage.append(
        grid(
          make("div", {}, place, make("p", { class: "kit-notice" }, hint)),
          make("div", {}, this.drums, ...this.sliders, make("div", { class: "kit-row" }, ...presets), this.numbers),
        ),
        grid(this.masks.canvas, this.profile.canvas),
        make("p", { class: "kit-notice" }, "× true shares, ● optimum with masks from 0 to 1, ○ optimum without limits. Lines: J above ● by 0.01, 0.04, 0.09 and so on; dashed: below ●. Curve: J if other gives to the rest or takes from it, thin where a mask would be below 0."),
        this.table.element,
        this.songRow(),
      );
      this.ask = onFrame(() => this.update());
      this.update();
    }

    listen() {
      const { canvas } = this.simplex;
      const drag = (event) => {
        const { x, y } = this.simplex.at(event);
        const within = (value, size) => Math.min(size - 8, Math.max(8, value));
        const [b, , v] = this.fromPlane(within(x, canvas.clientWidth), within(y, canvas.clientHeight));
        this.move(b - this.S[D] / 3, v - this.S[D] / 3);
      };
      for (const element of [canvas, this.handle]) {
        element.addEventListener("pointerdown", (event) => {
          canvas.focus({ preventScroll: true });
          if (element === canvas && event.pointerType === "touch") return;
          event.preventDefault();
          element.setPointerCapture(event.pointerId);
          drag(event);
        });
        element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && drag(event));
      }
      canvas.addEventListener("click", drag);
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [1, -1], ArrowRight: [-1, 1], ArrowUp: [-1, -1], ArrowDown: [1, 1] }[event.key];
        if (!step) return;
        event.preventDefault();
        const size = event.shiftKey ? 0.05 : 0.01;
        this.move(this.S[B] + size * step[0], this.S[V] + size * step[1]);
      });
    }

    move(b, v) {
      [this.S[B], this.S[V]] = [onGrid(b), onGrid(v)];
      this.S[O] = Math.round(100 * (1 - this.S[B] - this.S[D] - this.S[V])) / 100;
      this.ask();
    }

    weigh(weights) {
      Object.assign(this.weights, weights);
      Object.keys(LABELS).forEach((name, i) => this.sliders[i].set(this.weights[name]));
      this.ask();
      this.hear?.();
    }

    update() {
      const { S, weights } = this;
      const bowl = new Bowl(weights);
      const { free, held } = Object.assign(this, bowl.best(S));
      const J = (M) => lossOf(M, S, weights);
      this.J = J(held);
      const columns = [S, held, free];
      const rows = SOURCES.map((source, s) => [source, ...columns.map((M) => short(M[s], 6))]);
      this.table.fill([...rows, ["loss J", ...columns.map((M) => short(J(M), 6))]]);
      const limit = Bowl.limit(weights.beta, weights.gamma);
      this.numbers.textContent = `J is ${short(this.J, 4)} at the optimum, ${short(J(S), 4)} at the true shares. ` +
        `With this β and γ, and without limits on the masks, J has a minimum for α below ${short(limit, 4)}.`;
      const zero = SOURCES.filter((_, s) => held[s] < 1e-9);
      const where = zero.length === 3 ? "One source has the whole bin."
        : zero.length ? `The border holds the optimum: no ${zero.join(" and no ")}.` : "The optimum lies inside.";
      clearTimeout(this.timer);
      const told = `${bowl.convex ? "" : "Without limits J has no minimum. "}${where} Best masks: ${listed(held)}.`;
      this.timer = setTimeout(() => this.say(told), 250);
      this.simplex.say(`Lines of equal loss on a triangle of the masks of bass, other and vocals. True shares: ${listed(S)}. ` +
        "Arrow keys move them: left towards bass, right towards vocals, up towards other; with Shift in larger steps.");
      this.masks.say(`Bars: best masks, ${listed(held)}.`);
      this.profile.say("A curve: the loss when other gives to bass, drums and vocals, or takes from them.");
      for (const picture of [this.simplex, this.masks, this.profile]) picture.paint();
    }

    songRow() {
      const row = make("div", { class: "kit-row" });
      const load = async (element) => {
        element.disabled = true;
        this.say("Loading …");
        try {
          this.song = await Song.load();
        } catch (error) {
          element.disabled = false;
          return this.say(`The song cannot be loaded: ${error.message}.`);
        }
        const [loop, change] = [new Loop(), make("p", { class: "kit-scores" })];
        const scores = new Table("Scores of all sources", ["[dB]", "SDR", "SIR", "SAR"]);
        let [source, now] = [V, null];
        const show = () => {
          const told = (s) => Object.entries(now.scores[s]).map(([name, x]) =>
            `${sepkitKit.inDecibels(x)} (${sepkitKit.signed(x - this.song.zero[s][name], 1)})`);
          loop.set([faded(now.estimates[source])]);
          scores.fill(SOURCES.map((name, s) => [name, ...told(s)]));
          const [sdr, sir, sar] = told(source);
          change.textContent = `SDR ${sdr}, SIR ${sir}, SAR ${sar}; in brackets: change against weights of zero.`;
        };
        this.hear = latest(async () => {
          now = await this.song.separate({ ...this.weights });
          show();
        });
        await this.hear();
        const list = choice("Estimate of", Object.fromEntries(SOURCES.map((x) => [x, x])), SOURCES[V], (name) => {
          source = SOURCES.indexOf(name);
          show();
        });
        row.replaceChildren(list, loop.element);
        row.after(change, scores.element);
        this.say("The song is ready: three seconds, estimated by the best masks of every bin.");
        loop.element.focus();
      };
      row.append(button("Hear these weights on a song (loads 1.2 MB)", load));
      return row;
    }

    /* ---- What is drawn ---- */

    /** Where masks are seen from the corner of the drums, and the other way round for masks without drums. */
    toPlane([b, d, o, v]) {
      return [this.center + (this.side * (v - b)) / 2, this.bottom - 0.866 * this.side * (o + d / 3)];
    }

    fromPlane(x, y) {
      const [other, apart] = [(this.bottom - y) / (0.866 * this.side), (2 * (x - this.center)) / this.side];
      return [(1 - other - apart) / 2, other, (1 - other + apart) / 2];
    }

    drawSimplex(context, width, height, colors) {
      this.side = Math.min(width / 1.35, height / 1.25);
      [this.center, this.bottom] = [width / 2, height - 0.19 * this.side];
      const [step, drums] = [5, this.held[D]];
      const [columns, rows] = [Math.ceil(width / step) + 1, Math.ceil(height / step) + 1];
      const image = new ImageData(columns, rows);
      // Roots of J above the optimum, so that the lines of a bowl are evenly apart.
      const roots = Float64Array.from({ length: columns * rows }, (_, at) => {
        const [b, o, v] = this.fromPlane((at % columns) * step, Math.floor(at / columns) * step);
        const above = lossOf([b - drums / 3, drums, o - drums / 3, v - drums / 3], this.S, this.weights) - this.J;
        const root = Math.sign(above) * Math.sqrt(Math.abs(above));
        image.data.set(root > 0 ? [31, 115, 214, 130 * Math.max(0, 1 - root) ** 2] : [213, 94, 0, Math.min(150, 30 - 160 * root)], 4 * at);
        return 10 * root;
      });
      const small = make("canvas", { width: columns, height: rows });
      small.getContext("2d").putImageData(image, 0, 0);
      context.drawImage(small, 0.5, 0.5, columns - 1, rows - 1, 0, 0, (columns - 1) * step, (rows - 1) * step);
      Object.assign(context, { strokeStyle: colors.text, lineWidth: 0.7 });
      for (const sign of [1, -1]) {
        context.setLineDash(sign > 0 ? [] : [3, 3]);
        context.stroke(contours(roots, columns, step, sign));
      }
      context.setLineDash([]);
      this.drawBorder(context, width, height, colors);
      for (const [s, shift] of [[B, 18], [O, -8], [V, 18]]) {
        const [x, y] = this.toPlane(SOURCES.map((_, i) => Number(i === s)));
        write(context, SOURCES[s], x, y + shift, colors.text, "center");
      }
      mark(context, "○", ...this.toPlane(this.free), colors);
      mark(context, "●", ...this.toPlane(this.held), colors);
      const [x, y] = this.toPlane(this.S);
      mark(context, "×", x, y, colors);
      Object.assign(this.handle.style, { left: `${x}px`, top: `${y}px` });
    }

    /** Masks from 0 to 1; what is outside is covered. Where a mask is held at 0, the side is thick. */
    drawBorder(context, width, height, colors) {
      const { held } = this;
      const corner = (s) => this.toPlane(SOURCES.map((_, i) => (i === D ? held[D] : i === s ? 1 - held[D] : 0)));
      const side = (...list) => list.reduce((path, s) => (path.lineTo(...corner(s)), path), new Path2D());
      const outside = side(B, O, V, B);
      outside.rect(0, 0, width, height);
      Object.assign(context, { globalAlpha: 0.7, fillStyle: colors.ground });
      context.fill(outside, "evenodd");
      Object.assign(context, { globalAlpha: 1, lineWidth: 1.5 });
      context.stroke(side(B, O, V, B));
      for (const s of [B, O, V]) {
        Object.assign(context, { lineWidth: 5, strokeStyle: colors[SOURCES[s]] });
        if (held[s] < 1e-9) context.stroke(side(...[B, O, V].filter((i) => i !== s)));
      }
    }

    drawMasks(context, width, height, colors) {
      const x = (mask) => 58 + ((mask + 0.3) / 1.6) * (width - 62);
      for (const value of [0, 0.5, 1]) {
        context.fillStyle = colors.faint;
        context.fillRect(x(value), 2, 1, 100);
        write(context, value, x(value), 114, colors.text, "center");
      }
      SOURCES.forEach((source, s) => {
        const y = 14 + 25 * s;
        write(context, source, 0, y, colors.text);
        context.fillStyle = colors[source];
        context.fillRect(x(0), y - 8, x(this.held[s]) - x(0), 16);
        mark(context, "○", x(this.free[s]), y, colors);
        mark(context, "×", x(this.S[s]), y, colors);
      });
    }

    /** J from the shares along (1, 1, -3, 1), its flattest direction: thin where a mask is below 0. */
    drawProfile(context, width, height, colors) {
      const at = (t) => this.S.map((share, s) => share + (t * (s === O ? -3 : 1)) / Math.sqrt(12));
      const x = (t) => ((t + 0.9) / 1.8) * width;
      const J = (M) => lossOf(M, this.S, this.weights);
      const y = (M) => 60 - 140 * (J(M) - J(this.S));
      context.strokeStyle = colors.text;
      for (let i = -90; i < 90; i++) {
        const [from, to] = [at(i / 100), at((i + 1) / 100)];
        context.lineWidth = Math.min(...from, ...to) > -0.004 ? 3.5 : 1;
        context.beginPath();
        context.moveTo(x(i / 100), y(from));
        context.lineTo(x((i + 1) / 100), y(to));
        context.stroke();
      }
      mark(context, "×", x(0), y(this.S), colors);
      write(context, "J", 2, 10, colors.text);
      write(context, "← more other", 2, 114, colors.text);
      write(context, "less other →", width - 2, 114, colors.text, "right");
    }
  }

  function write(context, text, x, y, color, align = "left") {
    Object.assign(context, { font: "13px system-ui, sans-serif", textBaseline: "middle", textAlign: align, fillStyle: color });
    context.fillText(text, x, y);
  }

  function mark(context, sign, x, y, colors) {
    const path = new Path2D();
    if (sign === "○") path.arc(x, y, 6.5, 0, 7);
    else if (sign === "●") path.arc(x, y, 4, 0, 7);
    else {
      for (const turn of [-6, 6]) {
        path.moveTo(x - 6, y - turn);
        path.lineTo(x + 6, y + turn);
      }
    }
    for (const [lineWidth, strokeStyle] of [[5, colors.ground], [2, colors.text]]) {
      Object.assign(context, { lineWidth, strokeStyle, fillStyle: colors.text });
      context.stroke(path);
    }
    if (sign === "●") context.fill(path);
  }

  /** Lines on which numbers on a grid, in rows of `columns`, are whole and of a sign. */
  function contours(grid, columns, step, sign) {
    const path = new Path2D();
    for (let at = 0; at + columns + 1 < grid.length; at++) {
      if (at % columns === columns - 1) continue;
      const [p, q, r, s] = [sign * grid[at], sign * grid[at + 1], sign * grid[at + columns + 1], sign * grid[at + columns]];
      const [low, high] = [Math.min(p, q, r, s), Math.max(p, q, r, s)];
      const [left, top] = [(at % columns) * step, Math.floor(at / columns) * step];
      for (let value = Math.max(1, Math.ceil(low)); value <= Math.min(14, high); value++) {
        const part = (a, b) => (value - a) / (b - a);
        const cuts = [];
        if (p > value !== q > value) cuts.push([part(p, q), 0]);
        if (q > value !== r > value) cuts.push([1, part(q, r)]);
        if (s > value !== r > value) cuts.push([part(s, r), 1]);
        if (p > value !== s > value) cuts.push([0, part(p, s)]);
        cuts.forEach(([x, y], i) => path[i % 2 ? "lineTo" : "moveTo"](left + x * step, top + y * step));
      }
    }
    return path;
  }

  LossSimplex.title = "The loss in one bin";
  sepkitKit.define("loss-simplex", LossSimplex);
})();
