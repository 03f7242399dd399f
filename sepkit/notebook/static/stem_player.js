/* <stem-player>: the tracks of a song on one clock. The markup, labels and waveforms included, is
   written by sepkit/notebook/player.py; this script brings it to life. */
(() => {
  "use strict";
  if (customElements.get("stem-player")) return; // each output of a notebook brings its own copy

  // A site keeps the sound beside this script, whatever the depth of the page. In a notebook the
  // script is inline and the sound in data: addresses, which need no base.
  const script = document.currentScript?.src;
  const base = script ? new URL("audio/", script) : undefined;

  function loadScript(name) {
    return new Promise((resolve, reject) => {
      const element = document.createElement("script");
      element.src = new URL(`${name}.js`, script);
      element.onload = resolve;
      element.onerror = () => reject(new Error(`${name}.js is missing`));
      document.head.append(element);
    });
  }

  /** What stands behind "More", loaded when it is first asked for; a notebook has it in its output. */
  async function loadPractice() {
    if (!globalThis.sepkitSound) await loadScript("sound_files");
    if (!globalThis.sepkitPractice) await loadScript("stem_practice");
    return sepkitPractice;
  }

  const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

  let current = null; // the one player of the page that may sound
  document.addEventListener("sepkit-sound", ({ detail }) => {
    if (current !== detail) current?.pause();
    current = detail instanceof StemPlayer ? detail : null;
  });

  const FADE = 0.01; // at both ends of what is played [s], since a step in the sound clicks

  const fileName = (url) => (url.protocol === "data:" ? "embedded" : url.pathname.split("/").pop());

  async function bytes(url) {
    if (url.protocol === "data:") {
      // Not by fetch, which a notebook's content security policy may forbid.
      const text = atob(url.pathname.slice(url.pathname.indexOf(",") + 1));
      return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
    }
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${fileName(url)}: ${response.status}`);
    return response.arrayBuffer();
  }

  function happened(target, event, failure) {
    return new Promise((resolve, reject) => {
      target.addEventListener(event, resolve, { once: true });
      target.addEventListener("error", () => reject(new Error(failure)), { once: true });
    });
  }

  /** Fade both ends of a buffer, and so the seam of a loop, in place. */
  function fadeEnds(buffer, first = true, last = true) {
    const length = Math.min(Math.round(FADE * buffer.sampleRate), buffer.length >> 1);
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const samples = buffer.getChannelData(channel);
      for (let i = 0; i < length; i++) {
        const gain = Math.sin((Math.PI / 2) * (i / length)) ** 2;
        if (first) samples[i] *= gain;
        if (last) samples[samples.length - 1 - i] *= gain;
      }
    }
    return buffer;
  }

  /** Wait until a context runs. */
  function running(context) {
    const late = new Promise((_, reject) => {
      setTimeout(reject, 4000, new Error("the browser gives no sound output"));
    });
    return Promise.race([context.resume(), late]);
  }

  /** Decoded tracks, all started at one time of one audio context: in step to the sample. */
  class DecodedTracks {
    constructor(urls, rate) {
      this.urls = urls;
      this.loop = false;
      this.nodes = [];
      // Resumed here, within the click, or Safari keeps it silent. At the tracks' own rate
      // nothing is resampled.
      this.context = new AudioContext({ sampleRate: rate });
      this.context.resume();
    }

    async load() {
      this.buffers = await Promise.all(
        this.urls.map(async (url) => fadeEnds(await this.context.decodeAudioData(await bytes(url)))),
      );
    }

    async start(offset, gains, onended) {
      await running(this.context);
      if (this.replaced) return;
      this.stop();
      // Whole samples: in between, the browser interpolates, and treble is lost.
      const whole = (time) => Math.round(time * this.context.sampleRate) / this.context.sampleRate;
      this.offset = whole(offset);
      this.when = whole(this.context.currentTime + 0.03);
      this.fade = new GainNode(this.context, { gain: 0 });
      this.fade.connect(this.context.destination);
      this.fade.gain.setTargetAtTime(1, this.when, FADE / 4);
      this.nodes = this.wire(this.fade, gains, this.when, this.offset);
      this.nodes[0].source.onended = onended;
    }

    /** Source and gain of every track, into a node of the live context or of one that renders. */
    wire(output, gains, when, offset) {
      const { context } = output;
      return this.buffers.map((buffer, index) => {
        const source = new AudioBufferSourceNode(context, { buffer, loop: this.loop });
        const gain = new GainNode(context, { gain: gains[index] });
        source.connect(gain).connect(output);
        source.start(when, offset);
        return { source, gain };
      });
    }

    /** The mix that these gains make, computed instead of played. */
    render(gains) {
      const { length, sampleRate } = this.buffers[0];
      const channels = Math.max(...this.buffers.map((buffer) => buffer.numberOfChannels));
      const context = new OfflineAudioContext(channels, length, sampleRate);
      this.wire(context.destination, gains, 0, 0);
      return context.startRendering();
    }

    stop() {
      const now = this.context.currentTime;
      this.fade?.gain.cancelScheduledValues(now).setTargetAtTime(0, now, FADE / 4);
      for (const { source } of this.nodes) {
        source.onended = null;
        source.stop(now + 2 * FADE);
      }
      this.nodes = [];
    }

    get position() {
      const elapsed = Math.max(0, this.context.currentTime - this.when);
      return (this.offset + elapsed) % this.buffers[0].duration;
    }

    setGains(gains) {
      // Over some hundredths of a second, so that switching between tracks does not click.
      const now = this.context.currentTime;
      this.nodes.forEach(({ gain }, index) => gain.gain.setTargetAtTime(gains[index], now, 0.01));
    }

    setLoop(loop) {
      this.loop = loop;
      for (const { source } of this.nodes) source.loop = loop;
    }

    /** These tracks as StreamedTracks take them. */
    get sound() {
      const { buffers } = this;
      const [{ length, sampleRate: rate }] = buffers;
      const n_channels = Math.max(...buffers.map((buffer) => buffer.numberOfChannels));
      const read = (track, channel, start, stop) => {
        const last = buffers[track].numberOfChannels - 1;
        return buffers[track].getChannelData(Math.min(channel, last)).subarray(start, stop);
      };
      return { rate, length, n_channels, ready: length, read };
    }

    close() {
      this.stop();
      this.context.close();
    }
  }

  const AHEAD = 1; // how long before it is heard a piece is scheduled [s]

  /** Reads all tracks of a sound from a sample on, piece by piece: by track and channel. */
  class Reader {
    constructor(sound, n_tracks, from) {
      Object.assign(this, { sound, n_tracks, next: from });
    }

    read(count) {
      const start = this.next;
      this.next += count;
      return Array.from({ length: this.n_tracks }, (_, track) =>
        Array.from({ length: this.sound.n_channels }, (_, channel) =>
          this.sound.read(track, channel, start, this.next),
        ),
      );
    }
  }

  /** Tracks whose samples a script gives (`sound` of a player), perhaps while it still makes them:
      { rate, length, n_channels, ready, read(track, channel, start, stop) }, in samples. In step to
      the sample, since all pieces start by one clock; where samples are not ready, it waits. */
  class StreamedTracks {
    constructor(sound, context = new AudioContext({ sampleRate: sound.rate })) {
      this.sound = sound;
      this.loop = false;
      this.passage = null; // what a loop plays [s, s]; null for all
      this.tempo = 1; // seconds of the song in one that is heard
      this.context = context;
      this.context.resume();
    }

    async load() {}

    async start(offset, gains, onended) {
      await running(this.context);
      this.stop();
      this.onended = onended;
      this.gains = gains;
      this.fade = new GainNode(this.context, { gain: 0 });
      this.fade.connect(this.context.destination);
      this.fade.gain.setTargetAtTime(1, this.context.currentTime + 0.03, FADE / 4);
      this.gainNodes = gains.map((gain) => {
        const node = new GainNode(this.context, { gain });
        node.connect(this.fade);
        return node;
      });
      this.runs = [];
      this.run(Math.min(Math.round(offset * this.sound.rate), this.sound.length - 1), this.soon);
      this.timer = setInterval(() => this.schedule(), 100);
      this.schedule();
    }

    /** A time just ahead, of a whole sample: in between, the browser interpolates. */
    get soon() {
      const { rate } = this.sound;
      return Math.ceil((this.context.currentTime + 0.03) * rate) / rate;
    }

    /** The first sample that a loop plays, and the one after its last. */
    get bounds() {
      const { length, rate } = this.sound;
      const part = this.loop && this.passage?.map((time) => Math.round(time * rate));
      return part ? [part[0], Math.min(part[1], length)] : [0, length];
    }

    /** What reads the sound at this tempo from a sample on, up to another. */
    reader(from, end) {
      const { sound, tempo } = this;
      if (tempo === 1) return new Reader(sound, this.gains.length, from);
      return new sepkitPractice.Stretch(sound, tempo, () => this.gains, from, end);
    }

    /** From a sample on, pieces sound one after another from this time on. */
    run(from, when) {
      this.next = from; // the first sample that is not scheduled
      this.made = 0; // samples scheduled of this run
      this.source = this.reader(from, this.bounds[1]);
      this.runs.push({ from, when });
    }

    /** When the next piece is due. */
    get due() {
      return this.runs.at(-1).when + this.made / this.sound.rate;
    }

    /** Schedule pieces of half a second, up to a second ahead. */
    schedule() {
      const { rate, length } = this.sound;
      const [begin, end] = this.bounds;
      const now = this.context.currentTime;
      while (this.due < now + AHEAD) {
        if (this.next >= end) {
          if (this.loop) this.run(begin, this.due);
          else {
            if (this.due <= now) this.finish();
            return;
          }
        }
        let { ready } = this.sound;
        // Stretched sound is put together from samples a little further on.
        if (this.tempo !== 1 && ready < length) ready -= rate;
        const stop = Math.min(this.next + Math.round((rate / 2) * this.tempo), end, ready);
        if (stop <= this.next) return; // it is not there yet
        if (this.due < now) this.run(this.next, this.soon); // it came late
        const count = Math.round((stop - this.runs.at(-1).from) / this.tempo) - this.made;
        const tracks = count ? this.source.read(count) : [];
        tracks.forEach((channels, track) => {
          const buffer = this.piece(channels, stop === end);
          const source = new AudioBufferSourceNode(this.context, { buffer });
          source.connect(this.gainNodes[track]);
          source.start(this.due);
        });
        this.made += count;
        this.next = stop;
      }
    }

    /** A piece of a track, faded where a loop goes back: a step in the sound clicks. */
    piece(channels, last) {
      const { length } = channels[0];
      const buffer = new AudioBuffer({
        sampleRate: this.sound.rate,
        numberOfChannels: channels.length,
        length,
      });
      channels.forEach((samples, channel) => buffer.copyToChannel(samples, channel));
      const rises = this.made === 0 && this.runs.length > 1;
      if (rises || last) fadeEnds(buffer, rises, last);
      return buffer;
    }

    /** The mix that these gains make of all that would play, computed instead of played. */
    async render(gains) {
      const { rate: sampleRate, n_channels: numberOfChannels } = this.sound;
      const [begin, end] = this.bounds;
      this.gains = gains;
      const length = Math.round((end - begin) / this.tempo);
      const mix = new AudioBuffer({ sampleRate, numberOfChannels, length });
      const source = this.reader(begin, end);
      for (let at = 0; at < length; at += sampleRate) {
        const tracks = source.read(Math.min(sampleRate, length - at));
        for (let channel = 0; channel < numberOfChannels; channel++) {
          const sum = mix.getChannelData(channel).subarray(at);
          tracks.forEach((channels, track) => {
            if (!gains[track]) return;
            channels[channel].forEach((sample, i) => (sum[i] += gains[track] * sample));
          });
        }
        await new Promise((resolve) => setTimeout(resolve)); // the page stays awake
      }
      return fadeEnds(mix);
    }

    finish() {
      this.stop();
      this.onended();
    }

    stop() {
      clearInterval(this.timer);
      const { fade } = this;
      const now = this.context.currentTime;
      fade?.gain.cancelScheduledValues(now).setTargetAtTime(0, now, FADE / 4);
      // What is scheduled already then sounds into nothing.
      if (fade) setTimeout(() => fade.disconnect(), 4000 * FADE);
      this.fade = null;
    }

    get position() {
      const now = this.context.currentTime;
      const { from, when } = this.runs.findLast((run) => run.when <= now) ?? this.runs[0];
      const sample = from + Math.max(0, now - when) * this.sound.rate * this.tempo;
      return Math.min(sample, this.sound.length) / this.sound.rate;
    }

    setGains(gains) {
      this.gains = gains;
      const now = this.context.currentTime;
      this.gainNodes?.forEach((node, i) => node.gain.setTargetAtTime(gains[i], now, 0.01));
    }

    setLoop(loop) {
      this.loop = loop;
    }

    close() {
      this.stop();
      this.context.close();
    }
  }

  /** Tracks as <audio> elements, for a page opened from disk, where no script may read files.
      Each has a clock of its own: those that stray are set back to the first that is heard. */
  class MediaTracks {
    constructor(urls, rate, loudest) {
      this.loop = false;
      this.passage = null;
      this.loudest = loudest; // gain: elements have no volume above 1
      this.lastFrame = 4096 / rate; // of FLAC [s]; Chromium fails to seek into it
      this.note = "Opened from disk: tracks keep step to a few hundredths of a second.";
      this.players = urls.map((url) => Object.assign(new Audio(), { preload: "auto", src: url }));
    }

    async load() {
      await Promise.all(
        this.players.map((player) => {
          player.load();
          const name = fileName(new URL(player.src));
          return happened(player, "canplay", `${name}: missing, or no sound to this browser`);
        }),
      );
    }

    async start(offset, gains, onended) {
      this.onended = onended;
      this.setGains(gains);
      const time = Math.max(0, Math.min(offset, this.leader.duration - this.lastFrame));
      await Promise.all(
        this.players.map((player) => {
          player.currentTime = time;
          return happened(player, "seeked", "the browser cannot seek");
        }),
      );
      this.stop();
      await Promise.all(this.players.map((player) => player.play()));
      this.timer = setInterval(() => this.keepInStep(), 100);
    }

    keepInStep() {
      if (this.leader.ended) {
        this.stop();
        if (this.loop) this.start(0, this.gains, this.onended).catch(this.onended);
        else this.onended();
        return;
      }
      const time = this.leader.currentTime;
      const [begin, end] = (this.loop && this.passage) || [0, Infinity];
      if (time >= end - 0.05) {
        this.start(begin, this.gains, this.onended).catch(this.onended);
        return;
      }
      if (time > this.leader.duration - this.lastFrame) return;
      for (const player of this.players) {
        if (Math.abs(player.currentTime - time) > 0.04) player.currentTime = time;
      }
    }

    stop() {
      clearInterval(this.timer);
      for (const player of this.players) player.pause();
    }

    get position() {
      return this.leader.currentTime;
    }

    setGains(gains) {
      this.gains = gains;
      this.players.forEach((player, index) => {
        player.volume = gains[index] / this.loudest;
        player.muted = gains[index] === 0; // iPhones ignore volume
      });
      this.leader = this.players.find((player) => !player.muted) ?? this.players[0];
    }

    setLoop(loop) {
      this.loop = loop;
    }

    set tempo(tempo) {
      for (const player of this.players) player.playbackRate = tempo; // the pitch stays
    }

    close() {
      this.stop();
      for (const player of this.players) player.removeAttribute("src");
    }
  }

  const spoken = (time) => `${Math.floor(time / 60)} min ${Math.floor(time % 60)} s`;
  const sameSet = (a, b) => a.size === b.size && [...a].every((member) => b.has(member));
  const press = (button, pressed) => button?.setAttribute("aria-pressed", String(pressed));

  function clock(time) {
    const tenths = Math.floor(time * 10 + 1e-6);
    const seconds = Math.floor(tenths / 10);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}.${tenths % 10}`;
  }

  class StemPlayer extends HTMLElement {
    static clock = clock;

    connectedCallback() {
      if (this.rows) return;
      // With the script in the page's head, the element is met before its content.
      if (document.readyState !== "loading") this.setUp();
      else document.addEventListener("DOMContentLoaded", () => this.setUp(), { once: true });
    }

    disconnectedCallback() {
      this.pause();
      queueMicrotask(() => this.isConnected || this.release()); // unless moved within the page
    }

    setUp() {
      const part = (name) => this.querySelector(`.stem-${name}`);
      this.button = part("play");
      this.slider = part("seek");
      this.now = part("now");
      this.status = part("status");
      this.rows = [...this.querySelectorAll(".stem-track")];
      // Headings and tracks, each with its controls: one stop of the Tab key.
      this.lines = [...this.querySelectorAll(".stem-together, .stem-track")].map((line) =>
        line.matches("button") ? [line] : [...line.querySelectorAll("button, input")],
      );
      this.setStop(this.lines[0][0]);
      const indices = (rows) => new Set([...rows].map((row) => this.rows.indexOf(row)));
      this.groups = [...this.querySelectorAll(".stem-group")].map((group) => ({
        button: group.querySelector(".stem-together"),
        members: indices(group.querySelectorAll(".stem-track")),
      }));
      if (this.sound) this.fit(this.sound);
      this.duration = Number(this.dataset.duration);
      this.urls = this.sound ? [] : this.rows.map((row) => new URL(row.dataset.audio, base));
      this.heard = this.groups[0].members; // the tracks that sound
      const { headroom } = this.dataset;
      this.trueLevel = Number(headroom); // gain of all tracks
      this.matched = this.rows.map(({ dataset }) => headroom * 10 ** ((dataset.gain ?? 0) / 20));
      this.trueLevels = false; // else each track at the gain that matches its loudness
      this.before = null; // those that did before some were chosen alone
      this.loop = false;
      this.passage = null; // from A to B [s, s], which a loop then plays
      this.tempo = 1;
      this.wanted = false; // play was pressed, and not yet pause
      this.started = false; // sound is under way
      this.resting = 0; // position while it is not [s]
      this.addEventListener("click", (event) => this.onClick(event));
      this.addEventListener("input", (event) => this.onInput(event));
      this.addEventListener("keydown", (event) => this.onKey(event));
      this.addEventListener("focusin", ({ target }) => this.setStop(target));
      for (const row of this.rows) this.setUpPicture(row);
      this.showChoice();
      this.say("");
    }

    /** Give the controls the length of a script's sound. */
    fit({ length, rate }) {
      const part = (name) => this.querySelector(`.stem-${name}`);
      const duration = length / rate;
      this.dataset.duration = duration;
      Object.assign(this.slider, { max: duration, step: duration < 60 ? 0.1 : 1 });
      part("total").textContent = ` / ${clock(duration)}`;
      this.drawn = 0; // columns of the waveforms
      this.columns = this.querySelector("svg[preserveAspectRatio]").viewBox.baseVal.width;
      this.bars = this.rows.map(() => Array.from({ length: this.columns }, (_, x) => `M${x} 49V51`));
    }

    /** Draw the waveforms of a script's sound as far as it is ready. */
    drawReady() {
      const { length, ready, n_channels, read } = this.sound;
      const edge = (column) => Math.round((column * length) / this.columns);
      for (; this.drawn < this.columns && edge(this.drawn + 1) <= ready; this.drawn++) {
        const [start, stop] = [edge(this.drawn), edge(this.drawn + 1)];
        this.rows.forEach((row, track) => {
          let [low, high] = [0, 0];
          for (let channel = 0; channel < n_channels; channel++) {
            for (const sample of read(track, channel, start, stop)) {
              if (sample < low) low = sample;
              if (sample > high) high = sample;
            }
          }
          const [top, bottom] = [49 - 49 * Math.min(1, high), 51 - 49 * Math.max(-1, low)];
          this.bars[track][this.drawn] = `M${this.drawn} ${top.toFixed()}V${bottom.toFixed()}`;
        });
      }
      this.rows.forEach((row, track) => {
        row.querySelector(".stem-picture path").setAttribute("d", this.bars[track].join(""));
      });
    }

    setUpPicture(row) {
      const picture = row.querySelector(".stem-picture");
      if (row.dataset.spectrogram) {
        // No <img>, which themes give a ground and a filter of their own in dark mode.
        const image = picture.insertBefore(document.createElement("div"), picture.lastChild);
        image.className = "stem-spectrogram";
        image.style.backgroundImage = `url("${new URL(row.dataset.spectrogram, base)}")`;
      }
      const time = ({ clientX }) => {
        const { left, width } = picture.getBoundingClientRect();
        return Math.min(1, Math.max(0, (clientX - left) / width)) * this.duration;
      };
      picture.addEventListener("pointerdown", (event) => {
        if (event.button !== 0) return;
        picture.setPointerCapture(event.pointerId);
        this.dragging = true;
        this.showTime(time(event));
      });
      picture.addEventListener("pointermove", (event) => {
        if (this.dragging) this.showTime(time(event));
      });
      picture.addEventListener("pointerup", (event) => {
        if (this.dragging) this.seek(time(event));
        this.dragging = false;
      });
      picture.addEventListener("pointercancel", () => {
        this.dragging = false; // the page was scrolled instead
        this.showTime(this.position);
      });
    }

    onClick({ target }) {
      const button = target.closest("button");
      const index = this.rows.indexOf(target.closest(".stem-track"));
      const actions = {
        play: () => (this.wanted ? this.pause() : this.play()),
        solo: () => this.hearOnly(new Set([index])),
        mute: () => this.toggleMute(index),
        together: () => this.hearOnly(this.groups.find((group) => group.button === button).members),
        loop: () => this.setLoop(!this.loop),
        levels: () => this.setTrueLevels(!this.trueLevels),
        more: () => this.practise((practice) => practice.toggle()),
      };
      actions[button?.dataset.action]?.();
    }

    onInput({ target }) {
      if (target === this.slider) return this.seek(Number(target.value));
      if (!target.matches(".stem-volume")) return;
      target.setAttribute("aria-valuetext", `${Math.round(target.value * 100)} %`);
      target.style.setProperty("--stem-fill", target.value);
      this.tracks?.setGains(this.gains);
    }

    onKey(event) {
      const { target } = event;
      if (event.ctrlKey || event.metaKey || event.altKey || target.matches("select")) return;
      const key = event.key.toLowerCase();
      if (key === "a" || key === "b") this.practise((practice) => practice.set(key));
      const index = this.rows.indexOf(target.closest(".stem-track"));
      if (index >= 0 && key === "s") this.hearOnly(new Set([index]));
      if (index >= 0 && key === "m") this.toggleMute(index);
      const next = this.neighbor(target, event.key);
      if (!next) return;
      event.preventDefault();
      next.focus();
    }

    /** The control that a key leads to in the list of tracks: up and down in a column, left and
        right in a row, but not in a slider, whose keys these are. */
    neighbor(control, key) {
      const y = this.lines.findIndex((line) => line.includes(control));
      if (y < 0) return null;
      const line = this.lines[y];
      const x = line.indexOf(control);
      if (line.length > 1) this.column = x;
      const step = { ArrowUp: -1, ArrowDown: 1 }[key];
      if (step) {
        const beside = this.lines[y + step] ?? line;
        return beside[Math.min(this.column ?? 0, beside.length - 1)];
      }
      if (control.matches("input")) return key === "Escape" ? line[0] : null;
      const aside = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (aside) return line[x + aside] ?? control;
      return { Home: this.lines[0][0], End: this.lines.at(-1)[0] }[key] ?? null;
    }

    /** Make a control of the list the one that the Tab key reaches. */
    setStop(control) {
      if (!this.lines.some((line) => line.includes(control))) return;
      for (const each of this.lines.flat()) each.tabIndex = each === control ? 0 : -1;
    }

    /** Do something with what stands behind "More". */
    async practise(act) {
      try {
        this.practice ??= new (await loadPractice()).Practice(this);
        act(this.practice);
      } catch (error) {
        this.say(`This cannot be shown (${error.message}).`);
      }
    }

    get gains() {
      return this.rows.map((row, index) => {
        if (!this.heard.has(index)) return 0;
        const level = this.trueLevels ? this.trueLevel : this.matched[index];
        return level * row.querySelector(".stem-volume").value;
      });
    }

    get position() {
      return this.started ? this.tracks.position : this.resting;
    }

    /** Hear these tracks alone; when they already are, hear again what was heard before. */
    hearOnly(tracks) {
      const release = sameSet(this.heard, tracks);
      const next = release ? (this.before ?? this.groups[0].members) : tracks;
      this.before = release ? null : (this.before ?? this.heard);
      this.hear(next);
    }

    toggleMute(index) {
      const next = new Set(this.heard);
      if (!next.delete(index)) next.add(index);
      this.before = null;
      this.hear(next);
    }

    hear(tracks) {
      this.heard = tracks;
      this.tracks?.setGains(this.gains);
      this.showChoice();
    }

    setLoop(loop) {
      this.loop = loop;
      if (this.passage) this.seek(this.position);
      else this.tracks?.setLoop(loop);
      press(this.querySelector('[data-action="loop"]'), loop);
    }

    setTrueLevels(trueLevels) {
      this.trueLevels = trueLevels;
      this.tracks?.setGains(this.gains);
      this.classList.toggle("stem-true-levels", trueLevels);
      press(this.querySelector('[data-action="levels"]'), trueLevels);
    }

    /** The tracks, loaded when first asked for. */
    async open() {
      await (this.opened ??= this.load());
      return this.tracks;
    }

    /** Give tracks the loop and the tempo that are chosen. */
    tune(tracks) {
      if (tracks instanceof DecodedTracks && (this.passage || this.tempo !== 1)) {
        tracks.replaced = true;
        tracks = new StreamedTracks(tracks.sound, tracks.context);
      }
      tracks.setLoop(this.loop);
      Object.assign(tracks, { passage: this.passage, tempo: this.tempo });
      this.tracks = tracks;
    }

    get fromDisk() {
      return this.urls.some((url) => url.protocol === "file:");
    }

    release() {
      this.tracks?.close();
      this.tracks = this.opened = null;
    }

    async load() {
      if (this.sound) return this.tune(new StreamedTracks(this.sound));
      let failure;
      for (const Tracks of this.fromDisk ? [MediaTracks] : [DecodedTracks, MediaTracks]) {
        let tracks;
        try {
          const loudest = Math.max(1, ...this.matched);
          tracks = new Tracks(this.urls, Number(this.dataset.rate), loudest);
          await tracks.load();
          return this.tune(tracks);
        } catch (error) {
          failure ??= error;
          tracks?.close();
        }
      }
      throw failure;
    }

    async play() {
      if (this.wanted) return;
      document.dispatchEvent(new CustomEvent("sepkit-sound", { detail: this }));
      this.wanted = true;
      this.showPlaying();
      try {
        if (!this.tracks) this.say("Loading the sound …");
        const { note } = await this.open();
        this.say(note ?? "");
        if (this.wanted) await this.start(this.resting);
      } catch (error) {
        this.fail(error);
      }
    }

    fail(error) {
      this.pause();
      this.turn = null;
      this.release(); // play then loads again
      this.say(`The sound cannot be played (${error.message}).`);
    }

    async start(time) {
      const turn = (this.turn = {});
      await this.tracks.start(time, this.gains, () => this.finish());
      if (this.turn !== turn) return; // started anew meanwhile
      this.turn = null;
      if (!this.wanted) return this.tracks.stop(); // paused meanwhile
      this.tracks.setGains(this.gains); // chosen meanwhile
      this.started = true;
      this.follow();
    }

    pause() {
      if (!this.rows) return;
      this.resting = this.position;
      if (this.started) this.tracks.stop();
      this.started = this.wanted = false;
      this.showPlaying();
    }

    finish() {
      this.pause();
      this.seek(0);
    }

    /** Go to a time; what plays goes on there, by the loop and the tempo that are chosen. */
    seek(time) {
      const playing = this.started || this.turn;
      if (playing) this.tracks.stop();
      this.started = false;
      if (this.tracks) this.tune(this.tracks);
      this.resting = time;
      this.showTime(time);
      if (playing) this.start(time).catch((error) => this.fail(error));
    }

    follow() {
      cancelAnimationFrame(this.frame);
      let shown = -Infinity;
      const step = (now) => {
        if (!this.started) return;
        const pace = reducedMotion.matches ? 500 : 0;
        if (!this.dragging && now - shown >= pace) {
          this.showTime(this.position);
          shown = now;
        }
        this.frame = requestAnimationFrame(step);
      };
      this.frame = requestAnimationFrame(step);
    }

    showTime(time) {
      this.style.setProperty("--stem-position", time / this.duration);
      this.slider.value = time;
      this.now.textContent = clock(time);
      const text = `${spoken(time)} of ${spoken(this.duration)}`;
      // Only when it changes, or a screen reader never stops.
      if (this.slider.getAttribute("aria-valuetext") !== text) {
        this.slider.setAttribute("aria-valuetext", text);
      }
    }

    showPlaying() {
      this.button.setAttribute("aria-label", this.wanted ? "Pause" : "Play");
      this.classList.toggle("stem-playing", this.wanted);
    }

    showChoice() {
      this.rows.forEach((row, index) => {
        const heard = this.heard.has(index);
        row.classList.toggle("stem-silent", !heard);
        press(row.querySelector(".stem-mute"), !heard);
        press(row.querySelector(".stem-solo"), heard && this.heard.size === 1);
      });
      for (const { button, members } of this.groups) press(button, sameSet(this.heard, members));
    }

    say(text) {
      this.status.textContent = text;
    }

    /** The song, or its part from A to B, as it would sound now: an AudioBuffer. */
    async renderMix() {
      const tracks = await this.open();
      return tracks.render(this.gains);
    }
  }

  customElements.define("stem-player", StemPlayer);
})();
