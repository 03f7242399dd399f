/* A frame, wave by wave: a window is moved over half a second of sound; beside it stands its spectrum, and
   the sum of its strongest waves approaches the frame. The sound comes with the element, in its attribute
   `sound` (a file of one channel in Base64), or from the microphone. */
(() => {
  "use strict";
  const { make, button, slider, choice, Table, Picture, MelAxis, Loop, Fourier, latest, onFrame } = sepkitKit;

  const RATE = 44100;
  const LENGTH = RATE / 2;
  const LENGTHS = [256, 512, 1024, 2048, 4096];
  const COUNTS = [...Array.from({ length: 20 }, (_, k) => k + 1), 25, 30, 40, 50, 70, 100, 140, 200, 300, 400, 600, 900, 1300, Infinity];
  const HOPS = { 0.125: "N/8", 0.25: "N/4", 0.375: "3N/8", 0.5: "N/2", 0.75: "3N/4", 1: "N" };
  const cosines = (...a) => (n, N) => a.reduce((sum, x, i) => sum + x * Math.cos((2 * Math.PI * i * n) / N), 0);
  const WINDOWS = {
    Hann: cosines(0.5, -0.5),
    "none (rectangular)": () => 1,
    "Blackman-Harris": (n, N) => cosines(0.35875, -0.48829, 0.14128, -0.01168)(n, N - 1),
    triangle: (n, N) => 1 - Math.abs((2 * n) / N - 1),
  };
  const SOUNDS = { sum: "the sum, repeated", frame: "the frame, repeated", excerpt: "half a second, each frame from its strongest waves" };
  const [BLUE, ORANGE] = ["#0072b2", "#d55e00"];

  const energyOf = (x) => sepkitKit.dot(x, x);
  const short = (x, digits) => (Number(x.toFixed(digits)) + 0).toFixed(digits).replace("-", "−");
  const breathe = () => new Promise((done) => setTimeout(done));

  /** Keep the strongest bins of a spectrum: their numbers, strongest first, and the samples of their sum. */
  function strongest(fourier, { re, im }, count) {
    const power = re.map((x, k) => x * x + im[k] * im[k]);
    const bins = Array.from(power.keys()).sort((a, b) => power[b] - power[a]).slice(0, count);
    const kept = { re: new Float64Array(re.length), im: new Float64Array(re.length) };
    for (const k of bins) [kept.re[k], kept.im[k]] = [re[k], im[k]];
    return { bins, sum: fourier.inverse(kept) };
  }

  /** By how much overlap-add with squared windows raises each sample of one hop. */
  function gainOf(taper, hop) {
    const gain = new Float64Array(hop);
    taper.forEach((w, n) => (gain[n % hop] += w * w));
    return gain;
  }

  class BuildFrame extends sepkitKit.Explorer {
    async build() {
      const bytes = sepkitEngine.fromBase64(this.getAttribute("sound"));
      const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes.buffer);
      this.song = this.samples = decoded.getChannelData(0).slice(0, LENGTH);
      Object.assign(this, { rate: RATE, start: Number(this.getAttribute("start") ?? 0), count: 5, N: 1024, part: 0.25, name: "Hann", heard: "sum" });
      const picture = (height, draw, interactive = false) => new Picture({ label: "A picture", height, interactive, draw: draw.bind(this) });
      this.wave = picture(110, this.drawWave, true);
      this.frame = picture(170, this.drawFrame);
      this.spectrum = picture(170, this.drawSpectrum);
      this.loop = new Loop(RATE);
      this.numbers = make("p", { class: "kit-scores" });
      this.table = new Table("The strongest waves", ["bin k", "frequency", "amplitude", "phase"]);
      const set = (name) => (value) => {
        this[name] = value;
        this.ask();
      };
      const counts = { label: "Waves", values: COUNTS, value: 5, show: (k) => (k === Infinity ? "all" : String(k)) };
      const lengths = { label: "Frame length N", values: LENGTHS, value: 1024, show: (N) => `${N}` };
      const hops = { label: "Hop", values: Object.keys(HOPS).map(Number).sort(), value: 0.25, show: (part) => `${part * this.N} = ${HOPS[part]}` };
      this.hop = slider(hops, set("part"));
      const length = slider(lengths, (N) => {
        this.N = N;
        this.hop.set(this.part);
        this.ask();
      });
      this.microphone = button("Use the microphone", () => (this.stream ? this.hold() : this.listen()));
      this.back = button("Back to the song", () => this.useSong(), { hidden: true });
      const two = "display: grid; gap: 0.5rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr))";
      const notice = (text) => make("p", { class: "kit-notice" }, text);
      this.stage.append(
        this.wave.canvas,
        notice("Half a second. Drag the window, or choose the picture and use the arrow keys (one hop; with Shift one sample). Orange: the gain of overlap-add."),
        make("div", { style: two }, this.frame.canvas, this.spectrum.canvas),
        notice("Gray: the windowed frame. Blue: its strongest waves and their sum. Orange: the last wave that was added."),
        slider(counts, set("count")), this.numbers,
        make("div", { style: two }, length, this.hop, choice("Window", Object.fromEntries(Object.keys(WINDOWS).map((x) => [x, x])), "Hann", set("name")),
          choice("Listen to", SOUNDS, "sum", set("heard"))),
        make("div", { class: "kit-row" }, this.loop.element, this.microphone, this.back),
        notice("The microphone is asked for only when you press its button. Its sound stays in this page: nothing is stored or sent."),
        this.table.element,
      );
      this.resound = latest(() => this.sound());
      this.ask = onFrame(() => this.update());
      this.listenToKeys();
      this.update();
      this.tell();
    }

    listenToKeys() {
      const { canvas } = this.wave;
      const place = (event) => {
        const x = (this.wave.at(event).x / canvas.clientWidth) * LENGTH;
        this.moveTo(Math.round(x - this.grip));
      };
      canvas.addEventListener("pointerdown", (event) => {
        const x = (this.wave.at(event).x / canvas.clientWidth) * LENGTH;
        const inside = x >= this.start && x <= this.start + this.N;
        this.grip = inside ? x - this.start : this.N / 2;
        canvas.setPointerCapture(event.pointerId);
        place(event);
      });
      canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && place(event));
      canvas.addEventListener("keydown", (event) => {
        const step = event.shiftKey ? 1 : this.part * this.N;
        const to = { ArrowLeft: this.start - step, ArrowRight: this.start + step, Home: 0, End: LENGTH }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        this.moveTo(to);
      });
    }

    moveTo(start) {
      this.start = start;
      this.ask();
    }

    /* What is computed. */

    update() {
      const { N, part, name, rate } = this;
      this.start = Math.min(LENGTH - N, Math.max(0, this.start));
      if (this.fourier?.size !== N) this.fourier = new Fourier(N);
      this.taper = Float64Array.from({ length: N }, (_, n) => WINDOWS[name](n, N));
      this.windowed = this.taper.map((w, n) => w * this.samples[this.start + n]);
      this.bins = this.fourier.forward(this.windowed);
      const { bins, sum } = strongest(this.fourier, this.bins, this.count);
      Object.assign(this, { chosen: bins, sum });
      const missing = energyOf(this.windowed.map((x, n) => x - sum[n]));
      this.error = sepkitKit.decibels(missing / energyOf(this.windowed));
      this.gain = gainOf(this.taper, part * N);
      const mean = this.gain.reduce((a, b) => a + b) / this.gain.length;
      this.gain = this.gain.map((g) => g / mean);
      const all = bins.length > N / 2;
      const told = all ? `All ${bins.length} waves: the sum is the frame` : `${bins.length} of ${N / 2 + 1} waves: what is missing has ${sepkitKit.inDecibels(this.error, 2)} of the frame's energy`;
      const swing = `${short(Math.min(...this.gain), 2)} to ${short(Math.max(...this.gain), 2)}`;
      this.numbers.textContent = `${told}. A frame lasts ${short((1000 * N) / rate, 1)} ms, bins are ${short(rate / N, 1)} Hz apart. Gain: ${swing} of its mean.`;
      clearTimeout(this.timer);
      if (!this.stream) this.timer = setTimeout(() => this.tell(), 250);
      for (const picture of [this.wave, this.frame, this.spectrum]) picture.paint();
    }

    /** What follows when nothing has changed for a moment: words, table, sound. */
    tell() {
      const { chosen, bins, N, rate } = this;
      const hertz = (k) => `${short((k * rate) / N, 0)} Hz`;
      this.table.fill(chosen.slice(0, 20).map((k) => {
        const amplitude = ((k % (N / 2) ? 2 : 1) * Math.hypot(bins.re[k], bins.im[k])) / N;
        return [k, hertz(k), short(amplitude, 5), short(Math.atan2(bins.im[k], bins.re[k]), 2)];
      }));
      const where = `${short((1000 * this.start) / rate, 0)} ms`;
      this.wave.say(`Half a second of sound; the window begins at ${where}. Arrow keys move it by one hop, with Shift by one sample.`);
      this.frame.say(`The windowed frame and the sum of its ${chosen.length} strongest waves.`);
      this.spectrum.say(`Spectrum of the frame, strongest at ${hertz(chosen[0])}.`);
      this.say(`Frame at ${where}, strongest wave at ${hertz(chosen[0])}. Missing after ${chosen.length}: ${sepkitKit.inDecibels(this.error, 2)}.`);
      this.resound();
    }

    async sound() {
      if (this.heard !== "excerpt") return this.loop.set([Float32Array.from(this.heard === "sum" ? this.sum : this.windowed)]);
      this.loop.set([await this.rebuild()]);
    }

    /** Every frame of the half second from its strongest waves; overlap-add, divided by the mean gain. */
    async rebuild() {
      const { N, fourier, taper, samples, count } = this;
      const hop = this.part * N;
      const sound = new Float32Array(LENGTH);
      const mean = energyOf(taper) / hop;
      for (let start = -2 * N, i = 0; start < LENGTH; start += hop, i++) {
        const { sum } = strongest(fourier, fourier.forward(taper.map((w, n) => w * (samples[start + n] ?? 0))), count);
        const stop = Math.min(N, LENGTH - start);
        for (let n = Math.max(0, -start); n < stop; n++) sound[start + n] += (taper[n] * sum[n]) / mean;
        if (i % 8 === 7) await breathe();
      }
      return sound;
    }

    /* The microphone. */

    async listen() {
      if (this.asking) return;
      this.asking = true;
      try {
        if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("", "NotSupportedError");
        const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
        this.stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
      } catch ({ name }) {
        return this.say({
          NotAllowedError: "The browser refused the microphone. Allow it in the settings of this page, at the left of the address, and press the button again. Some browsers refuse it to every page from disk: then open the page on its site.",
          NotFoundError: "There is no microphone. Connect one and press the button again.",
          NotSupportedError: "This browser gives pages like this one no microphone. Open the page over https, or in another browser.",
        }[name] ?? `The microphone cannot be used (${name}). Close other programs that use it and press the button again.`);
      } finally {
        this.asking = false;
      }
      this.loop.stop(); // or the microphone would hear it
      this.context = new AudioContext();
      this.rate = this.loop.rate = this.context.sampleRate;
      const listener = new AnalyserNode(this.context, { fftSize: 32768 });
      this.context.createMediaStreamSource(this.stream).connect(listener);
      this.microphone.textContent = "Hold this half second";
      this.back.hidden = false;
      this.say("The microphone is on. The pictures show the latest half second.");
      const heard = new Float32Array(32768);
      const next = () => {
        if (!this.stream || !this.isConnected) return;
        const { top, bottom } = this.getBoundingClientRect();
        if (bottom > 0 && top < innerHeight) {
          listener.getFloatTimeDomainData(heard);
          this.samples = heard.slice(-LENGTH);
          this.update();
          requestAnimationFrame(next);
        } else setTimeout(next, 300); // out of sight
      };
      next();
    }

    hold() {
      for (const track of this.stream?.getTracks() ?? []) track.stop();
      this.context?.close();
      this.stream = this.context = null;
      this.microphone.textContent = "Use the microphone";
      this.update();
    }

    useSong() {
      this.samples = this.song;
      this.rate = this.loop.rate = RATE;
      this.hold();
      this.back.hidden = true;
      this.microphone.focus();
    }

    /* What is drawn. */

    drawWave(context, width, height, colors) {
      const { start, N, taper, gain } = this;
      const { low, high, peak } = this.envelope(Math.ceil(width));
      const x = (n) => (n / LENGTH) * width;
      const y = (value) => height / 2 - (value / peak) * (height / 2 - 4);
      context.fillStyle = "#0072b233";
      context.fillRect(x(start), 0, x(N), height);
      context.fillStyle = colors.text;
      context.globalAlpha = 0.55;
      low.forEach((value, i) => context.fillRect(i, y(high[i]), 1, Math.max(1, y(value) - y(high[i]))));
      context.globalAlpha = 1;
      line(context, BLUE, 2, N, (n) => [x(start + n), height - 2 - taper[n] * (height - 6)]);
      line(context, ORANGE, 1.5, Math.ceil(width), (column) => [column, height - 2 - (gain[Math.floor((column * LENGTH) / width) % gain.length] / 3) * (height - 6)]);
    }

    /** Lowest and highest sample in each column of a picture. */
    envelope(columns) {
      const { samples } = this;
      if (this.drawn?.samples === samples && this.drawn.columns === columns) return this.drawn;
      const [low, high] = [new Float32Array(columns).fill(1), new Float32Array(columns).fill(-1)];
      for (let n = 0; n < LENGTH; n++) {
        const i = Math.floor((n * columns) / LENGTH);
        low[i] = Math.min(low[i], samples[n]);
        high[i] = Math.max(high[i], samples[n]);
      }
      const peak = Math.max(0.02, -Math.min(...low), Math.max(...high));
      return (this.drawn = { samples, columns, low, high, peak });
    }

    drawFrame(context, width, height, colors) {
      const { windowed, sum, N, chosen, bins } = this;
      const peak = Math.max(0.01, ...windowed.map(Math.abs));
      const step = Math.max(1, Math.floor(N / (3 * width)));
      const points = N / step;
      const at = (values) => (i) => [((i * step) / N) * width, height / 2 - (values(Math.floor(i * step)) / peak) * (height / 2 - 6)];
      const last = chosen.at(-1);
      const double = last % (N / 2) ? 2 : 1;
      const wave = (n) => (double / N) * (bins.re[last] * Math.cos((2 * Math.PI * last * n) / N) - bins.im[last] * Math.sin((2 * Math.PI * last * n) / N));
      line(context, colors.dark ? "#aaa" : "#888", 3, points, at((n) => windowed[n]));
      line(context, ORANGE, 1, points, at(wave));
      line(context, BLUE, 1.5, points, at((n) => sum[n]));
    }

    drawSpectrum(context, width, height, colors) {
      const { bins, chosen, N, rate } = this;
      const axis = new MelAxis(16000, N / 2 + 1, rate);
      const x = (k) => width - axis.y(k, width);
      const bottom = height - 18;
      const y = (k) => {
        const level = 20 * Math.log10(Math.max(1e-9, (2 * Math.hypot(bins.re[k], bins.im[k])) / N));
        return Math.min(bottom, Math.max(2, (-level / 110) * bottom));
      };
      context.font = "11px system-ui, sans-serif";
      const all = Math.min(N / 2, Math.floor(16000 / axis.width));
      line(context, colors.dark ? "#aaa" : "#888", 1.2, all + 1, (k) => [x(k), y(k)]);
      Object.assign(context, { fillStyle: colors.text, strokeStyle: colors.ground, lineWidth: 4, textAlign: "left", textBaseline: "middle" });
      for (const level of [-20, -50, -80]) {
        const height = (-level / 110) * bottom;
        context.fillRect(0, height, 4, 1);
        context.strokeText(`${short(level, 0)} dB`, 7, height);
        context.fillText(`${short(level, 0)} dB`, 7, height);
      }
      context.textAlign = "center";
      for (const [f, text] of [[250, "250"], [1000, "1 kHz"], [4000, "4"], [10000, "10 kHz"]]) {
        context.fillRect(x(f / axis.width), bottom, 1, 4);
        context.fillText(text, x(f / axis.width), height - 6);
      }
      chosen.forEach((k, i) => {
        context.fillStyle = i === chosen.length - 1 ? ORANGE : BLUE;
        context.fillRect(x(k) - 1, y(k), 2, bottom - y(k));
        if (chosen.length <= 100) context.fillRect(x(k) - 3, y(k) - 3, 6, 6);
      });
    }
  }

  function line(context, color, lineWidth, n, place) {
    Object.assign(context, { strokeStyle: color, lineWidth });
    context.beginPath();
    for (let i = 0; i < n; i++) context.lineTo(...place(i));
    context.stroke();
  }

  BuildFrame.title = "A frame, wave by wave";
  sepkitKit.define("build-frame", BuildFrame);
})();
