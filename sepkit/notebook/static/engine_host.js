/* The engine in a page: what it loads, the workers in which it runs, and a song that is separated. */
(() => {
  "use strict";
  if (globalThis.sepkitEngine) return;

  const base = new URL("separator/", document.currentScript.src);
  const RATE = 44100; // of the network
  const HOP = 256; // samples between frames, of 1024
  const EDGE = 768; // samples before the first frame that is whole
  const STRETCH = 512 * HOP; // samples separated at a time: 3 s
  const FIRST = 16; // outputs of resampling that have filters of their own
  const COMPACT = 4 * 60; // longer songs are kept in 16 bits [s]

  /* ---- What is loaded when it is needed ---- */

  const parts = new Map();

  /** Called by each script of the folder with what it brings. */
  globalThis.sepkitPart = (name, value) => parts.get(name)?.resolve(value);

  /** Load NAME.js by a script tag, which a page from disk may use as well. `address` is that of a
      part that lies elsewhere than beside the engine. */
  function part(name, address = new URL(`${name}.js`, base)) {
    if (!/^[\w-]+$/.test(name)) return Promise.reject(new Error(`${name}: no name of a network`));
    if (!parts.has(name)) {
      const entry = {};
      entry.value = new Promise((resolve, reject) => {
        entry.resolve = resolve;
        const script = document.createElement("script");
        script.src = address;
        script.onerror = () => {
          parts.delete(name); // the next attempt loads it again
          reject(new Error(`${script.src.split("/").pop()} cannot be loaded`));
        };
        script.onload = () => {
          script.remove();
          reject(new Error(`${name}.js brings nothing`)); // unless it has
        };
        document.head.append(script);
      });
      parts.set(name, entry);
    }
    return parts.get(name).value;
  }

  const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const floats = (text) => new Float32Array(fromBase64(text).buffer);

  /* ---- Samples ---- */

  /** A channel of sound that is written piece by piece: as floats, or in 16 bits with a scale for
      each piece, which errs by a 65,000th of the piece's peak. */
  class Channel {
    constructor(length, compact) {
      this.samples = compact ? new Int16Array(length) : new Float32Array(length);
      this.scales = compact ? [] : null;
    }

    static of(samples, compact) {
      const channel = new Channel(compact ? samples.length : 0, compact);
      if (compact) channel.write(0, samples);
      else channel.samples = samples;
      return channel;
    }

    write(start, piece) {
      if (!this.scales) return this.samples.set(piece, start);
      for (let from = 0; from < piece.length; from += STRETCH) {
        const part = piece.subarray(from, from + STRETCH);
        let peak = 0;
        for (let i = 0; i < part.length; i++) peak = Math.max(peak, Math.abs(part[i]));
        const scale = (this.scales[(start + from) / STRETCH] = peak / 32767 || 1);
        for (let i = 0; i < part.length; i++) this.samples[start + from + i] = Math.round(part[i] / scale);
      }
    }

    /** The samples from start to stop, as floats that are not to be written to. */
    read(start, stop) {
      if (!this.scales) return this.samples.subarray(start, stop);
      const floats = new Float32Array(Math.min(stop, this.samples.length) - start);
      for (let i = 0; i < floats.length; i++) {
        floats[i] = this.samples[start + i] * this.scales[Math.floor((start + i) / STRETCH)];
      }
      return floats;
    }
  }

  /** A song and its stems, one of which is what the others leave of the song. */
  class Separation {
    constructor({ rate, length, sources, song, stems, rest }) {
      Object.assign(this, { rate, length, sources, song, stems, rest });
      this.ready = 0; // samples that are separated, from the start on
    }

    /** Samples of a channel of a track: the song (0), then its sources. */
    read(track, channel, start, stop) {
      if (track === 0) return this.song[channel].read(start, stop);
      if (track - 1 !== this.rest) return this.stems[track - 1][channel].read(start, stop);
      const rest = this.song[channel].read(start, stop).slice();
      for (const stem of this.stems) {
        const samples = stem?.[channel].read(start, stop) ?? [];
        for (let i = 0; i < samples.length; i++) rest[i] -= samples[i];
      }
      return rest;
    }

    channels(track) {
      return this.song.map((_, channel) => this.read(track, channel, 0, this.length));
    }

    /** By source, all samples of each channel. */
    get all() {
      return Object.fromEntries(this.sources.map((name, i) => [name, this.channels(i + 1)]));
    }
  }

  /* ---- Workers ---- */

  /** A worker whose tasks are calls. */
  class Engine {
    constructor(code) {
      this.address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
      this.worker = new Worker(this.address);
      this.waiting = new Map();
      this.n = 0;
      this.worker.onmessage = ({ data: { id, result, error } }) => {
        const { resolve, reject } = this.waiting.get(id);
        this.waiting.delete(id);
        if (error) reject(new Error(error));
        else resolve(result);
      };
      this.worker.onerror = (event) => {
        for (const { reject } of this.waiting.values()) reject(new Error(event.message || "a worker ended"));
      };
    }

    call(task, input, transfer = []) {
      const id = this.n++;
      this.worker.postMessage({ id, task, ...input }, transfer);
      return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    }

    end() {
      this.worker.terminate();
      URL.revokeObjectURL(this.address);
      for (const { reject } of this.waiting.values()) reject(new DOMException("cancelled", "AbortError"));
    }
  }

  /** Split a song into stretches, each with the samples that its contexts need, as sepkit.streaming
      does: frame n starts at sample 256 n - 768. */
  function* stretches(length, context, hop) {
    const n_frames = Math.ceil((length + EDGE) / HOP);
    const last = Math.max(0, Math.ceil((n_frames - context) / hop)) * hop;
    for (let start = 0; start < length; start += STRETCH) {
      const stop = Math.min(start + STRETCH, length);
      const [first, behind] = [start / HOP, Math.ceil(stop / HOP) + 3];
      const firstContext = Math.max(0, Math.ceil((first - context + 1) / hop)) * hop;
      const lastContext = Math.min(Math.floor((behind - 1) / hop) * hop, last);
      yield {
        at: start,
        begin: HOP * firstContext - EDGE,
        finish: HOP * (lastContext + context + 3) - EDGE,
        contexts: (lastContext - firstContext) / hop + 1,
        start: first - firstContext,
        stop: behind - firstContext,
        length: stop - start,
      };
    }
  }

  /** Samples from begin to finish of a channel, zeros beyond its ends, into an array. */
  function cut(channel, length, begin, finish, piece = new Float32Array(finish - begin)) {
    const from = Math.min(length, Math.max(0, begin));
    const stop = Math.max(from, Math.min(length, finish));
    piece.fill(0, 0, from - begin).set(channel.read(from, stop), from - begin);
    piece.fill(0, stop - begin);
    return piece;
  }

  /** Separate with some engines at once; each takes the next stretch when it has done one. */
  async function separateWith(engines, separation, { context, hop }, progress) {
    const { song, length } = separation;
    const todo = [...stretches(length, context, hop)];
    const done = new Set();
    let next = 0;
    const longest = STRETCH + HOP * (2 * context + hop + 6);
    const work = async (engine) => {
      // The same two arrays for all stretches: new ones would pile up until the browser clears them.
      let samples = new Float32Array(song.length * longest);
      let stems = new Float32Array(separation.sources.length * song.length * STRETCH);
      while (next < todo.length) {
        const index = next++;
        const { at, begin, finish, ...stretch } = todo[index];
        const [n_channels, n_samples] = [song.length, finish - begin];
        song.forEach((channel, i) => {
          const place = samples.subarray(i * n_samples, (i + 1) * n_samples);
          cut(channel, length, begin, finish, place);
        });
        const input = { samples, stems, n_channels, n_samples, ...stretch };
        ({ samples, stems } = await engine.call("stretch", input, [samples.buffer, stems.buffer]));
        separation.stems.forEach((stem, source) => {
          stem?.forEach((channel, i) => {
            const from = (source * n_channels + i) * stretch.length;
            channel.write(at, stems.subarray(from, from + stretch.length));
          });
        });
        done.add(index);
        while (done.has(separation.ready / STRETCH)) separation.ready += STRETCH;
        progress(done.size / todo.length);
      }
    };
    await Promise.all(engines.map(work));
  }

  /** Start engines for a network, as many as the machine has cores for and the song stretches. */
  function startEngines(network, hop, seconds) {
    const frames = STRETCH / HOP + 3 + 2 * network.sizes.context;
    const n = Math.min(navigator.hardwareConcurrency || 2, 4, Math.ceil((seconds * RATE) / STRETCH));
    return startSome(n, network, hop, Math.ceil(frames / hop) + 2);
  }

  async function startSome(n, network, hop, contexts) {
    const { simd, scalar, worker } = await part("engine");
    const fast = fromBase64(simd);
    const code = WebAssembly.validate(fast) ? fast : fromBase64(scalar);
    const weights = fromBase64(network.weights);
    const input = { ...network.sizes, code, weights, half: network.half, hop, contexts };
    const engines = Array.from({ length: n }, () => new Engine(worker));
    try {
      await Promise.all(engines.map((engine) => engine.call("network", input)));
    } catch (error) {
      for (const engine of engines) engine.end();
      throw error;
    }
    return engines;
  }

  /** Resample channels to a length in the engines' workers, with a filter of sepkit.notebook.web:
      output n lies at input n * down / up, and has one of `up` rows of taps. */
  async function resample(engines, channels, length, total, { up, down, taps, ...text }, compact) {
    const filter = floats(text.filter);
    const beginning = floats(text.start);
    const half = taps / 2;
    const todo = [];
    const resampled = channels.map((channel) => {
      const output = new Channel(total, compact);
      for (let start = 0; start < total; start += STRETCH) todo.push({ channel, output, start });
      return output;
    });
    /** The first outputs, each the product of the first inputs with a row of its own. */
    const begin = (piece, channel) => {
      const n = beginning.length / FIRST;
      const inputs = cut(channel, length, 0, n);
      for (let i = 0; i < Math.min(FIRST, piece.length); i++) {
        piece[i] = inputs.reduce((sum, value, k) => sum + value * beginning[i * n + k], 0);
      }
    };
    const work = async (engine) => {
      for (let next = todo.shift(); next; next = todo.shift()) {
        const { channel, output, start } = next;
        const n = Math.min(STRETCH, total - start);
        const first = Math.floor((start * down) / up) - half + 1;
        const behind = Math.floor(((start + n) * down) / up) + half + 1;
        const samples = cut(channel, length, first, behind);
        const phase = (start * down) % up;
        const input = { samples, filter, taps, up, down, phase, length: n };
        const piece = await engine.call("resample", input, [samples.buffer]);
        if (start === 0) begin(piece, channel);
        output.write(start, piece);
      }
    };
    await Promise.all(engines.map(work));
    return resampled;
  }

  /** Separate a song: from its channels at a rate to a Separation at that rate. Empties `sound`.

      `begin` is called with the Separation at the network's own rate, which fills while the song is
      separated, and `progress` with the fraction that is done. */
  async function separateSong(engines, network, sound, rate, hop, { begin, progress }) {
    const { sources } = network;
    const length = sound[0].length;
    const compact = length > COMPACT * rate;
    const song = [];
    // What is kept in 16 bits is not kept as floats as well.
    while (sound.length) {
      const samples = sound.shift();
      song.push(Channel.of(samples, compact));
      if (compact) samples.buffer.transfer?.(0); // freed now, and not when the browser finds time
    }
    const empty = (n, rest) =>
      sources.map((_, i) => (i === rest ? null : song.map(() => new Channel(n, compact))));
    const last = sources.length - 1;
    const same = rate === RATE;
    const innerLength = same ? length : Math.round((length * RATE) / rate);
    const filters = same ? null : await part(`rate-${rate}`);
    const inner = same ? song : await resample(engines, song, length, innerLength, filters.there, compact);
    const separation = new Separation({
      rate: RATE, length: innerLength, sources, song: inner, stems: empty(innerLength, last), rest: last,
    });
    begin(separation);
    await separateWith(engines, separation, { context: network.sizes.context, hop }, (fraction) =>
      progress(same ? fraction : 0.9 * fraction),
    );
    if (same) return separation;

    // As in sepkit, what resampling loses on the way goes to "other".
    const rest = sources.includes("other") ? sources.indexOf("other") : last;
    const stems = await Promise.all(
      sources.map((_, source) => {
        if (source === rest) return null;
        const channels = song.map((_, channel) => ({
          read: (start, stop) => separation.read(source + 1, channel, start, stop),
        }));
        return resample(engines, channels, innerLength, length, filters.back, compact);
      }),
    );
    progress(1);
    return new Separation({ rate, length, sources, song, stems, rest });
  }

  /* ---- One engine, step by step ---- */

  const LAYERS = ["magnitudes", "timbres", "patterns", "bottleneck", "drawn", "masks"];

  /** One channel of a short song in an engine of its own whose steps can be watched and changed.

      A network of one channel. Frame n begins at sample 256 n - 768, and context i at frame hop i.
      Layers, as Float32Arrays row by row: magnitudes (frames, 513), timbres (frames, 50), patterns
      (frames - 11, 30: one for every frame at which a pattern can begin), bottleneck (contexts, 128),
      drawn (sources, contexts, 25, 50), masks (sources, frames, 513). */
  class Workbench {
    static async start(model, samples, hop = 5) {
      const network = await part(model);
      const bench = new Workbench();
      const { context } = network.sizes;
      const wanted = Math.ceil((samples.length + EDGE) / HOP);
      bench.contexts = Math.max(0, Math.ceil((wanted - context) / hop)) + 1;
      Object.assign(bench, { ...network.sizes, hop, source_names: network.sources, samples });
      bench.all_frames = (bench.contexts - 1) * hop + context; // with silence after the end
      bench.frames = wanted;
      [bench.engine] = await startSome(1, network, hop, bench.contexts);
      const padded = new Float32Array(HOP * (bench.all_frames + 3));
      padded.set(samples, EDGE);
      await bench.engine.call("put", { layer: "samples", numbers: padded });
      await bench.step("analyse", 1, bench.contexts);
      return bench;
    }

    step(name, ...values) {
      return this.engine.call("step", { name, values });
    }

    /** Rows of a layer, and floats of a row: as they are, and as the engine keeps them. */
    shape(layer) {
      const { all_frames: frames, contexts, context, sources, timbres, patterns, pattern, shared } = this;
      const shapes = {
        magnitudes: [frames, 513],
        timbres: [frames, timbres],
        patterns: [frames - pattern + 1, patterns],
        bottleneck: [contexts, shared],
        drawn: [sources * contexts * context, timbres],
        masks: [sources * frames, 513],
      };
      const [rows, columns] = shapes[layer];
      const padded = layer === "drawn" || layer === "masks" ? Math.ceil(columns / 8) * 8 : columns;
      return { rows, columns, padded };
    }

    /** The numbers of a layer. */
    async get(layer) {
      const { rows, columns, padded } = this.shape(layer);
      const input = { layer: LAYERS.indexOf(layer), length: rows * padded };
      const numbers = await this.engine.call("get", input);
      if (padded === columns) return numbers;
      const tight = new Float32Array(rows * columns);
      for (let row = 0; row < rows; row++) {
        tight.set(numbers.subarray(row * padded, row * padded + columns), row * columns);
      }
      return tight;
    }

    /** Set the numbers of a layer, or of its first rows; what comes after it follows by the next steps. */
    put(layer, numbers) {
      const { columns, padded } = this.shape(layer);
      const rows = numbers.length / columns;
      const loose = new Float32Array(rows * padded);
      for (let row = 0; row < rows; row++) {
        loose.set(numbers.subarray(row * columns, (row + 1) * columns), row * padded);
      }
      return this.engine.call("put", { layer: LAYERS.indexOf(layer), numbers: loose }, [loose.buffer]);
    }

    /** Compute the masks from the magnitudes. `change` has functions by layer, each of which may
        change the layer's numbers, an array, before the next layer is computed. */
    async forward(change = {}) {
      for (const layer of LAYERS.slice(1, -1)) {
        await this.step(layer === "drawn" ? "draw" : layer);
        if (!change[layer]) continue;
        const numbers = await this.get(layer);
        change[layer](numbers);
        await this.put(layer, numbers);
      }
      await this.step("average", 0, this.all_frames);
    }

    /** The stems of the masks as they are: a Float32Array for each source. */
    async stems() {
      await this.step("invert", 0, this.all_frames);
      const { length } = this.samples;
      return Promise.all(
        this.source_names.map((_, source) => this.engine.call("get", { layer: "stem", source, length })),
      );
    }

    end() {
      this.engine.end();
    }
  }

  globalThis.sepkitEngine = { RATE, part, fromBase64, startEngines, separateSong, Workbench };
})();
