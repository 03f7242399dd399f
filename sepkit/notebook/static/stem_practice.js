/* What stands behind "More" of a <stem-player>: a loop from A to B, the tempo, spectrograms, files to
   save. stem_player.js loads it when a reader first asks for it. */
(() => {
  "use strict";
  if (globalThis.sepkitPractice) return;

  /** An element with attributes and content. */
  function make(tag, attributes = {}, ...content) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...content);
    return element;
  }

  function button(text, act, attributes = {}) {
    const element = make("button", { type: "button", ...attributes }, text);
    element.addEventListener("click", act);
    return element;
  }

  /* ---- Tempo ---- */

  /** Reads a sound at another tempo and the same pitch, all tracks alike: WSOLA (Verhelst and Roelands,
      1993). It puts hops of the sound side by side, each from where the sound that is heard continues
      best what was before. Since one place serves all tracks, they stay in step to the sample, and
      stems that add up to a mixture still do. No attack is repeated or left out, as long as that
      delays the sound by less than DRIFT. */
  class Stretch {
    static HOP = 0.024; // [s]
    static FADE = 0.012; // of a hop, from what was before
    static REACH = 0.0125; // how far from its due place a hop is looked for
    static DRIFT = 0.06;
    static FRAME = 0.004; // of what tells attacks

    constructor(sound, tempo, gains, from, end) {
      const samples = (time) => Math.round(time * sound.rate);
      Object.assign(this, { sound, tempo, gains, from, end });
      this.hop = samples(Stretch.HOP);
      this.fade = samples(Stretch.FADE);
      this.reach = samples(Stretch.REACH);
      this.drift = samples(Stretch.DRIFT);
      this.frame = samples(Stretch.FRAME);
      this.rise = Float32Array.from({ length: this.fade }, (_, i) => Math.sin((Math.PI / 2) * ((i + 0.5) / this.fade)) ** 2);
      this.place = from - this.hop; // of the hop before
      this.n_hops = 0;
      this.used = this.hop; // samples of the present hop
      this.powers = [];
    }

    /** The next samples: by track and channel. */
    read(count) {
      const { n_channels } = this.sound;
      const tracks = this.gains().map(() => Array.from({ length: n_channels }, () => new Float32Array(count)));
      for (let done = 0; done < count; ) {
        if (this.used === this.hop) this.next();
        // Up to the end of the fade, or of the hop.
        const fades = this.used < this.fade && this.place !== this.before;
        const n = Math.min(count - done, (fades ? this.fade : this.hop) - this.used);
        tracks.forEach((channels, track) =>
          channels.forEach((samples, channel) => {
            const next = this.samples(track, channel, this.place + this.used, n);
            samples.set(next, done);
            if (!fades) return;
            const before = this.samples(track, channel, this.before + this.used, n);
            for (let i = 0; i < n; i++) {
              samples[done + i] = before[i] + this.rise[this.used + i] * (next[i] - before[i]);
            }
          }),
        );
        done += n;
        this.used += n;
      }
      return tracks;
    }

    /** Samples of the sound; zeros before and after it. */
    samples(track, channel, start, count) {
      const stop = start + count;
      const { length } = this.sound;
      if (start >= 0 && stop <= length) return this.sound.read(track, channel, start, stop);
      const padded = new Float32Array(count);
      const [first, last] = [Math.max(start, 0), Math.min(stop, length)];
      if (first < last) padded.set(this.sound.read(track, channel, first, last), first - start);
      return padded;
    }

    /** What is heard, in one channel. */
    heard(start, count) {
      const sum = new Float32Array(count);
      this.gains().forEach((gain, track) => {
        for (let channel = 0; gain && channel < this.sound.n_channels; channel++) {
          const samples = this.samples(track, channel, start, count);
          for (let i = 0; i < count; i++) sum[i] += gain * samples[i];
        }
      });
      return sum;
    }

    next() {
      this.before = this.place + this.hop; // where the sound would go on
      // By the middle of the hop: the sound is then as often early as late.
      const due = this.from + (this.n_hops + 0.5) * this.hop * this.tempo - this.hop / 2;
      const last = Math.max(this.from, this.end - this.hop);
      this.n_hops++;
      this.used = 0;
      this.place = this.before;
      const off = Math.abs(this.before - due);
      if (off <= this.reach || this.n_hops === 1) return;
      const best = this.search(Math.round(Math.min(due, last)));
      if (off > this.drift || !this.attack(best)) this.place = best;
    }

    /** The place around another that continues best what was before. */
    search(due) {
      const { hop, reach } = this;
      const wanted = this.heard(this.before, hop);
      const around = this.heard(due - reach, hop + 2 * reach);
      const likeness = (a, b, lag) => {
        let [product, energy] = [0, 1e-9];
        for (let i = 0; i < a.length; i++) {
          product += a[i] * b[lag + i];
          energy += b[lag + i] * b[lag + i];
        }
        return product / Math.sqrt(energy);
      };
      const best = (a, b, first, last, start) => {
        let [found, highest] = [start, likeness(a, b, start)];
        for (let lag = Math.max(0, first); lag <= Math.min(last, b.length - a.length); lag++) {
          const value = likeness(a, b, lag);
          if (value > highest) [found, highest] = [lag, value];
        }
        return found;
      };
      // In steps of four samples, then of one.
      const coarse = (samples) =>
        Float32Array.from({ length: samples.length >> 2 }, (_, i) => samples[4 * i] + samples[4 * i + 1] + samples[4 * i + 2] + samples[4 * i + 3]);
      const [a, b] = [coarse(wanted), coarse(around)];
      const near = 4 * best(a, b, 0, b.length, Math.min(reach >> 2, b.length - a.length));
      return due - reach + best(wanted, around, near - 4, near + 4, Math.min(near, 2 * reach));
    }

    /** Whether an attack would be repeated, left out or cut by going on at a place. */
    attack(place) {
      const first = Math.floor(Math.min(place, this.before) / this.frame);
      const last = Math.ceil((Math.max(place, this.before) + this.fade) / this.frame);
      for (let i = first; i < last; i++) {
        let before = 1e-8;
        for (let k = 1; k <= 8; k++) before += this.power(i - k) / 8;
        if (this.power(i) > 8 * before) return true;
      }
      return false;
    }

    /** Power of the steps between samples in a frame: high where a sound begins. */
    power(index) {
      if (index < 0) return 0;
      if (this.powers[index] === undefined) {
        const samples = this.heard(index * this.frame, this.frame);
        let sum = 0;
        for (let i = 1; i < samples.length; i++) sum += (samples[i] - samples[i - 1]) ** 2;
        this.powers[index] = sum / samples.length;
      }
      return this.powers[index];
    }
  }

  /* ---- Spectrograms: as sepkit/notebook/player.py draws them ---- */

  const [HEIGHT, WIDTH, FRAME] = [96, 480, 4096];
  // 33 colors of matplotlib's scale "magma".
  const MAGMA = Uint8Array.from(
    (
      "0000030303110a0722120d331c1046281159350f6a430f7550127b5d177e691c80" +
      "7621818225818f2a809c2e7fa9327cb63679c33b74d0416fdc4869e65162ee5d5d" +
      "f56a5bf9795cfb8861fd9768fea671feb57cfec488fdd295fde1a3fcf0b1fbfcbf"
    ).match(/../g),
    (pair) => parseInt(pair, 16),
  );

  /** Fourier transform of FRAME complex numbers, in place. */
  function transform(re, im) {
    for (let i = 1, j = 0; i < FRAME; i++) {
      let bit = FRAME >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) [re[i], re[j], im[i], im[j]] = [re[j], re[i], im[j], im[i]];
    }
    for (let half = 1; half < FRAME; half *= 2) {
      for (let k = 0; k < half; k++) {
        const [c, s] = [Math.cos((Math.PI * k) / half), -Math.sin((Math.PI * k) / half)];
        for (let i = k; i < FRAME; i += 2 * half) {
          const [x, y] = [re[i + half] * c - im[i + half] * s, re[i + half] * s + im[i + half] * c];
          re[i + half] = re[i] - x;
          im[i + half] = im[i] - y;
          re[i] += x;
          im[i] += y;
        }
      }
    }
  }

  /** Levels of a track [dB], by column and row, the lowest frequency first. */
  async function levels(sound, track) {
    const { rate, length, n_channels } = sound;
    const mean = new Float64Array(length + FRAME);
    for (let channel = 0; channel < n_channels; channel++) {
      sound.read(track, channel, 0, length).forEach((sample, i) => (mean[i + FRAME / 2] += sample / n_channels));
    }
    const top = Math.min(16000, rate / 2);
    const edges = Array.from({ length: HEIGHT + 1 }, (_, i) => ((40 * (top / 40) ** (i / HEIGHT)) * FRAME) / rate);
    const [re, im] = [new Float64Array(FRAME), new Float64Array(FRAME)];
    const columns = [];
    for (let column = 0; column < WIDTH; column += 2) {
      const [one, two] = [column, column + 1].map((x) => Math.trunc((x * length) / (WIDTH - 1)));
      for (let i = 0; i < FRAME; i++) {
        const window = 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (FRAME - 1));
        re[i] = mean[one + i] * window;
        im[i] = mean[two + i] * window;
      }
      transform(re, im);
      // Two real frames at once: the second is the imaginary part.
      for (const sign of [1, -1]) {
        const power = new Float64Array(FRAME / 2 + 1);
        const upto = new Float64Array(FRAME / 2 + 2);
        for (let k = 0; k <= FRAME / 2; k++) {
          const mirror = (FRAME - k) % FRAME;
          const [x, y] = [re[k] + sign * re[mirror], im[k] - sign * im[mirror]];
          power[k] = (x * x + y * y) / 4;
          upto[k + 1] = upto[k] + power[k];
        }
        const integral = edges.map((edge) => {
          const below = Math.min(Math.floor(edge + 0.5), FRAME / 2);
          return upto[below] + (edge + 0.5 - below) * power[below];
        });
        columns.push(
          Float64Array.from({ length: HEIGHT }, (_, i) =>
            10 * Math.log10(Math.max((integral[i + 1] - integral[i]) / (edges[i + 1] - edges[i]), 1e-12)),
          ),
        );
      }
      if (column % 60 === 0) await new Promise((resolve) => setTimeout(resolve)); // the page stays awake
    }
    return columns;
  }

  /** A picture of levels, from 80 dB below the loudest on. */
  function draw(columns, loudest) {
    const canvas = make("canvas", { width: WIDTH, height: HEIGHT, class: "stem-spectrogram", "aria-hidden": "true" });
    const image = new ImageData(WIDTH, HEIGHT);
    columns.forEach((column, x) =>
      column.forEach((level, y) => {
        const shade = 32 * Math.min(1, Math.max(0, 1 + (level - loudest) / 80));
        const step = Math.min(31, Math.floor(shade));
        const at = 4 * ((HEIGHT - 1 - y) * WIDTH + x);
        for (let i = 0; i < 3; i++) {
          const [low, high] = [MAGMA[3 * step + i], MAGMA[3 * step + 3 + i]];
          image.data[at + i] = low + (shade - step) * (high - low);
        }
        image.data[at + 3] = 255;
      }),
    );
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  /* ---- The panel ---- */

  const SHORTEST = 0.1; // loop [s]

  function save(address, name) {
    make("a", { href: address, download: name, target: "_blank" }).click();
  }

  class Practice {
    constructor(player) {
      this.player = player;
      this.clock = player.constructor.clock;
      this.opener = player.querySelector('[data-action="more"]');
      this.panel = make("div", { class: "stem-more" }, this.loop(), this.tempo(), this.view(), this.files(), this.help());
      this.panel.hidden = true;
      player.querySelector(".stem-toolbar").after(this.panel);
    }

    toggle() {
      this.panel.hidden = !this.panel.hidden;
      this.opener.setAttribute("aria-expanded", !this.panel.hidden);
    }

    row(name, ...content) {
      return make("div", { class: "stem-option", role: "group", "aria-label": name }, make("span", { class: "stem-name", "aria-hidden": "true" }, name), ...content);
    }

    loop() {
      const { duration } = this.player;
      this.ends = make("span", { class: "stem-ends" });
      this.clear = button("Clear", () => this.choose(null));
      this.setA = button("Set A", () => this.set("a"));
      this.marks = ["A: start of the loop", "B: end of the loop"].map((label, i) => {
        const mark = make("input", {
          type: "range", class: `stem-mark stem-mark-${"ab"[i]}`, "aria-label": label, title: label,
          autocomplete: "off", min: 0, max: duration, step: 0.05,
        });
        mark.addEventListener("input", () => {
          this.player.passage = this.passage("ab"[i], Number(mark.value));
          this.show();
        });
        mark.addEventListener("change", () => this.player.seek(this.player.position));
        return mark;
      });
      this.show();
      return this.row("A–B loop", this.setA, button("Set B", () => this.set("b")), this.clear, this.ends);
    }

    /** The part from A to B when one of them is set to a time. */
    passage(mark, time) {
      const { duration } = this.player;
      const shortest = Math.min(SHORTEST, duration);
      let [a, b] = this.player.passage ?? [0, duration];
      if (mark === "a") a = Math.min(time, duration - shortest);
      else b = Math.max(time, shortest);
      if (b - a < shortest) [a, b] = mark === "a" ? [a, duration] : [0, b];
      return [a, b];
    }

    /** Set A or B at the current place. */
    set(mark) {
      this.choose(this.passage(mark, this.player.position));
      this.player.say(`Loop from ${this.ends.textContent.replace("–", "to")}`);
    }

    choose(part) {
      const { player } = this;
      player.passage = part;
      this.show();
      if (part && !player.loop) {
        this.pressed = true;
        player.setLoop(true);
      }
      if (part) return player.seek(player.position);
      if (this.pressed) player.setLoop(false);
      this.pressed = false;
      player.seek(player.position);
      player.say("");
      this.setA.focus();
    }

    show() {
      const { player, marks } = this;
      const { passage: part, duration } = player;
      this.clear.hidden = !part;
      this.ends.textContent = part ? part.map(this.clock).join(" – ") : "";
      player.classList.toggle("stem-part", Boolean(part));
      if (!part) return marks.forEach((mark) => mark.remove());
      if (!marks[0].isConnected) player.querySelector(".stem-bar").append(...marks);
      part.forEach((time, i) => {
        marks[i].value = time;
        marks[i].setAttribute("aria-valuetext", this.clock(time));
        player.style.setProperty(`--stem-${"ab"[i]}`, time / duration);
      });
    }

    tempo() {
      const text = make("span", { class: "stem-value" }, "100 %");
      const slider = make("input", {
        type: "range", class: "stem-tempo", "aria-label": "Tempo", "aria-valuetext": "100 %",
        autocomplete: "off", min: 0.5, max: 1.5, step: 0.05, value: 1,
      });
      slider.addEventListener("input", () => {
        text.textContent = `${Math.round(slider.value * 100)} %`;
        slider.setAttribute("aria-valuetext", text.textContent);
        slider.style.setProperty("--stem-fill", slider.value - 0.5);
      });
      slider.style.setProperty("--stem-fill", 0.5);
      slider.addEventListener("change", () => {
        const place = this.player.position; // by the tempo before
        this.player.tempo = Number(slider.value);
        this.player.seek(place);
      });
      return this.row("Tempo", slider, text);
    }

    view() {
      const { player } = this;
      this.pictured = Boolean(player.querySelector(".stem-spectrogram"));
      if (player.fromDisk && !this.pictured) return "";
      const toggle = button("Spectrogram", () => this.toggleView(toggle), { "aria-pressed": this.pictured });
      return this.row("View", toggle);
    }

    async toggleView(toggle) {
      const { player } = this;
      if (this.drawing) return;
      this.drawing = true;
      try {
        if (!this.pictured) await this.drawAll();
        else player.classList.toggle("stem-waveforms");
        toggle.setAttribute("aria-pressed", !player.classList.contains("stem-waveforms"));
      } catch (error) {
        player.say(`Spectrograms cannot be drawn (${error.message}).`);
      }
      this.drawing = false;
    }

    async drawAll() {
      const { player } = this;
      player.say("Computing the spectrograms …");
      const sound = await this.sound();
      const all = [];
      for (let track = 0; track < player.rows.length; track++) all.push(await levels(sound, track));
      let loudest = -Infinity;
      for (const column of all.flat()) for (const level of column) loudest = Math.max(loudest, level);
      player.rows.forEach((row, track) => row.querySelector("svg + .stem-playhead").before(draw(all[track], loudest)));
      this.pictured = true;
      player.say("");
    }

    /** The samples of all tracks. */
    async sound() {
      const { sound } = await this.player.open();
      if (!sound) throw new Error("this browser gives no samples");
      if (sound.ready < sound.length) throw new Error("the sound is not complete yet");
      return sound;
    }

    files() {
      const { player } = this;
      const kind = player.sound ? "wav" : "flac";
      const list = make("select", { "aria-label": "What to save", autocomplete: "off" });
      if (!player.fromDisk) list.append(make("option", { value: "mix" }, "The mix as it is heard (wav)"));
      player.rows.forEach((row, i) => list.append(make("option", { value: i }, `${row.getAttribute("aria-label")} (${kind})`)));
      return this.row("File", list, button("Save", () => this.save(list.value)));
    }

    async save(what) {
      const { player } = this;
      const title = player.querySelector(".stem-title").textContent;
      try {
        if (what !== "mix" && !player.sound) {
          const { label, address } = this.file(what);
          return save(address, `${title} - ${label}.flac`);
        }
        player.say("Making the file …");
        const { rate, length, n_channels, read } = await this.sound();
        let [name, channels] = ["", []];
        if (what === "mix") {
          const mix = await player.renderMix();
          channels = Array.from({ length: mix.numberOfChannels }, (_, i) => mix.getChannelData(i));
          name = `mix${this.told()}`;
        } else {
          name = this.file(what).label;
          channels = Array.from({ length: n_channels }, (_, i) => read(Number(what), i, 0, length));
        }
        const address = URL.createObjectURL(sepkitSound.wav(channels, rate));
        save(address, `${title} - ${name}.wav`);
        setTimeout(() => URL.revokeObjectURL(address), 60_000);
        player.say("");
      } catch (error) {
        player.say(`The file cannot be made (${error.message}).`);
      }
    }

    file(track) {
      const row = this.player.rows[track];
      return { label: row.getAttribute("aria-label"), address: this.player.urls[track] };
    }

    /** Part and tempo of a mix, for its name. */
    told() {
      const { passage: part, loop, tempo } = this.player;
      const ends = part && loop ? `, ${part.map((time) => time.toFixed(2)).join(" to ")} s` : "";
      return ends + (tempo === 1 ? "" : `, tempo ${Math.round(100 * tempo)} %`);
    }

    help() {
      const keys =
        "Keys: A and B set the loop at the current place, ← and → move a mark. In the list ↑ and ↓ go from " +
        "track to track, S plays a track alone, M mutes it.";
      const disk =
        " Opened from disk: the loop is exact to a tenth of a second, and a stem opens in a tab of its own, " +
        "where it can be saved; the mix can be saved on the site.";
      return make("p", { class: "stem-help" }, this.player.fromDisk ? keys + disk : keys);
    }
  }

  globalThis.sepkitPractice = { Practice, Stretch };
})();
