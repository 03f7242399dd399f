/* Sound files in a page: decoded to samples at their own rate, and written. */
(() => {
  "use strict";
  if (globalThis.sepkitSound) return;

  const LARGEST = 600 << 20; // bytes of a file
  const LONGEST = 20 * 60; // [s]
  const MOST = 8; // channels

  /** The sample rate that a file names in its header, or null.

      Browsers resample what they decode, and tell no one from which rate. Libraries that read all
      headers are half as large as the engine with its network. */
  function sampleRate(buffer) {
    const view = new DataView(buffer);
    const size = view.byteLength;
    const text = (at, n) => String.fromCharCode(...new Uint8Array(buffer, at, Math.max(0, Math.min(n, size - at))));
    const find = (word, from, upto) => {
      const found = text(from, upto - from).indexOf(word);
      return found < 0 ? -1 : from + found;
    };
    const start = text(0, 4);
    const within = Math.min(size, 16384);
    let rate;
    if (["RIFF", "RF64", "RIFX"].includes(start)) {
      const at = find("fmt ", 12, within);
      if (at > 0) rate = view.getUint32(at + 12, true);
    } else if (start === "fLaC" && size > 21) {
      rate = view.getUint32(18) >>> 12;
    } else if (start === "OggS") {
      const at = find("vorbis", 28, within);
      rate = at > 0 ? view.getUint32(at + 11, true) : 48000;
    } else if (text(4, 4) === "ftyp") {
      // The box may stand at the end of the file: sound comes first in some.
      const bytes = new Uint8Array(buffer);
      for (let i = 0; i + 32 < size && !rate; i++) {
        if (bytes[i] === 0x6d && text(i, 4) === "mp4a") rate = view.getUint32(i + 28) >>> 16;
      }
    } else {
      let at = 0;
      if (text(0, 3) === "ID3") {
        at = 10 + [6, 7, 8, 9].reduce((sum, i) => sum * 128 + (view.getUint8(i) & 127), 0);
      }
      for (const end = Math.min(size - 4, at + 16384); at < end; at++) {
        const head = view.getUint32(at);
        const [version, layer, index] = [(head >> 19) & 3, (head >> 17) & 3, (head >> 10) & 3];
        if (head >>> 21 !== 0x7ff || version === 1 || layer === 0 || index === 3) continue;
        rate = [44100, 48000, 32000][index] / { 3: 1, 2: 2, 0: 4 }[version];
        break;
      }
    }
    return rate >= 8000 && rate <= 192000 ? rate : null;
  }

  /** The samples of a wav file of integers or floats, or null. Browsers read these files, too, but some
      scale 16 bits by 32,767 where they are positive and by 32,768 where they are not. */
  function readWav(buffer) {
    const view = new DataView(buffer);
    const word = (at) => view.getUint32(at, true);
    const named = (at, name) => [...name].every((letter, i) => view.getUint8(at + i) === letter.charCodeAt(0));
    if (view.byteLength < 44 || !named(0, "RIFF") || !named(8, "WAVE")) return null;
    let format = null;
    for (let at = 12; at + 8 <= view.byteLength; ) {
      const size = word(at + 4);
      const content = at + 8;
      if (named(at, "fmt ") && content + 16 <= view.byteLength) {
        let kind = view.getUint16(content, true);
        if (kind === 0xfffe && size >= 26) kind = view.getUint16(content + 24, true); // extensible
        const [n, bits] = [view.getUint16(content + 2, true), view.getUint16(content + 14, true)];
        format = { read: readers[`${kind} ${bits}`], n, bytes: bits / 8, rate: word(content + 4) };
      }
      if (named(at, "data")) {
        if (!format?.read || !format.n || format.rate < 8000 || format.rate > 192000) return null;
        const { read, n, bytes, rate } = format;
        const length = Math.floor(Math.min(size, view.byteLength - content) / (n * bytes));
        const sound = Array.from({ length: n }, () => new Float32Array(length));
        for (let i = 0, place = content; i < length; i++) {
          for (let channel = 0; channel < n; channel++, place += bytes) sound[channel][i] = read(view, place);
        }
        return { sound, rate };
      }
      at = content + size + (size % 2);
    }
    return null;
  }

  /** By kind and bits of wav files: a sample as a float. */
  const readers = {
    "1 16": (view, at) => view.getInt16(at, true) / 2 ** 15,
    "1 24": (view, at) => (view.getUint16(at, true) + view.getInt8(at + 2) * 65536) / 2 ** 23,
    "1 32": (view, at) => view.getInt32(at, true) / 2 ** 31,
    "3 32": (view, at) => view.getFloat32(at, true),
  };

  /** Whether a file is an mp3 file by its first bytes. */
  function isMp3(buffer) {
    const [a, b, c] = new Uint8Array(buffer, 0, Math.min(3, buffer.byteLength));
    return (a === 0x49 && b === 0x44 && c === 0x33) || (a === 0xff && (b & 0xe6) > 0xe0); // "ID3", frame
  }

  /** The samples of an mp3 file by mpg123, or null. Chromium decodes such files to 16 bits. */
  async function readMp3(bytes, { MPEGDecoderWebWorker }) {
    const decoder = new MPEGDecoderWebWorker();
    try {
      await decoder.ready;
      const { channelData, sampleRate, samplesDecoded } = await decoder.decode(new Uint8Array(bytes));
      return samplesDecoded ? { sound: channelData, rate: sampleRate } : null;
    } catch {
      return null;
    } finally {
      decoder.free();
    }
  }

  /** Decode a file.

      At its own sample rate where `canResample(rate)`, a promise, says that this helps, else at
      `usual`; mp3 files by the library that `forMp3()` promises, if any. Returns the rate and the channels, or rejects with an Error that says what is wrong. */
  async function decode(file, usual, canResample, forMp3 = async () => null) {
    if (file.size > LARGEST) throw new Error(`it is larger than ${LARGEST >> 20} MB`);
    const bytes = await file.arrayBuffer();
    if (!bytes.byteLength) throw new Error("it is empty");
    let rate = sampleRate(bytes) ?? usual;
    if (rate !== usual && !(await canResample(rate))) rate = usual;
    const wav = readWav(bytes);
    if (wav?.rate === rate) {
      bytes.transfer?.(0); // freed now, and not when the browser finds time
      return check(wav);
    }
    const library = isMp3(bytes) && (await forMp3());
    const mp3 = library && (await readMp3(bytes, library));
    if (mp3?.rate === rate) return check(mp3);
    let decoded;
    try {
      decoded = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
    } catch {
      throw new Error("this browser cannot decode it; try a wav, flac, mp3 or m4a file");
    }
    const sound = Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i));
    return check({ sound, rate });
  }

  function check({ sound, rate }) {
    const { length } = sound[0];
    if (!length) throw new Error("it holds no sound");
    if (sound.length > MOST) throw new Error(`it has ${sound.length} channels (${MOST} at most)`);
    if (length > LONGEST * rate) {
      throw new Error(
        `at ${Math.round(length / rate / 60)} minutes it is too long for the page's memory ` +
          `(${LONGEST / 60} at most); sepkit separate, on the command line, takes any length`,
      );
    }
    for (const channel of sound) {
      for (const sample of channel) {
        if (!(Math.abs(sample) < 1e6)) throw new Error("it holds samples that are no numbers, or immense");
      }
    }
    return { sound, rate };
  }

  /** Write a wav file of 32-bit floats, which no level clips. */
  function wav(channels, rate) {
    const n = channels.length;
    const head = new DataView(new ArrayBuffer(58));
    const words = (at, text) => [...text].forEach((c, i) => head.setUint8(at + i, c.charCodeAt(0)));
    const bytes = channels[0].length * n * 4;
    words(0, "RIFF");
    head.setUint32(4, 50 + bytes, true);
    words(8, "WAVEfmt ");
    head.setUint32(16, 18, true);
    head.setUint16(20, 3, true); // floats
    head.setUint16(22, n, true);
    head.setUint32(24, rate, true);
    head.setUint32(28, rate * n * 4, true);
    head.setUint16(32, n * 4, true);
    head.setUint16(34, 32, true);
    words(38, "fact");
    head.setUint32(42, 4, true);
    head.setUint32(46, channels[0].length, true);
    words(50, "data");
    head.setUint32(54, bytes, true);
    const interleaved = new Float32Array(channels[0].length * n);
    channels.forEach((samples, channel) => {
      for (let i = 0; i < samples.length; i++) interleaved[i * n + channel] = samples[i];
    });
    return new Blob([head, interleaved], { type: "audio/wav" });
  }

  globalThis.sepkitSound = { decode, wav };
})();
