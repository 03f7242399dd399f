/* A rating test after ITU-R BS.1534 (MUSHRA): all estimates of one source beside the true stem, a
   hidden copy of it and two anchors, in an order that the listener does not know. */
(() => {
  "use strict";
  const { make, button, slider, Table, Loop, store, save } = sepkitKit;

  const WORDS = ["bad", "poor", "fair", "good", "excellent"]; // of 20 points each, from 0 to 100
  const HEARD = 90; // least rating of the hidden reference
  const FADE = 0.005; // at both ends of the loop [s]
  const SHORTEST = 0.5; // loop [s]

  const wordFor = (rating) => WORDS[Math.min(4, Math.floor(rating / 20))];
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function shuffle(items) {
    const shuffled = [...items];
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = crypto.getRandomValues(new Uint32Array(1))[0] % (i + 1);
      [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
    }
    return shuffled;
  }

  /** A name for this browser that names nobody. */
  function listener() {
    const known = store.get("listener");
    if (/^[0-9a-f]{16}$/.test(known)) return known;
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    const name = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    store.set("listener", name);
    return name;
  }

  /** The rate at which this browser plays [Hz]. */
  function playedRate() {
    const context = new AudioContext();
    const { sampleRate } = context;
    context.close();
    return sampleRate;
  }

  class MushraTest extends sepkitKit.Explorer {
    #order = []; // of the sounds of the trial: #order[i] is what the listener rates as sound i + 1

    async build() {
      this.test = JSON.parse(this.getAttribute("test"));
      this.place = `mushra-${this.test.name}`;
      this.loop = new Loop();
      this.tabIndex = -1; // so that keys arrive after a click beside the buttons
      this.heading = make("div", { tabindex: -1 });
      this.text = make("div");
      this.body = make("div", { class: "kit-stage" });
      this.actions = make("div", { class: "kit-row" });
      this.hint = make("div", { class: "kit-notice" });
      this.stage.append(this.heading, this.text, this.body, this.actions, this.hint);
      this.addEventListener("keydown", (event) => this.key(event));
      this.showStart();
    }

    showStart() {
      const { trials } = this.test;
      const size = Math.max(...trials.map(({ bytes }) => bytes)) / 1e6;
      const n = trials[0].stimuli.length;
      this.state = "before";
      this.heading.textContent = `${trials.length} ${trials.length > 1 ? "trials" : "trial"} of ${n} sounds`;
      this.text.textContent =
        "How close is each sound to the reference, the true stem? Rate it from 0 to 100. One of them is the " +
        "reference itself; anything else may be hidden among the rest. All are equally loud. Use headphones.";
      const start = button("Start the test", () => this.begin(), { class: "kit-start" });
      const kept = store.get(this.place);
      const earlier = kept?.ratings ? [button("Show the last result", () => this.showResult(kept))] : [];
      this.body.replaceChildren(this.scale());
      this.actions.replaceChildren(start, ...earlier);
      this.hint.textContent = `Each trial loads up to ${size.toFixed(1)} MB. Results stay in this browser unless you save them.`;
    }

    scale() {
      const words = WORDS.map((word, i) => `${20 * i} to ${20 * i + 20} ${word}`).join(", ");
      return make("div", {}, `Scale: ${words}.`);
    }

    async begin() {
      this.queue = shuffle(this.test.trials);
      this.ratings = [];
      this.state = "running";
      await this.nextTrial();
    }

    async nextTrial() {
      this.loop.stop();
      const trial = this.queue[this.ratings.length];
      this.actions.replaceChildren();
      this.say("Loading …");
      try {
        await this.load(trial);
      } catch (error) {
        this.say(`The sounds cannot be loaded: ${error.message}.`);
        this.actions.replaceChildren(button("Try again", () => this.nextTrial()));
        return;
      }
      this.trial = trial;
      this.#order = shuffle(trial.stimuli.keys());
      this.given = this.#order.map(() => null);
      this.visited = new Set();
      this.showTrial();
      this.heading.focus();
      this.say("");
    }

    async load({ part, file }) {
      const { rate, sounds } = await sepkitEngine.part(part, new URL(file, document.baseURI));
      this.channels = [];
      for (const text of sounds) {
        const context = new OfflineAudioContext(1, 1, rate);
        const sound = await context.decodeAudioData(sepkitEngine.fromBase64(text).buffer);
        this.channels.push(Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i)));
      }
      this.loop.rate = rate;
      this.loop.channels = null;
      this.region = [0, this.channels[0][0].length / rate];
    }

    showTrial() {
      const { trial, test } = this;
      const length = Math.floor(10 * this.region[1]) / 10;
      this.heading.textContent = `Trial ${this.ratings.length + 1} of ${test.trials.length}: ${trial.source} of ${trial.song}`;
      this.text.textContent = "How close is each sound to the reference? The hidden reference should get 100.";
      this.buttons = [button("Reference", () => this.listen(0), { "aria-pressed": false })];
      const rows = this.#order.map((_, i) => {
        const hear = button(String(i + 1), () => this.listen(i + 1), { "aria-pressed": false, "aria-label": `Hear sound ${i + 1}` });
        this.buttons.push(hear);
        const show = (x) => (this.given[i] === null ? "not rated" : `${x}, ${wordFor(x)}`);
        const options = { label: `Sound ${i + 1}`, min: 0, max: 100, step: 1, value: 50, show };
        const handle = slider(options, (value) => this.rate(i, value));
        handle.style.flex = "1 1 12rem";
        handle.querySelector(".kit-label").style.minWidth = "4.5rem";
        handle.querySelector(".kit-value").style.minWidth = "7rem";
        // A click where the handle stands already is a rating too.
        const input = handle.querySelector("input");
        input.addEventListener("change", () => this.given[i] ?? input.dispatchEvent(new Event("input")));
        return make("div", { class: "kit-row", style: "flex-wrap: nowrap" }, hear, handle);
      });
      const seconds = (x) => `${x.toFixed(1)} s`;
      const ends = ["Loop from", "Loop to"].map((label, end) =>
        slider({ label, min: 0, max: length, step: 0.1, value: end ? length : 0, show: seconds }, (x) => this.setEnd(end, x)),
      );
      this.ends = ends;
      this.body.replaceChildren(
        make("div", { class: "kit-row" }, this.loop.element, this.buttons[0]), this.scale(), ...rows, ...ends,
      );
      this.nextButton = button("Next", () => this.finishTrial(), { class: "kit-start", disabled: true });
      this.actions.replaceChildren(this.nextButton, button("Give up", () => this.giveUp()));
      this.hint.textContent = `Keys: 0 for the reference, 1 to ${rows.length} for the sounds; arrow keys move a slider.`;
      this.heard = 0;
      this.loop.set(this.cut(this.channels[0]));
    }

    rate(i, value) {
      const first = this.given[i] === null;
      this.given[i] = value;
      if (first) this.handles()[i].set(value);
      this.checkNext();
    }

    handles() {
      return [...this.body.querySelectorAll(".kit-slider")].slice(0, this.#order.length);
    }

    /* ---- Sound ---- */

    /** The part of a sound that is looped, with short fades. */
    cut(channels) {
      const { rate } = this.loop;
      const [start, stop] = this.region.map((x) => Math.round(x * rate));
      const n_fade = Math.round(FADE * rate);
      return channels.map((samples) => {
        const piece = samples.slice(start, stop);
        for (let i = 0; i < n_fade; i++) {
          piece[i] *= i / n_fade;
          piece[piece.length - 1 - i] *= i / n_fade;
        }
        return piece;
      });
    }

    setEnd(end, x) {
      this.region[end] = x;
      const [start, stop] = this.region;
      if (stop - start < SHORTEST) {
        const last = this.channels[0][0].length / this.loop.rate;
        if (end) this.region[0] = Math.max(0, x - SHORTEST);
        else this.region[1] = Math.min(last, x + SHORTEST);
        if (this.region[1] - this.region[0] < SHORTEST) this.region[end] = end ? SHORTEST : last - SHORTEST;
        this.ends.forEach((handle, i) => handle.set(Number(this.region[i].toFixed(1))));
      }
      this.loop.set(this.cut(this.sound(this.heard)));
    }

    /** Channels of the reference (0) or of a numbered sound. */
    sound(number) {
      return this.channels[number ? this.#order[number - 1] : 0];
    }

    async listen(number) {
      this.heard = number;
      if (number) this.visited.add(number);
      this.buttons.forEach((element, i) => element.setAttribute("aria-pressed", i === number));
      this.loop.set(this.cut(this.sound(number)));
      await this.loop.play();
      this.checkNext();
    }

    key(event) {
      const typing = event.target.closest("select, input:not([type=range])");
      if (this.state !== "running" || !this.buttons || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!/^\d$/.test(event.key) || !this.buttons[event.key]) return;
      event.preventDefault();
      this.listen(Number(event.key));
    }

    /* ---- Results ---- */

    checkNext() {
      const n = this.#order.length;
      const rated = this.given.filter((rating) => rating !== null).length;
      this.nextButton.disabled = rated < n || this.visited.size < n;
      const left = this.nextButton.disabled ? "" : " The next trial can begin.";
      this.say(`Heard ${this.visited.size}, rated ${rated} of ${n}.${left}`);
    }

    finishTrial() {
      const { song, source, stimuli } = this.trial;
      const ratings = this.#order.map((index, i) => ({ ...stimuli[index], place: i + 1, rating: this.given[i] }));
      this.ratings.push({ song, source, stimuli: ratings });
      if (this.ratings.length < this.queue.length) return this.nextTrial();
      const session = {
        kind: "sepkit-listening", version: 1, page: this.test.page, test: this.test.name, listener: listener(),
        date: new Date().toISOString(), rate: playedRate(), ratings: this.ratings,
      };
      store.set(this.place, session);
      this.loop.stop();
      this.showResult(session);
      this.heading.focus();
    }

    giveUp() {
      this.loop.stop();
      this.showStart();
      this.heading.focus();
      this.say("Given up: nothing of this test is kept.");
    }

    showResult(session) {
      const { ratings } = session;
      this.state = "after";
      const of = (trial, system) => trial.stimuli.find((stimulus) => stimulus.system === system).rating;
      const systems = this.test.trials[0].stimuli.map(({ system }) => system);
      const headings = ["Sound", "Mean", ...ratings.map(({ song, source }) => `${source}, ${song}`)];
      const table = new Table(`Your ratings of ${session.date.slice(0, 10)}`, headings);
      table.element.open = true;
      const rows = systems.map((system) => [system, ratings.map((trial) => of(trial, system))]);
      table.fill(rows.map(([system, values]) => [system, mean(values).toFixed(0), ...values.map(String)]));
      const low = ratings.filter((trial) => trial.stimuli.some(({ kind, rating }) => kind === "reference" && rating < HEARD));
      this.heading.textContent = `You rated the hidden reference below ${HEARD} in ${low.length} of ${ratings.length} trials.`;
      this.text.textContent =
        "Who does so in more than 15 % of trials is left out when ratings are joined, by the rule of ITU-R BS.1534: " +
        `this test ${low.length / ratings.length > 0.15 ? "would be left out" : "counts"}. One listener's ratings are one opinion.`;
      this.body.replaceChildren(table.element);
      const name = `listening-${session.listener}-${session.date.slice(0, 10)}.json`;
      this.actions.replaceChildren(
        button("Save the ratings", () => save(JSON.stringify(session, null, 1), name, "application/json")),
        button("Start again", () => this.begin()),
        button("Forget the ratings", () => this.forget()),
      );
      this.hint.textContent = "The file has your ratings, a random name for this browser, the date and its sample rate; nothing is sent.";
      this.say("");
    }

    forget() {
      store.set(this.place, null);
      this.showStart();
      this.say("The ratings are forgotten.");
    }
  }
  MushraTest.title = "Rating test: how close to the true stem?";

  sepkitKit.define("mushra-test", MushraTest);
})();
