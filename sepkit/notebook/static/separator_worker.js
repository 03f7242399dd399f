/* The engine in a worker: a network and stretches of a song in, stems out. separator.js makes it from
   a Blob, since a page from disk may start no worker from a file. */
"use strict";

let wasm, engine, model;

const floats = (place, length) => new Float32Array(wasm.memory.buffer, place, length);

/** Bytes of new memory, all zero: its place. */
const reserve = (bytes) => wasm.memory.grow(Math.ceil(bytes / 65536)) * 65536;

/** Memory for a task that needs more than the engine has, kept for the next one. */
let scratch = { place: 0, bytes: 0 };
function workspace(bytes) {
  if (bytes > scratch.bytes) scratch = { place: reserve(bytes), bytes };
  return scratch.place;
}

const tasks = {
  /** Make an engine with a network's weights, 16- or 32-bit floats in the order of sepkit.weights. */
  async network({ code, weights, half, ...rest }) {
    ({ exports: wasm } = (await WebAssembly.instantiate(code)).instance);
    model = rest;
    const { channels, sources, timbres, patterns, pattern, shared, context, hop, contexts } = model;
    const sizes = [channels, sources, timbres, patterns, pattern, shared, context, hop, contexts];
    engine = wasm.engine_create(reserve(wasm.engine_size(...sizes)), ...sizes);
    new Uint8Array(wasm.memory.buffer, wasm.engine_weights(engine)).set(weights);
    if (half) wasm.engine_widen(engine);
    wasm.engine_prepare(engine);
    return { result: {} };
  },

  /** Separate a stretch: the samples that each channel's contexts need in, its stems by source and
      channel out. Both arrays go back to the page, which uses them for the next stretch. */
  async stretch({ samples, stems, n_channels, n_samples, contexts, start, stop, length }) {
    // A network of one channel takes each channel by itself, one of two takes both at once.
    const size = model.channels === 1 ? 1 : n_channels;
    for (let first = 0; first < n_channels; first += size) {
      for (let i = 0; i < size; i++) {
        const from = (first + i) * n_samples;
        const place = wasm.engine_samples(engine, i);
        floats(place, n_samples).set(samples.subarray(from, from + n_samples));
      }
      wasm.engine_separate(engine, size, contexts, start, stop);
      for (let source = 0; source < model.sources; source++) {
        for (let i = 0; i < size; i++) {
          const place = wasm.engine_stem(engine, source, i);
          stems.set(floats(place, length), (source * n_channels + first + i) * length);
        }
      }
    }
    return { result: { samples, stems }, transfer: [samples.buffer, stems.buffer] };
  },

  /** One step of the engine, by its name. */
  async step({ name, values = [] }) {
    wasm[`engine_${name}`](engine, ...values);
    return { result: null };
  },

  /** Write samples or the numbers of a layer. */
  async put({ layer, numbers }) {
    const place = layer === "samples" ? wasm.engine_samples(engine, 0) : wasm.engine_place(engine, layer);
    floats(place, numbers.length).set(numbers);
    return { result: null };
  },

  /** Read a stem or the numbers of a layer. */
  async get({ layer, source, length }) {
    const place = layer === "stem" ? wasm.engine_stem(engine, source, 0) : wasm.engine_place(engine, layer);
    const result = floats(place, length).slice();
    return { result, transfer: [result.buffer] };
  },

  /** Resample a piece of a channel, with the rows of a filter of separator.js. */
  async resample({ samples, filter, taps, up, down, phase, length }) {
    const from = workspace(4 * (samples.length + filter.length + length));
    const rows = from + 4 * samples.length;
    const to = rows + 4 * filter.length;
    floats(from, samples.length).set(samples);
    floats(rows, filter.length).set(filter);
    wasm.engine_resample(from, rows, taps, up, down, phase, to, length);
    const result = floats(to, length).slice();
    return { result, transfer: [result.buffer] };
  },
};

onmessage = async ({ data: { id, task, ...input } }) => {
  try {
    const { result, transfer = [] } = await tasks[task](input);
    postMessage({ id, result }, transfer);
  } catch (error) {
    postMessage({ id, error: error.message });
  }
};
