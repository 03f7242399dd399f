/* Paint a mask: a brush over the mixture's spectrogram, the sound of what it keeps, and its scores.

   Attributes, as JSON: `bands`, by source the lowest and the highest frequency [Hz] that the first mask
   keeps; `best`, by source SDR, SIR and SAR of the best masks, which the page has computed. */
(() => {
  "use strict";
  const { make, button, toggle, slider, choice, Table, Picture, MelAxis, Loop, latest, onFrame, store } = sepkitKit;
  const SOURCES = { bass: "Bass", drums: "Drums", other: "Other", vocals: "Vocals" };
  const ORDER = Object.keys(SOURCES);
  const SOUNDS = { painted: "Painted", network: "Network", ideal: "Ideal", truth: "True stem", mixture: "Mixture" };
  const ROWS = { painted: "Painted", mixture: "Mixture", network: "Network", ideal: "Ideal ratio mask", best: "Best, as sound" };
  const BINS = 513; // of a frame
  const [LINES, HEIGHT] = [256, 300]; // of the picture: in its own pixels, and on the page
  const STEPS = 40; // that can be undone
  const KEYS =
    "Drag to paint, or use the keyboard: arrow keys move the cursor, with Shift they paint. Space paints, " +
    "+ and − change the size, E takes the eraser, B shows the ideal mask, Z undoes and Y redoes.";
  const told = (value) => (value > 90 ? "> 90" : sepkitKit.inDecibels(value, 2).replace(" dB", "")); // higher: rounding
  const bound = (x, low, high) => Math.min(high, Math.max(low, x));
  const through = async (data, stream) =>
    new Uint8Array(await new Response(new Blob([data]).stream().pipeThrough(stream)).arrayBuffer());

  class PaintMask extends sepkitKit.Explorer {
    async build() {
      Object.assign(this, { cursor: { x: 0.5, y: 0.5 }, heard: "painted", source: "vocals", stale: true });
      await this.prepare();
      const kept = store.get("paint-mask", {});
      if (kept.source in SOURCES) this.source = kept.source;
      for (const source of ORDER.filter((name) => kept.masks?.[name])) {
        const mask = this.unpack(sepkitEngine.fromBase64(kept.masks[source]));
        this.work[source].mask = await mask.catch(() => this.work[source].start);
      }
      const pause = (time) => new Promise((done) => setTimeout(done, time));
      this.update = latest(() => this.separate().then(() => pause(100)));
      this.keep = latest(() => pause(300).then(() => this.remember()));
      this.makeControls();
      this.listen(this.picture.canvas);
      await this.separate();
    }

    /** The song, its spectrogram, and the masks and sounds to compare with. */
    async prepare() {
      const { stems, mixture } = await sepkitKit.decodeStems("falcon-69-stems");
      const bench = await sepkitEngine.Workbench.start("experiment3", mixture, 5);
      const { frames, all_frames } = bench;
      const magnitudes = [];
      for (const samples of [...ORDER.map((source) => stems[source]), mixture]) {
        const numbers = new Float32Array(256 * (all_frames + 3));
        numbers.set(samples, 768);
        await bench.engine.call("put", { layer: "samples", numbers });
        await bench.step("analyse", 1, bench.contexts);
        magnitudes.push(await bench.get("magnitudes"));
      }
      const mixed = magnitudes.pop();
      await bench.forward();
      const network = await bench.stems();
      const size = all_frames * BINS;
      const layer = new Float32Array(4 * size);
      for (let i = 0; i < size; i++) {
        const total = magnitudes.reduce((sum, one) => sum + one[i], 0);
        for (let s = 0; s < 4; s++) layer[s * size + i] = total ? magnitudes[s][i] / total : 0.25;
      }
      await bench.put("masks", layer);
      const ideals = await bench.stems();
      const [bands, best] = ["bands", "best"].map((name) => JSON.parse(this.getAttribute(name) ?? "{}"));
      const truths = ORDER.map((source) => stems[source]);
      const gram = sepkitKit.gramOf(truths);
      this.work = {};
      ORDER.forEach((source, s) => {
        const [low, high] = bands[source] ?? [0, Infinity];
        const column = Array.from({ length: BINS }, (_, k) => (k * 44100) / 1024).map((f) => 255 * (f >= low && f <= high));
        const start = Uint8Array.from({ length: frames * BINS }, (_, i) => column[i % BINS]);
        const ideal = Uint8Array.from(layer.subarray(s * size, s * size + frames * BINS), (x) => Math.round(255 * x));
        const sounds = { mixture, network: network[s], ideal: ideals[s], truth: truths[s] };
        const score = (sound) => Object.values(sepkitKit.reportScores(sound, truths, s, gram));
        const scores = { mixture: score(mixture), network: score(network[s]), ideal: score(ideals[s]), best: best[source] };
        this.work[source] = { mask: start, start, ideal, past: [], future: [], sounds, score, scores };
      });
      Object.assign(this, { bench, frames, layer: new Float32Array(size), weight: new Float32Array(frames * BINS) });
      this.axis = new MelAxis(22050);
      const levels = sepkitKit.levelsOf(mixed, mixed.reduce((a, b) => Math.max(a, b), 0));
      const grays = Uint8Array.from({ length: 768 }, (_, i) => (70 + Math.floor(i / 3) * 0.4) * [0.92, 1, 1.1][i % 3]);
      const { magma } = await sepkitKit.loadScales();
      [this.gray, this.colors] = [grays, magma].map((scale) => sepkitKit.melImage(levels, frames, BINS, this.axis, scale, LINES));
      [this.painted, this.ideal] = [0, 1].map(() => new OffscreenCanvas(frames, LINES).getContext("2d"));
    }

    makeControls() {
      const label = `Mask of a source over the mixture's spectrogram: colors show what is kept. ${KEYS}`;
      this.picture = new Picture({ label, height: HEIGHT, interactive: true, draw: (...place) => this.draw(...place) });
      const { canvas, ask } = this.picture;
      canvas.style.touchAction = "pinch-zoom"; // one finger paints in all directions
      this.loop = new Loop();
      // Draw where the loop is, while it plays in sight.
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const follow = onFrame(() => {
        this.picture.paint();
        if (!still && this.inSight && this.loop.element.getAttribute("aria-pressed") === "true") follow();
      });
      this.loop.element.addEventListener("click", follow);
      new IntersectionObserver(([{ isIntersecting }]) => {
        this.inSight = isIntersecting;
        follow();
      }).observe(canvas);
      this.sounds = Object.entries(SOUNDS).map(([name, text]) =>
        button(text, () => this.hear(name), { "aria-pressed": name === "painted" }),
      );
      const [parts, pixels] = [(x) => x.toFixed(2), (x) => `${x} px`];
      this.value = slider({ label: "Value", value: 1, step: 0.05, show: parts });
      this.size = slider({ label: "Size", min: 4, max: 80, step: 2, value: 16, show: pixels }, ask);
      this.hardness = slider({ label: "Hardness", value: 0.8, step: 0.05, show: parts });
      this.eraser = toggle("Eraser", (on) => (this.erasing = on));
      this.lens = toggle("What would the ideal mask do here?", (on) => this.look(on));
      this.undo = button("Undo", () => this.go("past", "future"));
      this.redo = button("Redo", () => this.go("future", "past"));
      const even = (value) => () => this.replace(new Uint8Array(this.frames * BINS).fill(value));
      const file = make("input", { type: "file", accept: ".gz", hidden: true, "aria-label": "Mask to load" });
      file.addEventListener("change", () => this.load(file));
      this.table = new Table("Scores in dB", ["Mask", "SDR", "SIR", "SAR"]);
      this.table.element.open = true;
      this.readout = make("p", { class: "kit-scores" }, "\u00a0");
      const row = (...nodes) => make("div", { class: "kit-row" }, ...nodes);
      this.stage.append(
        row(choice("Source", SOURCES, this.source, (name) => this.choose(name)), this.loop.element, ...this.sounds),
        canvas,
        this.readout,
        make("p", { class: "kit-notice" }, KEYS),
        row(choice("Tool", { "": "Brush", tone: "Harmonics" }, "", (name) => (this.harmonics = !!name)), this.eraser, this.lens),
        ...[this.value, this.size, this.hardness],
        row(this.undo, this.redo, button("Clear", even(0)), button("Keep all", even(255)),
          button("Start again", () => this.replace(this.work[this.source].start)),
          button("Save", () => this.save()), button("Load", () => file.click()), file),
        this.table.element,
      );
    }

    /** Follow the pointer and the keys on the canvas. */
    listen(canvas) {
      const on = (name, act) => canvas.addEventListener(name, act);
      const move = (event) => {
        const from = this.cursor;
        const { x, y } = this.picture.at(event);
        this.point(x / canvas.clientWidth, y / HEIGHT);
        if (this.under) this.stroke(from);
      };
      on("pointermove", move);
      on("pointerdown", (event) => {
        if (event.button || this.under) return;
        canvas.setPointerCapture(event.pointerId);
        move(event);
        this.begin(this.cursor);
      });
      for (const name of ["pointerup", "pointercancel"]) on(name, () => this.finish());
      const leave = () => {
        this.cursor.seen = false;
        this.picture.ask();
      };
      for (const name of ["pointerleave", "blur"]) on(name, leave);
      on("focus", () => this.point(this.cursor.x, this.cursor.y));
      const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] };
      const resize = (by) => {
        this.size.set(bound(this.size.value + by, 4, 80));
        this.picture.ask();
      };
      const acts = {
        "+": () => resize(2), "=": () => resize(2), "-": () => resize(-2), e: () => this.eraser.click(),
        b: () => this.lens.click(), z: () => this.undo.click(), y: () => this.redo.click(),
      };
      on("keydown", (event) => {
        const [arrow, act] = [arrows[event.key], acts[event.key.toLowerCase()]];
        if ((!arrow && !act) || event.altKey || (event.ctrlKey && !/[zy]/.test(event.key)) || this.under) return;
        event.preventDefault();
        if (act) return act();
        const [from, far] = [this.cursor, Math.max(3, this.size.value / 2)];
        this.point(from.x + (arrow[0] * far) / canvas.clientWidth, from.y + (arrow[1] * far) / HEIGHT, "polite");
        if (!event.shiftKey && event.key !== " ") return;
        this.begin(from);
        this.finish();
      });
    }

    /** Move the cursor, to parts of the picture's width and height, and tell what is there. */
    point(x, y, live = "off") {
      this.cursor = { x: bound(x, 0, 1), y: bound(y, 0, 1), seen: true };
      const frame = Math.min(this.frames - 1, Math.floor(this.cursor.x * this.frames));
      const bin = Math.round(this.axis.bin(this.cursor.y * HEIGHT, HEIGHT));
      const { mask, ideal } = this.work[this.source];
      const [painted, best] = [mask, ideal].map((numbers) => (numbers[frame * BINS + bin] / 255).toFixed(2));
      const time = (Math.max(0, 256 * frame - 256) / 44100).toFixed(2);
      this.readout.setAttribute("aria-live", live);
      this.readout.textContent = `${time} s, ${Math.round(bin * this.axis.width)} Hz: painted ${painted}, ideal ${best}`;
      this.picture.ask();
    }

    /* ---- Painting: a mask is changed in a copy, from which undoing leads back ---- */

    begin(from) {
      const work = this.work[this.source];
      this.under = work.mask;
      work.mask = work.mask.slice();
      this.weight.fill(0);
      this.stroke(from);
    }

    /** Paint from a place to the cursor. Where a stroke crosses itself, it does not add up. */
    stroke(from) {
      const { weight, under, frames, cursor, axis, harmonics, picture } = this;
      const { mask, ideal } = this.work[this.source];
      const [radius, hard, value] = [this.size.value, this.hardness.value, this.erasing ? 0 : 255 * this.value.value];
      const scale = picture.canvas.clientWidth / frames;
      const [wide, tall] = [(cursor.x - from.x) * frames, (cursor.y - from.y) * HEIGHT];
      const n = Math.ceil((3 * Math.hypot(wide * scale, tall)) / radius) || 1;
      for (let i = 1; i <= n; i++) {
        const [x, y] = [from.x * frames + (wide * i) / n, from.y * HEIGHT + (tall * i) / n];
        const [tone, top, low] = [y, y - radius, y + radius].map((place) => axis.bin(place, HEIGHT));
        for (let bin = Math.max(0, Math.ceil(low)); bin <= (harmonics ? BINS - 1 : top); bin++) {
          // A band around each harmonic is as wide, in Hz, as the brush around the tone itself.
          const harmonic = (bin - Math.max(1, Math.round(bin / tone)) * tone) / ((top - low) / 2);
          const dy = harmonics ? harmonic : (axis.y(bin, HEIGHT) - y) / radius;
          const last = Math.min(frames - 1, x + radius / scale);
          for (let frame = Math.max(0, Math.floor(x - radius / scale)); frame <= last; frame++) {
            const d = Math.hypot(dy, ((frame + 0.5 - x) * scale) / radius);
            const here = d <= hard ? 1 : (1 - d) / (1 - hard);
            const at = frame * BINS + bin;
            if (!(here > weight[at])) continue;
            weight[at] = here;
            mask[at] = Math.round(under[at] + here * ((this.looking ? ideal[at] : value) - under[at]));
          }
        }
      }
      this.show();
    }

    finish() {
      if (!this.under) return;
      const work = this.work[this.source];
      const { mask } = work;
      work.mask = this.under;
      this.under = null;
      this.replace(mask);
    }

    replace(mask) {
      const work = this.work[this.source];
      Object.assign(work, { past: [...work.past.slice(1 - STEPS), work.mask], mask, future: [] });
      this.show();
    }

    /** Undo or redo a step. */
    go(from, to) {
      const work = this.work[this.source];
      if (!work[from].length) return this.say(`Nothing to ${from === "past" ? "undo" : "redo"}`);
      work[to].push(work.mask);
      work.mask = work[from].pop();
      this.show();
    }

    /* ---- What is seen and heard ---- */

    choose(source) {
      this.source = source;
      this.show();
    }

    show() {
      this.stale = true;
      this.picture.ask();
      this.update();
      if (!this.under) this.keep();
    }

    /** The colored spectrogram, as opaque as a mask is high. */
    color(context, mask) {
      const image = new ImageData(this.frames, LINES);
      for (let y = 0, at = 3; y < LINES; y++) {
        const first = Math.round(this.axis.bin(y + 1, LINES));
        const n = Math.max(1, Math.round(this.axis.bin(y, LINES)) - first);
        for (let start = first; start < mask.length; start += BINS, at += 4) {
          let sum = 0;
          for (let i = start; i < start + n; i++) sum += mask[i];
          image.data[at] = sum / n;
        }
      }
      context.putImageData(image, 0, 0);
      context.globalCompositeOperation = "source-in";
      context.drawImage(this.colors, 0, 0);
    }

    draw(context, width) {
      const { x, y, seen } = this.cursor;
      const radius = this.size.value;
      const { mask, ideal } = this.work[this.source];
      if (this.stale) this.color(this.painted, mask);
      if (this.stale && this.looking) this.color(this.ideal, ideal);
      this.stale = false;
      const spectrogram = ({ canvas }) => [this.gray, canvas].forEach((image) => context.drawImage(image, 0, 0, width, HEIGHT));
      spectrogram(this.painted);
      const lines = new Path2D();
      lines.arc(x * width, y * HEIGHT, radius, 0, 7);
      context.save();
      context.clip(lines);
      if (seen && this.looking) spectrogram(this.ideal);
      context.restore();
      this.axis.labels(context, HEIGHT);
      const across = (time) => ((time * 44100 + 256) / 256 / this.frames) * width;
      for (let time = 1; across(time) < width - 20; time++) {
        context.strokeText(`${time} s`, across(time), HEIGHT - 8);
        context.fillText(`${time} s`, across(time), HEIGHT - 8);
      }
      const tone = this.axis.bin(y * HEIGHT, HEIGHT);
      for (let f = 2 * tone; this.harmonics && f < BINS; f += tone) {
        lines.moveTo(x * width - radius, this.axis.y(f, HEIGHT));
        lines.lineTo(x * width + radius, this.axis.y(f, HEIGHT));
      }
      for (const [strokeStyle, lineWidth] of [["#000", 3], ["#fff", 1.5]]) {
        Object.assign(context, { strokeStyle, lineWidth });
        if (seen) context.stroke(lines);
        if (this.loop.source) context.stroke(new Path2D(`M${across(this.loop.position)} 0V${HEIGHT}`));
      }
    }

    look(on) {
      Object.assign(this, { looking: on, stale: true });
      this.say(on ? "The circle shows the ideal ratio mask; painting copies it" : "");
      this.picture.ask();
    }

    hear(name) {
      this.heard = name;
      Object.keys(SOUNDS).forEach((key, i) => this.sounds[i].setAttribute("aria-pressed", key === name));
      this.loop.set([this.work[this.source].sounds[name]]);
    }

    /** Sound and scores of the mask as it is. */
    async separate() {
      const { source, bench, layer, under } = this;
      const { mask, sounds, scores, score } = this.work[source];
      for (let i = 0; i < mask.length; i++) layer[i] = mask[i] / 255;
      await bench.put("masks", layer); // as the first source's: the last stem is what the others leave
      [sounds.painted] = await bench.stems();
      scores.painted = score(sounds.painted);
      if (source !== this.source) return;
      const rows = Object.keys(ROWS).filter((name) => scores[name]);
      this.table.fill(rows.map((name) => [ROWS[name], ...scores[name].map(told)]));
      this.hear(this.heard);
      if (under || this.under) return; // in the midst of a stroke
      const [SDR, SIR, SAR] = scores.painted.map(told);
      const change = Number((scores.painted[0] - scores.before).toFixed(2));
      scores.before = scores.painted[0];
      const by = change && Number.isFinite(change) ? ` (${sepkitKit.signed(change)})` : "";
      this.say(`${SOURCES[source]}, painted mask: SDR ${SDR}${by}, SIR ${SIR}, SAR ${SAR} dB`);
    }

    /* ---- Files: a byte for each bin, 255 for 1, frame by frame, compressed as gzip does ---- */

    pack(source) {
      return through(this.work[source].mask, new CompressionStream("gzip"));
    }

    async unpack(file) {
      const mask = await through(file, new DecompressionStream("gzip"));
      if (mask.length !== this.frames * BINS) throw new Error("a mask of another sound");
      return mask;
    }

    async save() {
      sepkitKit.save(await this.pack(this.source), `falcon-69-${this.source}-mask.gz`, "application/gzip");
    }

    async load(input) {
      const [file] = input.files;
      await this.unpack(file).then((mask) => this.replace(mask), () => this.say(`${file.name} is not a mask of this excerpt`));
      input.value = "";
    }

    /** Keep what is painted in this browser. */
    async remember() {
      const masks = {};
      for (const source of ORDER.filter((name) => this.work[name].mask !== this.work[name].start)) {
        masks[source] = btoa(Array.from(await this.pack(source), (byte) => String.fromCharCode(byte)).join(""));
      }
      store.set("paint-mask", { source: this.source, masks });
    }
  }
  PaintMask.title = "Paint a mask";
  PaintMask.parts = ["experiment3", "falcon-69-stems"];
  sepkitKit.define("paint-mask", PaintMask);
})();
