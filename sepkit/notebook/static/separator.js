/* <sepkit-separator>: a song of the reader's own, separated in the page. Nothing leaves it: the
   engine (engine.c, as WebAssembly) works in the page's own workers, from a server and from disk.

     <link rel="stylesheet" href="separator.css">
     <script src="separator.js"></script>
     <sepkit-separator model="experiment3" hop="5"></sepkit-separator>

   Attributes
     model     name of a network, NAME.js in the folder separator/ beside this script
     models    JSON: names of networks to choose from, each with a description
     examples  JSON: names of songs to try, each with its title; NAME.js in that folder
     hop       frames between the starts of contexts, 1 to 25; fewer is smoother and slower
   Method      separate(file): a promise of { rate, stems }; a file, or a Blob
   Events      (all bubble)
     sepkit-progress   detail.fraction, up to 1
     sepkit-separated  detail.rate [Hz], detail.stems: by source, a Float32Array for each channel */
(() => {
  "use strict";
  if (customElements.get("sepkit-separator")) return;

  const { RATE, part, fromBase64, startEngines, separateSong } = sepkitEngine;
  const { decode, wav } = sepkitSound;

  const clock = (seconds) => {
    const whole = Math.ceil(seconds);
    return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
  };

  /** An element with attributes and content. */
  function make(tag, attributes = {}, ...content) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...content);
    return element;
  }

  function save(blob, name) {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  const canResample = (rate) => part(`rate-${rate}`).then(() => true, () => false);
  const forMp3 = () => part("mpg123").catch(() => null); // a folder may come without it

  const HOPS = { 1: "1 frame (slowest)", 2: "2 frames", 5: "5 frames", 10: "10 frames", 25: "25 frames (fastest)" };

  class SepkitSeparator extends HTMLElement {
    connectedCallback() {
      if (document.readyState !== "loading") this.setUp();
      else document.addEventListener("DOMContentLoaded", () => this.setUp(), { once: true });
    }

    disconnectedCallback() {
      queueMicrotask(() => this.isConnected || this.cancel()); // unless moved within the page
    }

    get model() {
      return this.getAttribute("model") || "experiment3";
    }

    set model(name) {
      this.setAttribute("model", name);
    }

    get hop() {
      return Number(this.getAttribute("hop") ?? 5);
    }

    set hop(frames) {
      this.setAttribute("hop", frames);
    }

    /** A JSON object of an attribute; an empty one without it. */
    table(attribute) {
      return JSON.parse(this.getAttribute(attribute) || "{}");
    }

    setUp() {
      if (this.input) return;
      this.classList.add("sep");
      this.input = make("input", { type: "file", accept: "audio/*,video/*,.flac,.m4a,.opus" });
      const choose = make("label", { class: "sep-choose" }, make("span", {}, "Choose a song"), this.input);
      const drop = make("div", { class: "sep-drop" }, choose, make("span", {}, "or drop it here. It stays on your machine."));
      const examples = Object.entries(this.table("examples"));
      if (examples.length) {
        const buttons = examples.map(([name, title]) => make("button", { type: "button", "data-example": name }, title));
        drop.append(make("span", { class: "sep-examples" }, "Or try ", ...buttons));
      }
      this.progress = make("progress", { max: 1, value: 0, "aria-label": "Progress of the separation" });
      this.left = make("span", { class: "sep-left" });
      const cancel = make("button", { type: "button", "data-action": "cancel" }, "Cancel");
      this.working = make("div", { class: "sep-working", hidden: "" }, this.progress, this.left, cancel);
      this.status = make("p", { class: "sep-status", role: "status" });
      this.result = make("div", { class: "sep-result" });
      this.replaceChildren(drop, this.options(), this.working, this.status, this.result);
      this.addEventListener("change", ({ target }) => {
        if (target === this.input && target.files.length) this.start(target.files[0]);
        if (target.dataset.option) this.setAttribute(target.dataset.option, target.value);
      });
      this.addEventListener("click", ({ target }) => this.onClick(target.closest("button")));
      for (const event of ["dragenter", "dragover"]) {
        drop.addEventListener(event, (dragged) => {
          dragged.preventDefault();
          drop.classList.add("sep-over");
        });
      }
      for (const event of ["dragleave", "drop"]) drop.addEventListener(event, () => drop.classList.remove("sep-over"));
      drop.addEventListener("drop", (dropped) => {
        dropped.preventDefault();
        const [file] = dropped.dataTransfer.files;
        if (file) this.start(file);
      });
    }

    options() {
      const select = (option, label, values, current) => {
        const choices = values.map(([value, text]) =>
          make("option", { value, ...(value === String(current) && { selected: "" }) }, text),
        );
        return make("label", {}, `${label} `, make("select", { "data-option": option, autocomplete: "off" }, ...choices));
      };
      const models = Object.entries(this.table("models"));
      const hops = Object.entries(HOPS);
      if (!(this.hop in HOPS)) hops.push([String(this.hop), `${this.hop} frames`]);
      return make(
        "div",
        { class: "sep-options" },
        ...(models.length ? [select("model", "Network", models, this.model)] : []),
        select("hop", "A context every", hops, this.hop),
      );
    }

    onClick(button) {
      if (!button || button.closest("stem-player")) return;
      const { action, example, track } = button.dataset;
      if (action === "cancel") {
        this.cancel();
        this.say("Cancelled.");
      }
      if (action === "zip") this.saveAll();
      if (track) this.saveTrack(Number(track));
      if (example) this.start(this.example(example));
    }

    async example(name) {
      const { title, type, sound, notice } = await part(name);
      return Object.assign(new File([fromBase64(sound)], title, { type }), { notice });
    }

    /** Separate a file, or what promises one, and show what happens. */
    async start(file) {
      try {
        await this.separate(file);
      } catch {
        // It is told already.
      }
      this.input.value = ""; // the same file can be chosen once more
    }

    /** Separate a song.

        Returns a promise of { rate, stems } as of the event sepkit-separated. It is rejected with an
        AbortError when the separation is cancelled, or with an Error that says what is wrong. */
    async separate(file) {
      this.setUp();
      this.cancel();
      const run = (this.run = { engines: [] });
      const still = (value) => {
        if (this.run !== run) throw new DOMException("cancelled", "AbortError");
        return value;
      };
      let name = "The song";
      try {
        this.result.replaceChildren();
        this.working.hidden = false;
        this.show(0, "");
        this.say("Loading the network …");
        const [network, song] = still(await Promise.all([part(this.model), file, part("engine")]));
        name = song.name || name;
        if (!network.weights) throw new Error(`${this.model} is no network`);
        const { context, channels } = network.sizes;
        const hop = this.hop;
        if (!Number.isInteger(hop) || hop < 1 || hop > context) {
          throw new Error(`hop ${this.getAttribute("hop")}: give a whole number from 1 to ${context}`);
        }
        this.say(`Decoding ${name} …`);
        const { sound, rate } = still(await decode(song, RATE, canResample, forMp3));
        if (channels > 1 && ![1, channels].includes(sound.length)) {
          throw new Error(`it has ${sound.length} channels, and this network takes one or two; choose another network`);
        }
        run.engines = await startEngines(network, hop, sound[0].length / rate);
        if (this.run !== run) this.end(run);
        still();
        const started = performance.now();
        const separation = await separateSong(run.engines, network, sound, rate, hop, {
          begin: (begun) => {
            still();
            this.say(`Separating ${name} …`);
            this.follow = () => this.showPlayer(begun, network, name, song.notice);
          },
          progress: (fraction) => {
            still();
            if (this.follow) this.follow();
            this.follow = null;
            this.player?.drawReady();
            const seconds = (performance.now() - started) / 1000;
            this.show(fraction, seconds > 0.5 ? `${clock((seconds / fraction) * (1 - fraction))} left` : "");
            this.dispatchEvent(new CustomEvent("sepkit-progress", { bubbles: true, detail: { fraction } }));
          },
        });
        still();
        const took = ((performance.now() - started) / 1000).toFixed(1);
        this.separation = separation;
        this.name = name.replace(/\.[^.]+$/, "");
        this.showDownloads();
        this.say(`${name}: ${clock(separation.length / rate)} separated in ${took} s.`);
        this.end(run);
        let stems;
        const detail = {
          rate,
          get stems() {
            return (stems ??= separation.all);
          },
        };
        this.dispatchEvent(new CustomEvent("sepkit-separated", { bubbles: true, detail }));
        return detail;
      } catch (error) {
        if (this.run === run) {
          this.end(run);
          this.result.replaceChildren();
          if (error.name !== "AbortError") this.say(`${name} cannot be separated: ${error.message}.`);
        }
        throw error;
      }
    }

    /** End a run's workers. */
    end(run) {
      for (const engine of run.engines) engine.end();
      run.engines = [];
      if (this.run === run) {
        this.run = null;
        this.working.hidden = true;
      }
    }

    /** Cancel what runs, and forget what is there. */
    cancel() {
      const { run } = this;
      this.run = null;
      if (run) this.end(run);
      if (this.working) this.working.hidden = true;
      this.player = this.separation = this.follow = null;
      this.result?.replaceChildren();
    }

    show(fraction, left) {
      this.progress.value = fraction;
      this.left.textContent = left;
    }

    say(text) {
      this.status.textContent = text;
    }

    /** The book's player, on what is separated so far. */
    showPlayer(separation, network, name, notice) {
      const shell = make("template");
      shell.innerHTML = network.player;
      const player = shell.content.firstElementChild;
      player.querySelector(".stem-title").textContent = name;
      player.setAttribute("aria-label", `Stem player: ${name}`);
      player.sound = {
        rate: separation.rate,
        length: separation.length,
        n_channels: separation.song.length,
        read: (track, channel, start, stop) => separation.read(track, channel, start, stop),
        get ready() {
          return Math.min(separation.ready, separation.length);
        },
      };
      this.player = player;
      this.result.replaceChildren(player);
      if (notice) this.result.append(make("p", { class: "sep-notice" }, notice));
    }

    showDownloads() {
      const buttons = this.separation.sources.map((source, i) =>
        make("button", { type: "button", "data-track": i + 1 }, `${source}.wav`),
      );
      const all = make("button", { type: "button", "data-action": "zip" }, "all as zip");
      this.result.append(make("p", { class: "sep-downloads" }, "Download ", ...buttons, all));
    }

    saveTrack(track) {
      const { separation, name } = this;
      save(wav(separation.channels(track), separation.rate), `${name} - ${separation.sources[track - 1]}.wav`);
    }

    async saveAll() {
      const { separation, name } = this;
      try {
        const { Zip, ZipPassThrough } = await part("fflate");
        const pieces = [];
        const zip = new Zip((error, piece) => {
          if (error) throw error;
          pieces.push(piece);
        });
        for (const [i, source] of separation.sources.entries()) {
          const file = new ZipPassThrough(`${source}.wav`);
          zip.add(file);
          const blob = wav(separation.channels(i + 1), separation.rate);
          file.push(new Uint8Array(await blob.arrayBuffer()), true);
        }
        zip.end();
        save(new Blob(pieces, { type: "application/zip" }), `${name} - stems.zip`);
      } catch (error) {
        this.say(`The zip file cannot be made: ${error.message}.`);
      }
    }
  }

  customElements.define("sepkit-separator", SepkitSeparator);
})();
