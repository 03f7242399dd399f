/* The network under a microscope: a song plays and the layers light up; any filter, pattern, unit or
   decoder can be looked at, silenced and heard alone. */
(() => {
  "use strict";
  const { SOURCES, make, button, slider, choice, Table, latest, inDecibels, signed, dot, MelAxis, Picture } = sepkitKit;
  const [RATE, HOP, FRAME, BINS] = [44100, 256, 1024, 513];
  const [SPECTRUM, MASK] = [96, 36]; // rows of the pictures of the spectrogram and of a mask
  const [NOW, GAP] = [34, 10]; // width of the marked frame's bar, with the gap before it [CSS pixels]
  const MARK = "#56b4e9";

  /* Layers from input to output. Column c stands in the middle of the frames on which it depends, from
     frame offset + per c on; `span` is the width of a context, and `one` names what can be chosen. */
  const LAYERS = {
    magnitudes: { title: "Mixture: spectrogram", height: SPECTRUM, offset: 0, per: 1, span: 25 },
    timbres: { title: "50 timbre filters", one: "Timbre filter", height: 100, offset: 0, per: 1, span: 25 },
    patterns: { title: "30 patterns", one: "Pattern", height: 90, offset: 6, per: 1, span: 14 },
    bottleneck: { title: "128 units of the bottleneck", one: "Unit", height: 128, offset: 10, per: 5, span: 5 },
    drawn: { title: "4 decoders", one: "Decoder", height: 64, offset: 0, per: 1 },
    masks: { title: "4 masks", height: 4 * MASK, offset: 0, per: 1 },
  };
  const NAMES = { timbres: "timbre filters", patterns: "patterns", bottleneck: "bottleneck", drawn: "decoders" };
  const MODES = { silenced: "Silence it", alone: "Hear it alone", none: "As it was" };
  const HINT = "Click or drag on a layer to choose a row and a frame; by keyboard, use the list and the sliders. " +
    "Each row is drawn relative to its own peak. The bar on the right is the marked frame.";

  const clamp = (x, high) => Math.min(high, Math.max(0, x));
  const timeOf = (frame) => Math.max(0, (HOP * frame + FRAME / 2 - 3 * HOP) / RATE); // of its middle [s]
  const frameAt = (seconds) => Math.round((seconds * RATE - FRAME / 2 + 3 * HOP) / HOP);
  const hertz = (bin) => `${Math.round((bin * RATE) / FRAME)} Hz`;
  const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  const pause = () => new Promise((resolve) => setTimeout(resolve)); // for the page to respond
  const bySource = (value) => Object.fromEntries(SOURCES.map((source, i) => [source, value(i)]));

  /** A function that takes the next weights of a network's part, in the order of sepkit.weights. */
  function reader({ weights, half }) {
    const { buffer } = sepkitEngine.fromBase64(weights);
    const numbers = half ? new Uint16Array(buffer) : new Float32Array(buffer);
    let at = 0;
    const widen = (bits) => {
      const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
      return (bits & 0x8000 ? -1 : 1) * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction / 2 ** 24);
    };
    return (length) => Float32Array.from(numbers.subarray(at, (at += length)), half ? widen : Number);
  }

  /** A picture of values from 0 to 1, a pixel each. */
  function heat(columns, rows, value, palette) {
    const image = new ImageData(columns, rows);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0, i = 0; row < rows; row++) {
      for (let c = 0; c < columns; c++) pixels[i++] = palette[(255 * clamp(value(c, row), 1) + 0.5) | 0];
    }
    const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /** Means of bins in rows of equal height on a mel axis, the highest first: frames by rows. */
  function melRows(values, frames, rows) {
    const axis = new MelAxis();
    const edges = Array.from({ length: rows + 1 }, (_, y) => Math.round(axis.bin(y, rows)));
    const means = new Float32Array(frames * rows);
    for (let frame = 0, i = 0; frame < frames; frame++) {
      for (let y = 0; y < rows; y++, i++) {
        const [first, behind] = [edges[y + 1], Math.max(edges[y + 1] + 1, edges[y])];
        for (let bin = first; bin < behind; bin++) means[i] += values[frame * BINS + bin];
        means[i] /= behind - first;
      }
    }
    return means;
  }

  class NetworkMicroscope extends sepkitKit.Explorer {
    async build() {
      const [part, scales] = await Promise.all([sepkitEngine.part("experiment3"), sepkitKit.loadScales()]);
      this.song = await sepkitKit.decodeStems("falcon-69-stems");
      this.truths = SOURCES.map((source) => this.song.stems[source]);
      this.gram = sepkitKit.gramOf(this.truths);
      const pixel = (rgb) => (_, i) => (255 << 24) | (rgb[3 * i + 2] << 16) | (rgb[3 * i + 1] << 8) | rgb[3 * i];
      const palette = ([name, rgb]) => [name, Uint32Array.from({ length: 256 }, pixel(rgb))];
      this.palettes = Object.fromEntries(Object.entries(scales).map(palette));
      this.bench = await sepkitEngine.Workbench.start("experiment3", this.song.mixture, 5);
      this.readKernels(part);
      this.loop = new sepkitKit.Loop(RATE);
      this.recompute = latest(() => this.compute());
      Object.assign(this, { images: {}, untouched: {}, mode: "none", heard: "estimate vocals", frame: 0 });
      this.layer = this.getAttribute("layer") ?? "bottleneck";
      this.unit = Number(this.getAttribute("unit") ?? 0);
      await this.compute();
      this.lay();
      this.showScores();
      this.select(this.layer, this.unit);
      this.mark(this.best());
      this.follow();
    }

    readKernels(part) {
      const { timbres, patterns, pattern, shared, context, sources } = part.sizes;
      const numbers = (context - pattern + 1) * patterns;
      const take = reader(part);
      this.vertical = take(BINS * timbres);
      take(timbres);
      this.horizontal = take(pattern * timbres * patterns);
      take(patterns + (numbers + 1) * shared + sources * (shared + 1) * numbers); // dense layers
      take(sources * (pattern * timbres * patterns + timbres));
      const rms = (row) => Math.sqrt(dot(row, row) / timbres);
      this.decoders = SOURCES.map(() => Array.from({ length: BINS }, () => rms(take(timbres))));
      this.peaks = { drawn: Math.max(...this.decoders.flat()) };
    }

    count(layer) {
      const { timbres, patterns, shared, sources } = this.bench;
      return { timbres, patterns, bottleneck: shared, drawn: sources, masks: sources }[layer];
    }

    /** The name of what is chosen. */
    get name() {
      return this.layer === "drawn" ? `Decoder of ${SOURCES[this.unit]}` : `${LAYERS[this.layer].one} ${this.unit}`;
    }

    lay() {
      const heard = { mixture: "mixture" };
      for (const kind of ["estimate", "true"]) for (const source of SOURCES) heard[`${kind} ${source}`] = `${source}: ${kind}`;
      this.hearing = choice("Hear", heard, this.heard, (value) => this.hear(value));
      this.layers = choice("Layer", NAMES, this.layer, (layer) => this.select(layer, 0));
      this.units = make("span", { style: "flex: 1 1 16rem; min-width: 0" });
      const pressed = (mode) => ({ "aria-pressed": String(mode === this.mode) });
      this.modes = Object.entries(MODES).map(([mode, text]) => button(text, () => this.change(mode), pressed(mode)));
      const show = (frame) => `${timeOf(frame).toFixed(2)} s`;
      const options = { label: "Marked frame", max: this.bench.frames - 1, step: 1, show };
      this.frames = slider(options, (frame) => this.mark(frame, true));
      this.table = new Table("Scores of the estimates [dB] and their change", ["estimate", "SDR", "SIR", "SAR"]);
      Object.assign(this.table.element, { open: true }).style.fontSize = "0.85rem";
      const column = { style: "flex: 1 1 18rem; min-width: 0; display: grid; gap: 0.2rem; align-content: start" };
      const strips = make("div", column);
      this.pictures = Object.entries(LAYERS).map(([layer, { title, height }]) => {
        const picture = new Picture({ label: `${title}, over time`, height, draw: (...all) => this.drawLayer(layer, ...all) });
        this.listen(layer, picture.canvas);
        strips.append(make("p", {}, title), picture.canvas);
        return picture;
      });
      const view = new Picture({ label: "", height: 190, draw: (...all) => this.drawChosen(...all) });
      const field = new Picture({ label: "Receptive field", height: 170, draw: (...all) => this.drawField(...all) });
      this.pictures.push(view, field);
      [this.heading, this.text, this.fieldText] = [make("p", { class: "kit-title" }), make("p"), make("p")];
      this.numbers = new Table("Its five largest numbers", ["where", "value"]);
      this.view = view;
      const go = button("Go to its largest output", () => this.mark(this.best(), true));
      const views = make("div", column, this.heading, view.canvas, this.text, make("div", {}, go), this.numbers.element,
        make("p", { class: "kit-title" }, "Receptive field"), field.canvas, this.fieldText);
      const row = (...content) => make("div", { class: "kit-row" }, ...content);
      this.stage.append(row(this.loop.element, this.hearing), row(this.layers, this.units), row(...this.modes),
        this.table.element, this.frames, make("p", {}, HINT),
        make("div", { style: "display: flex; flex-wrap: wrap; gap: 0.5rem 1.25rem" }, strips, views));
    }

    /** Choose a row and a frame: a mouse while it is pressed, a finger by a tap. */
    listen(layer, canvas) {
      const rows = this.count(layer);
      const last = this.bench.frames - 1;
      const frameOf = ({ offsetX }) => clamp(Math.floor((offsetX / (canvas.clientWidth - NOW)) * (last + 1)), last);
      const pick = (event) => {
        if (!this.loop.source) this.mark(frameOf(event), true);
        const row = clamp(Math.floor((rows * event.offsetY) / canvas.clientHeight), rows - 1);
        if (layer === "masks") this.hear(`estimate ${SOURCES[row]}`);
        else if (rows) this.select(layer, row);
      };
      const hover = (frame) => {
        this.hovered = frame;
        this.draw();
      };
      canvas.addEventListener("pointermove", (event) => {
        hover(frameOf(event));
        if (event.pointerType === "mouse" && event.buttons & 1) pick(event);
      });
      canvas.addEventListener("click", pick);
      for (const name of ["pointerleave", "pointercancel"]) canvas.addEventListener(name, () => hover(null));
    }

    /** Redraw while the sound plays and the explorer is in sight. */
    follow() {
      const calm = matchMedia("(prefers-reduced-motion: reduce)");
      let [seen, asked, last] = [true, 0, 0];
      const ask = () => {
        if (!asked && seen && this.loop.element.getAttribute("aria-pressed") === "true") asked = requestAnimationFrame(step);
      };
      const step = () => {
        asked = 0;
        if (Math.abs(this.now - last) >= (calm.matches ? 80 : 1)) {
          last = this.now;
          this.draw();
        }
        ask();
      };
      new IntersectionObserver((entries) => {
        seen = entries.at(-1).isIntersecting;
        ask();
      }).observe(this);
      new MutationObserver(() => {
        if (!this.loop.source) this.mark(clamp(frameAt(this.loop.position), this.bench.frames - 1));
        ask();
      }).observe(this.loop.element, { attributeFilter: ["aria-pressed"] });
    }

    /* ---- What the reader does ---- */

    select(layer, unit) {
      const other = layer !== this.layer || unit !== this.unit;
      if (layer !== this.layer || !this.units.firstChild) {
        const show = (i) => (layer === "drawn" ? SOURCES[i] : String(i));
        const options = { label: LAYERS[layer].one, max: this.count(layer) - 1, step: 1, show };
        this.units.replaceChildren(slider(options, (i) => this.select(layer, i)));
        this.layers.list.value = layer;
      }
      Object.assign(this, { layer, unit });
      this.units.firstChild.set(unit);
      const { values, what, where } = (this.chosen = this.numbersOf(layer, unit));
      const order = Array.from(values, (_, i) => i).sort((a, b) => Math.abs(values[b]) - Math.abs(values[a]));
      this.numbers.fill(order.slice(0, 5).map((i) => [where(i), signed(values[i], 3)]));
      this.heading.textContent = `${this.name}: ${what}`;
      this.view.say(`${this.name}: ${what}. The largest is at ${where(order[0])}.`);
      const answers = this.untouched[layer].peaks[unit] > 0;
      this.text.textContent = answers ? `Largest output at ${timeOf(this.best()).toFixed(2)} s.` : "Its output is always 0 here.";
      this.draw();
      if (other && this.mode !== "none") this.change(this.mode);
    }

    change(mode) {
      this.mode = mode;
      Object.keys(MODES).forEach((name, i) => this.modes[i].setAttribute("aria-pressed", name === mode));
      this.table.element.setAttribute("aria-busy", true);
      this.recompute();
    }

    hear(value) {
      this.heard = this.hearing.list.value = value;
      this.sound();
    }

    sound() {
      const [kind, source] = this.heard.split(" ");
      this.loop.set([source ? (kind === "true" ? this.song.stems : this.estimates)[source] : this.song.mixture]);
    }

    /** Mark a frame, from which the sound goes on; `moved` by the reader. */
    mark(frame, moved = false) {
      this.frame = frame;
      this.frames.set(frame);
      const goOn = moved && this.loop.source;
      if (goOn) this.loop.stop();
      this.loop.resting = timeOf(frame);
      if (goOn) this.loop.play();
      this.draw();
    }

    /** The frame that is shown: the one that sounds, is under the pointer, or is marked. */
    get now() {
      return this.loop.source ? clamp(frameAt(this.loop.position), this.bench.frames - 1) : (this.hovered ?? this.frame);
    }

    /* ---- The network ---- */

    async compute() {
      const { bench, layer, unit, mode } = this;
      const n = this.count(layer);
      const change = (numbers) => {
        const run = layer === "drawn" ? numbers.length / n : 1; // of one unit's numbers
        const silent = (i) => (Math.floor(i / run) % n === unit) === (mode === "silenced");
        for (let i = 0; i < numbers.length; i++) if (silent(i)) numbers[i] = 0;
      };
      await bench.forward(mode === "none" ? {} : { [layer]: change });
      const stems = await bench.stems();
      await pause();
      this.estimates = bySource((i) => stems[i]);
      this.sound();
      for (const name in LAYERS) {
        if (name === "magnitudes" && this.images[name]) continue;
        const numbers = await bench.get(name);
        await pause();
        this.images[name] = this.imageOf(name, numbers);
      }
      const scores = [];
      for (const [i, stem] of stems.entries()) {
        await pause();
        scores.push(sepkitKit.reportScores(stem, this.truths, i, this.gram));
      }
      this.scores = scores;
      this.untouched.scores ??= this.scores;
      if (!this.stage.firstChild || layer !== this.layer || unit !== this.unit || mode !== this.mode) return;
      this.showScores();
      this.draw();
    }

    showScores() {
      const { scores, untouched, mode } = this;
      const text = (i, metric) => {
        const change = mode === "none" ? "" : ` (${signed(scores[i][metric] - untouched.scores[i][metric])})`;
        return inDecibels(scores[i][metric], 2).replace(" dB", "") + change;
      };
      this.table.fill(SOURCES.map((source, i) => [source, text(i, "SDR"), text(i, "SIR"), text(i, "SAR")]));
      this.table.element.setAttribute("aria-busy", false);
      const what = { none: "The network as it was", silenced: `${this.name} silenced`, alone: `${this.name} alone` }[mode];
      this.say(`${what}. SDR in dB: ${SOURCES.map((source, i) => `${source} ${text(i, "SDR")}`).join(", ")}.`);
    }

    /** The picture of a layer's numbers. */
    imageOf(layer, numbers) {
      const { frames, all_frames: all, contexts, context, hop, timbres } = this.bench;
      const { magma, inferno } = this.palettes;
      if (layer === "magnitudes") {
        const rows = melRows(numbers, frames, SPECTRUM);
        const floor = Math.log10(largest(rows)) - 3.5; // of 70 dB
        return heat(frames, SPECTRUM, (c, y) => (Math.log10(rows[c * SPECTRUM + y] + 1e-9) - floor) / 3.5, magma);
      }
      if (layer === "masks") {
        const masks = SOURCES.map((_, s) => melRows(numbers.subarray(s * all * BINS), frames, MASK));
        return heat(frames, 4 * MASK, (c, y) => masks[Math.floor(y / MASK)][c * MASK + (y % MASK)], inferno);
      }
      const rows = this.count(layer);
      // Of a decoder, the RMS of what it passes to its last layer, from the context around each frame.
      const level = (_, i) => {
        const frame = Math.floor(i / rows);
        const c = clamp(Math.floor((frame - 10) / hop), contexts - 1);
        const start = (((i % rows) * contexts + c) * context + frame - c * hop) * timbres;
        const row = numbers.subarray(start, start + timbres);
        return Math.sqrt(dot(row, row) / timbres);
      };
      const values = layer === "drawn" ? Float32Array.from({ length: frames * rows }, level) : numbers.map(Math.abs);
      this.untouched[layer] ??= {
        values,
        peaks: Array.from({ length: rows }, (_, unit) => largest(values.filter((_, i) => i % rows === unit))),
      };
      const { peaks } = this.untouched[layer];
      return heat(values.length / rows, rows, (c, row) => Math.sqrt(values[c * rows + row] / (peaks[row] || 1)), magma);
    }

    outputs(layer, unit) {
      const { values, peaks } = this.untouched[layer];
      return values.filter((_, i) => i % peaks.length === unit);
    }

    /** The frame at which the untouched output of what is chosen is largest. */
    best() {
      const { offset, per } = LAYERS[this.layer];
      const outputs = this.outputs(this.layer, this.unit);
      return clamp(offset + per * outputs.indexOf(largest(outputs)) + (per >> 1), this.bench.frames - 1);
    }

    /** The numbers of a picture: what they are, where each stands, and its height from 0 to 1. */
    numbersOf(layer, unit) {
      const { timbres, patterns, frames } = this.bench;
      const weights = { timbres: this.vertical, patterns: this.horizontal }[layer];
      const every = () => weights.filter((_, i) => i % this.count(layer) === unit);
      const values = weights ? every() : layer === "drawn" ? this.decoders[unit] : this.outputs(layer, unit);
      const peak = largest(values) || 1;
      const axis = new MelAxis(RATE / 2);
      const x = (bin) => 1 - axis.y(bin, 1);
      const both = (v) => 0.5 + v / peak / 2;
      const kinds = {
        timbres: { what: "weights over frequency", where: hertz, x, level: both },
        patterns: {
          what: "weights, 12 frames × 50 timbre filters", level: both,
          where: (i) => `frame ${Math.floor(i / timbres)}, timbre filter ${i % timbres}`,
        },
        bottleneck: {
          what: "output over time", where: (i) => `${timeOf(12 + 5 * i).toFixed(2)} s`,
          x: (i) => (12.5 + 5 * i) / frames, level: (v) => v / peak,
        },
        drawn: {
          what: "RMS of the last layer's weights, 50 dB", where: hertz, x,
          level: (v) => 1 + Math.log10(Math.max(v / this.peaks.drawn, 1e-9)) / 2.5,
        },
      };
      return { values, ...kinds[layer] };
    }

    /* ---- Pictures ---- */

    draw() {
      for (const picture of this.pictures) picture.ask();
    }

    /** The contexts that hold the frame that is shown, and the one in whose middle it is. */
    get contexts() {
      const { context, hop, contexts } = this.bench;
      return [this.now - context + hop, this.now, this.now - 10].map((frame) => clamp(Math.floor(frame / hop), contexts - 1));
    }

    drawLayer(layer, context, width, height, colors) {
      const [image, wide, { now }] = [this.images[layer], width - NOW, this];
      const { offset, per, span } = LAYERS[layer];
      const scale = wide / this.bench.frames;
      const row = height / this.count(layer);
      const box = (x, y, w, h, color) => Object.assign(context, { strokeStyle: color, lineWidth: 1.5 }).strokeRect(x, y, w, h);
      Object.assign(context, { imageSmoothingEnabled: false, fillStyle: "#000" });
      context.fillRect(0, 0, wide, height);
      context.drawImage(image, offset * scale, 0, per * image.width * scale, height);
      if (span) {
        const [first, last, middle] = this.contexts.map((c) => (offset + 5 * c) * scale);
        box(first, 1, last - first + span * scale, height - 2, "#fff");
        box(middle, 1, span * scale, height - 2, MARK);
      }
      context.fillStyle = "#fff";
      context.fillRect((now + 0.5) * scale - 0.75, 0, 1.5, height);
      context.clearRect(wide, 0, NOW, height);
      const column = clamp(Math.floor((now - offset) / per), image.width - 1);
      context.drawImage(image, column, 0, 1, image.height, wide + GAP, 0, NOW - GAP, height);
      if (layer === "magnitudes") new MelAxis().labels(context, height);
      if (layer === this.layer) {
        box(1, this.unit * row, wide - 2, row, MARK);
        context.fillStyle = colors.text;
        context.fill(new Path2D(`M${wide + 1} ${(this.unit + 0.5) * row}l7 -5v10z`)); // an arrow
      }
      if (layer !== "drawn" && layer !== "masks") return;
      Object.assign(context, { font: "11px system-ui, sans-serif", textBaseline: "middle", lineWidth: 3 });
      Object.assign(context, { strokeStyle: "#000a", fillStyle: "#fff" });
      SOURCES.forEach((source, i) => {
        if (i) context.clearRect(0, i * row - 0.75, width, 1.5);
        for (const paint of ["strokeText", "fillText"]) context[paint](source, 4, (i + 0.5) * row);
      });
    }

    drawChosen(context, width, height, colors) {
      const { layer, unit, bench } = this;
      const { values, x, level } = this.chosen;
      const low = height - 18;
      const ticks = (places) => places.forEach(([place, text]) => context.fillText(text, place * width, height - 5));
      Object.assign(context, { font: "11px system-ui, sans-serif", fillStyle: colors.text, textAlign: "center" });
      if (layer === "patterns") {
        const image = heat(bench.pattern, bench.timbres, (d, j) => level(values[d * bench.timbres + j]), this.palettes.diverging);
        context.imageSmoothingEnabled = false;
        context.drawImage(image, 0, 0, width, low);
        return ticks(Array.from({ length: bench.pattern }, (_, d) => [(d + 0.5) / bench.pattern, d]));
      }
      const line = (points, color) => {
        context.strokeStyle = color;
        context.beginPath();
        for (const [i, v] of points) context.lineTo(i * width, 2 + (1 - level(v)) * (low - 4));
        context.stroke();
      };
      line([[0, 0], [1, 0]], colors.faint);
      context.lineWidth = 1.5;
      line(Array.from(values, (v, i) => [x(i), v]), layer === "drawn" ? colors[SOURCES[unit]] : "#3d8fd1");
      if (layer === "bottleneck") ticks([1, 2, 3, 4, 5].map((t) => [frameAt(t) / bench.frames, `${t} s`]));
      else ticks([[250, "250 Hz"], [1000, "1 kHz"], [4000, "4 kHz"], [10000, "10 kHz"]].map(([f, text]) => [x((f * FRAME) / RATE), text]));
    }

    /** The spectrogram around the frame that is shown, and below it the contexts that hold the frame. */
    drawField(context, width, height, colors) {
      const [[first, last, middle], { now }, low] = [this.contexts, this, height - 50];
      const [begin, count, frames] = [5 * first - 8, last - first + 1, 5 * (last - first) + 25];
      const scale = width / (frames + 16);
      context.imageSmoothingEnabled = false;
      context.drawImage(this.images.magnitudes, begin, 0, frames + 16, SPECTRUM, 0, 0, width, low);
      for (let c = first; c <= last; c++) {
        context.fillStyle = c === middle ? MARK : colors.mixture;
        context.fillRect((5 * c - begin) * scale, low + 4 + 9 * (c - first), 25 * scale, 7);
      }
      context.strokeStyle = "#fff";
      context.strokeRect((now - begin) * scale, 0, scale, low);
      const long = (1000 * ((frames - 1) * HOP + FRAME)) / RATE;
      const text = `Frame ${now}, ${timeOf(now).toFixed(2)} s. Contexts of 25 frames that hold it: ${count}; its mask ` +
        `is the mean of theirs. The receptive field of this averaged mask: ${frames} frames, ${long.toFixed(1)} ms.`;
      if (this.fieldText.textContent !== text) this.fieldText.textContent = text;
    }
  }
  NetworkMicroscope.title = "The network under a microscope";
  NetworkMicroscope.parts = ["engine", "colors", "experiment3", "falcon-69-stems"];
  sepkitKit.define("network-microscope", NetworkMicroscope);
})();
