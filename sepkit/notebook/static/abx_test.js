/* ABX: two sounds, and X, which is one of them. Which one? Each trial is a toss of a coin by the
   browser's random generator; the result is told at the end, with what guessing would give. */
(() => {
  "use strict";
  const { make, button, choice, Table, Picture, Loop, store, save } = sepkitKit;

  const LENGTHS = [5, 10, 16, 20]; // trials to choose from
  const RARE = 0.05; // what guessing reaches less often counts
  const SKILL = 0.8; // share of correct answers of the listener by whom a test is judged
  const GAP = 60; // silence between two sounds [ms]

  /** Chance of k correct answers of n, each with chance q. */
  function chance(k, n, q = 0.5) {
    let ways = 1;
    for (let i = 0; i < k; i++) ways = (ways * (n - i)) / (i + 1);
    return ways * q ** k * (1 - q) ** (n - k);
  }

  /** Chance of k or more; exact for guessing, since all terms are. */
  function chanceOfMore(k, n, q = 0.5) {
    let sum = 0;
    for (let i = k; i <= n; i++) sum += chance(i, n, q);
    return sum;
  }

  /** The fewest correct answers of n that guessing reaches in 5 % of tests at most. */
  function needed(n) {
    let k = 0;
    while (chanceOfMore(k, n) > RARE) k++;
    return k;
  }

  function percent(p) {
    if (p < 0.0005) return "less than 0.1 %";
    return `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`;
  }

  class AbxTest extends sepkitKit.Explorer {
    #order = []; // of each trial, whether X is A (0) or B (1)

    async build() {
      this.test = JSON.parse(this.getAttribute("test"));
      this.place = `abx-${this.test.name}`;
      [this.pair, this.n, this.state] = [this.test.trials[0], 10, "before"];
      this.loop = new Loop();
      this.loop.element.addEventListener("click", () => this.loop.channels || this.listen("A"));
      this.tabIndex = -1; // so that keys arrive after a click beside the buttons
      this.makeControls();
      this.addEventListener("keydown", (event) => this.key(event));
      this.show();
    }

    makeControls() {
      const { trials } = this.test;
      this.choices = make("div", { class: "kit-row" });
      if (trials.length > 1) {
        const names = Object.fromEntries(trials.map(({ name }, i) => [i, name]));
        this.choices.append(choice("Sounds", names, 0, (i) => this.choose(trials[i])));
      }
      const lengths = Object.fromEntries(LENGTHS.map((n) => [n, n]));
      this.choices.append(choice("Trials", lengths, this.n, (n) => this.choose(this.pair, Number(n))));
      this.heading = make("div", { tabindex: -1 });
      const hear = (name) => [name, button(name, () => this.listen(name), { "aria-pressed": false })];
      this.hear = Object.fromEntries(["A", "B", "X"].map(hear));
      this.sounds = make("div", { class: "kit-row" }, this.loop.element, ...Object.values(this.hear));
      this.startButton = button("Start the test", () => this.begin(), { class: "kit-start" });
      this.answers = ["A", "B"].map((name, i) => button(`X is ${name} (${i + 1})`, () => this.answer(i)));
      this.stopButton = button("Give up", () => this.giveUp());
      this.again = button("Another test", () => this.reset());
      this.saveButton = button("Save the results", () => this.saveResults());
      this.forget = button("Forget the results", () => this.clear());
      this.actions = make("div", { class: "kit-row" });
      this.text = make("div");
      this.picture = new Picture({ label: "", height: 150, draw: (...where) => this.drawChances(...where) });
      this.table = new Table("Correct answers by guessing", ["Correct", "% of tests", "This or more, %"]);
      this.kept = new Table("Tests kept in this browser", ["Date", "Sounds", "Correct", "By guessing"]);
      this.hint = make("div", { class: "kit-notice" });
      this.stage.append(
        this.choices, this.heading, this.sounds, this.actions, this.text, this.picture.canvas, this.table.element,
        this.kept.element, this.hint,
      );
    }

    /* ---- Sound ---- */

    choose(pair, n = this.n) {
      this.loop.stop();
      if (pair !== this.pair) this.channels = this.loop.channels = null;
      [this.pair, this.n] = [pair, n];
      this.show();
    }

    /** Decode the pair's sounds, once. */
    async load() {
      if (this.channels) return;
      this.say("Loading …");
      const { pair } = this;
      const { rate, sounds } = await sepkitEngine.part(pair.part, new URL(pair.file, document.baseURI));
      const decoded = [];
      for (const text of sounds) {
        const context = new OfflineAudioContext(1, 1, rate);
        const sound = await context.decodeAudioData(sepkitEngine.fromBase64(text).buffer);
        decoded.push(Array.from({ length: sound.numberOfChannels }, (_, i) => sound.getChannelData(i)));
      }
      if (pair !== this.pair) return;
      this.loop.rate = rate;
      this.channels = decoded;
      this.silence = decoded[0].map((samples) => new Float32Array(samples.length));
    }

    /** Switch to A, B or X at the same place of the loop. Between them is always the same short
        silence: else X would betray itself by switching without a trace. */
    async listen(name) {
      await this.load().catch((error) => this.say(`The sounds cannot be loaded: ${error.message}.`));
      if (!this.channels || this.state === "after" || (name === "X" && this.state === "before")) return;
      for (const [key, element] of Object.entries(this.hear)) element.setAttribute("aria-pressed", key === name);
      this.loop.set(this.silence);
      clearTimeout(this.coming);
      this.coming = setTimeout(() => {
        const index = name === "X" ? this.#order[this.trial] : Number(name === "B");
        this.loop.set(this.channels[index]);
      }, GAP);
      await this.loop.play();
      this.say(`${name} sounds.`);
    }

    key(event) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
      const key = event.key.toUpperCase();
      if (key in this.hear) this.listen(key);
      else if (this.state === "running" && (key === "1" || key === "2")) this.answer(Number(key) - 1);
      else return;
      event.preventDefault();
    }

    /* ---- The test ---- */

    async begin() {
      [this.trial, this.given] = [0, []];
      const coins = crypto.getRandomValues(new Uint8Array(this.n));
      this.#order = Array.from(coins, (coin) => coin & 1);
      this.state = "running";
      this.show();
      this.hear.X.focus();
      await this.listen("X");
    }

    answer(index) {
      if (!this.channels) return;
      this.given.push(index);
      this.trial++;
      if (this.trial === this.n) {
        const right = this.given.filter((given, i) => given === this.#order[i]).length;
        const trials = this.given.map((given, i) => ({ x: "AB"[this.#order[i]], answer: "AB"[given] }));
        return this.finish({ right, p: chanceOfMore(right, this.n), trials });
      }
      this.show();
      this.listen("X");
    }

    /** What is stopped before its end has no result, not even for the reader. */
    giveUp() {
      this.finish({ right: null, p: null, answered: this.trial, trials: [] });
    }

    finish(result) {
      this.loop.stop();
      clearTimeout(this.coming);
      const { name, sounds } = this.pair;
      this.result = { date: new Date().toISOString(), pair: name, sounds, n: this.n, ...result };
      store.set(this.place, [...this.results, this.result]);
      this.state = "after";
      this.show();
      this.heading.focus();
      this.say("The test is over.");
    }

    reset() {
      [this.state, this.result] = ["before", null];
      this.show();
      this.startButton.focus();
    }

    get results() {
      const kept = store.get(this.place, []);
      return Array.isArray(kept) ? kept : [];
    }

    saveResults() {
      const { name: test, page } = this.test;
      const content = { kind: "sepkit-abx", version: 1, test, page, tests: this.results };
      save(JSON.stringify(content, null, 1), `abx-${test}.json`, "application/json");
    }

    clear() {
      store.set(this.place, []);
      this.reset();
      this.say("Nothing is kept any more.");
    }

    /* ---- What is shown ---- */

    show() {
      const { n, state, pair, result } = this;
      const kept = this.results;
      const before = state === "before";
      this.choices.hidden = !before;
      this.hear.A.textContent = before ? `A: ${pair.sounds[0]}` : "A";
      this.hear.B.textContent = before ? `B: ${pair.sounds[1]}` : "B";
      this.hear.X.hidden = state !== "running";
      this.sounds.hidden = state === "after";
      this.picture.canvas.hidden = state === "running";
      this.table.element.hidden = state === "running";
      this.kept.element.hidden = state === "running" || !kept.length;
      const shares = (k) => [chance(k, n), chanceOfMore(k, n)].map((p) => (100 * p).toFixed(2));
      this.table.fill(Array.from({ length: n + 1 }, (_, k) => [String(k), ...shares(k)]));
      this.kept.fill(kept.map((test) => [
        test.date.slice(0, 16).replace("T", " "), test.pair,
        test.right === null ? `given up after ${test.answered} of ${test.n}` : `${test.right} of ${test.n}`,
        test.right === null ? "–" : percent(test.p),
      ]));
      const size = (pair.bytes / 1e6).toFixed(1);
      if (before) {
        this.heading.textContent = "Listen to both sounds, which are equally loud; then start the test.";
        this.text.textContent = this.told(n);
        this.hint.textContent = `Keys: A and B to listen. The first sound loads ${size} MB.`;
        this.actions.replaceChildren(this.startButton, ...(kept.length ? [this.saveButton, this.forget] : []));
      } else if (state === "running") {
        this.heading.textContent = `Trial ${this.trial + 1} of ${n}: is X sound A or sound B?`;
        this.text.textContent = "The result is told after the last trial.";
        this.hint.textContent = "Keys: A, B and X to listen, 1 for “X is A”, 2 for “X is B”.";
        this.actions.replaceChildren(...this.answers, this.stopButton);
      } else {
        this.heading.textContent = this.verdict(result);
        this.text.textContent = this.meaning(result, kept);
        this.hint.textContent = "The results stay in this browser unless you save them.";
        this.actions.replaceChildren(this.again, this.saveButton, this.forget);
      }
      this.say("");
      const label = `Correct answers of ${n} by guessing: most often ${Math.floor(n / 2)}; ${needed(n)} or more are rare.`;
      this.picture.say(Number.isInteger(result?.right) ? `${label} Yours: ${result.right}.` : label);
      this.picture.ask();
    }

    told(n) {
      const k = needed(n);
      const which = k === n ? `all ${n}` : `${k} or more of ${n}`;
      return `Guessing gives ${which} in ${percent(chanceOfMore(k, n))} of tests: so many correct answers count as heard.`;
    }

    verdict({ right, n, p, answered }) {
      if (right === null) return `Given up after ${answered} of ${n} trials: this test has no result.`;
      const more = right === n ? "this" : "this or more";
      return `${right} of ${n}: guessing gives ${more} in ${percent(p)} of tests.`;
    }

    meaning({ right, n, p }, kept) {
      if (right === null) return "A test that is stopped early or made longer, as its score pleases, proves nothing.";
      const done = kept.filter((test) => test.right !== null);
      const none = done.reduce((product, test) => product * (1 - chanceOfMore(needed(test.n), test.n)), 1);
      const many = ` ${done.length} tests are kept here: by guessing, one or more of so many succeed in ${percent(1 - none)} of cases.`;
      const often = done.length > 1 ? many : "";
      if (p <= RARE) return `That is rare: you probably heard a difference between these two sounds.${often}`;
      const power = percent(chanceOfMore(needed(n), n, SKILL));
      return (
        "This does not show that you hear a difference, nor that you hear none: a listener who is right in " +
        `${100 * SKILL} % of trials reaches the ${needed(n)} that count in ${power} of tests.${often}`
      );
    }

    drawChances(context, width, height, { text, faint }) {
      const { n, result } = this;
      const [left, bottom, top] = [4, height - 36, 22];
      const step = (width - 2 * left) / (n + 1);
      const most = chance(Math.floor(n / 2), n);
      context.font = "12px system-ui, sans-serif";
      context.textAlign = "center";
      for (let k = 0; k <= n; k++) {
        const x = left + (k + 0.5) * step;
        const high = (chance(k, n) / most) * (bottom - top);
        context.fillStyle = k >= needed(n) ? "#d55e00" : "#0072b2";
        context.fillRect(x - 0.4 * step, bottom - Math.max(1, high), 0.8 * step, Math.max(1, high));
        context.fillStyle = text;
        context.fillText(String(k), x, bottom + 14);
        if (k !== result?.right) continue;
        context.fillText("yours", Math.min(width - 20, Math.max(20, x)), 12);
        context.fillRect(x - 1, 16, 2, bottom - high - 18);
      }
      context.fillStyle = faint;
      context.fillRect(left, bottom, width - 2 * left, 1);
      context.fillStyle = text;
      context.fillText(`correct answers of ${n} by guessing; orange counts`, width / 2, bottom + 30);
    }
  }
  AbxTest.title = "Blind test: which of two sounds is X?";
  AbxTest.chanceOfMore = chanceOfMore;

  sepkitKit.define("abx-test", AbxTest);
})();
