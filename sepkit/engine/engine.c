/* A stretch of a song in, its stems out: STFT, network, averaged masks, inverse STFT.

   The network of sepkit/network.py and the averaging of sepkit/masks.py once more, in plain C
   without a library. Compiled to WebAssembly it separates songs in a page (separator.js).

   Wider registers (LANES) and larger tiles suit a computer's own processor: native.py compiles it so.

   All matrices are stored row by row. The letters are those of the book's glossary: a frame has
   513 bins, a context some 25 frames, one every `hop` frames. */

#ifndef LANES
#define LANES 4 /* floats in a register */
#define TILE 4  /* rows of a product computed at once */
#endif

enum {
  FRAME = 1024, HOP = 256, EDGE = FRAME - HOP, BINS = FRAME / 2 + 1,
  PANEL = 2 * LANES, /* columns of a product computed at once */
  BATCH = 2 * LANES, /* frames transformed at once: one in the real part of a lane, one in the other */
  GROUP = 4, /* contexts decoded at once: as many as fit the cache */
};
#define SMALLEST_SUM 1e-18f /* a bin below it is silent, as in sepkit/network.py */

/* Some floats, which may lie anywhere; a compiler without such registers takes them one by one. */
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));

/* A matrix in panels of a few columns, row after row, so that a product reads it in order. */
typedef struct {
  int rows, columns;
  float *panels, *bias;
} matrix;

typedef struct {
  int channels, sources, timbres, patterns, taps, shared, context, hop, frames, positions, width,
      drawn_width;
  int contexts, n_channels;                         /* of the stretch at hand */
  long length;                                      /* samples of a channel at most */
  matrix vertical, horizontal, global;              /* encoder */
  matrix *single, *horizontal_back, *vertical_back; /* decoders, one for each source */
  float *weights;                                   /* as they came */
  float *samples;                                   /* of the stretch, [channel][sample] */
  float *stems;                                     /* [source][channel][sample] */
  float *real, *imaginary;                          /* spectra, [channel][frame][bin] */
  float *magnitudes;                                /* [frame][bin][channel] */
  float *timbre, *pattern, *bottleneck;             /* outputs of the encoder's layers */
  float *places;                                    /* [context][position][pattern], of one source */
  float *drawn;                                     /* [source][context][frame][padded timbre] */
  float *decoded;                                   /* [source][row][column of a panel] */
  float *share;                                     /* [frame]: one over its number of contexts */
  float *masks;                                     /* [source][frame][bin][channel] */
  float *cosine, *sine, *window;                    /* [sample of a frame] */
  lanes *transformed;                               /* work space of the Fourier transform */
  float *rows;                                      /* [part][lane][sample of a frame] */
} engine;

static int panels(int columns) { return (columns + PANEL - 1) / PANEL; }

/* ---- Memory: everything has its place from the start ---- */

/* The next place in memory; where the memory begins at 0, only its size is found out. */
static void *take(char **end, long floats) {
  char *place = *end;
  *end += (floats * sizeof(float) + 63) / 64 * 64;
  return place;
}

static matrix take_matrix(char **end, int rows, int columns) {
  matrix m = {rows, columns, 0, 0};
  m.panels = take(end, (long)rows * panels(columns) * PANEL);
  m.bias = take(end, panels(columns) * PANEL);
  return m;
}

static long n_weights(const engine *e) {
  long n = (long)(BINS * e->channels + 1) * e->timbres + (e->taps * e->timbres + 1) * e->patterns +
           (e->positions * e->patterns + 1) * e->shared;
  long decoder = (long)(e->shared + 1) * e->positions * e->patterns +
                 (e->taps * e->patterns + 1) * e->timbres + BINS * e->channels * e->timbres +
                 e->channels;
  return n + e->sources * decoder;
}

/* Divide the memory from `base` on; return its end. */
static char *arrange(engine *e, char *base) {
  char *end = base;
  int s, contexts = e->contexts, inputs = BINS * e->channels;
  long length = e->length, bins = (long)e->frames * BINS;
  e->vertical = take_matrix(&end, inputs, e->timbres);
  e->horizontal = take_matrix(&end, e->taps * e->timbres, e->patterns);
  e->global = take_matrix(&end, e->positions * e->patterns, e->shared);
  e->single = take(&end, e->sources * (long)sizeof(matrix) / sizeof(float));
  e->horizontal_back = take(&end, e->sources * (long)sizeof(matrix) / sizeof(float));
  e->vertical_back = take(&end, e->sources * (long)sizeof(matrix) / sizeof(float));
  for (s = 0; s < e->sources; s++) {
    matrix single = take_matrix(&end, e->shared, e->positions * e->patterns);
    matrix horizontal = take_matrix(&end, e->taps * e->patterns, e->timbres);
    matrix vertical = take_matrix(&end, e->timbres, inputs);
    if (!base) continue;
    e->single[s] = single, e->horizontal_back[s] = horizontal, e->vertical_back[s] = vertical;
  }
  e->weights = take(&end, n_weights(e));
  e->samples = take(&end, e->channels * length);
  e->stems = take(&end, e->sources * e->channels * length);
  e->real = take(&end, e->channels * bins);
  e->imaginary = take(&end, e->channels * bins);
  e->magnitudes = take(&end, e->channels * bins);
  e->timbre = take(&end, (long)e->frames * e->timbres + PANEL);
  e->pattern = take(&end, (long)e->frames * e->patterns + PANEL);
  e->bottleneck = take(&end, (long)contexts * e->shared + PANEL);
  e->places = take(&end, (long)contexts * e->positions * e->patterns + PANEL);
  e->drawn = take(&end, (long)e->sources * contexts * e->context * e->drawn_width);
  e->decoded = take(&end, (long)e->sources * GROUP * e->context * PANEL);
  e->share = take(&end, e->frames);
  e->masks = take(&end, (long)e->sources * e->frames * e->width);
  e->cosine = take(&end, FRAME);
  e->sine = take(&end, FRAME);
  e->window = take(&end, FRAME);
  e->transformed = take(&end, 4l * FRAME * LANES);
  e->rows = take(&end, 2l * FRAME * LANES);
  return end;
}

/* ---- Products of matrices ---- */

/* Pack `from`: one row further is `row_step` floats further, one column further `column_step`. */
static void pack(matrix *m, const float *from, long row_step, long column_step) {
  for (int j = 0; j < panels(m->columns) * PANEL; j++)
    for (int i = 0; i < m->rows; i++)
      m->panels[((long)(j / PANEL) * m->rows + i) * PANEL + j % PANEL] =
          j < m->columns ? from[i * row_step + j * column_step] : 0;
}

/* Repeat `n` values over the biases of all columns. */
static void set_bias(matrix *m, const float *from, int n) {
  for (int j = 0; j < panels(m->columns) * PANEL; j++)
    m->bias[j] = j < m->columns ? from[j % n] : 0;
}

static inline __attribute__((always_inline)) void tile(
    const float *a, long a_step, int rows, const float *b, int k, const float *bias, float *c,
    long c_step) {
  lanes left[TILE], right[TILE];
  for (int i = 0; i < rows; i++)
    left[i] = *(const lanes *)bias, right[i] = *(const lanes *)(bias + LANES);
  for (int j = 0; j < k; j++, b += PANEL) {
    lanes b_left = *(const lanes *)b, b_right = *(const lanes *)(b + LANES);
    for (int i = 0; i < rows; i++) {
      float factor = a[i * a_step + j];
      left[i] += factor * b_left, right[i] += factor * b_right;
    }
  }
  for (int i = 0; i < rows; i++)
    *(lanes *)(c + i * c_step) = left[i], *(lanes *)(c + i * c_step + LANES) = right[i];
}

/* The columns of a panel of c = a b + bias: `m` rows, with `k` rows of b from `b` on. */
static void multiply_panel(
    const float *a, long a_step, int m, const float *b, int k, const float *bias, float *c,
    long c_step) {
  int i = 0;
  for (; i + TILE <= m; i += TILE) tile(a + i * a_step, a_step, TILE, b, k, bias, c + i * c_step, c_step);
  for (; i < m; i++) tile(a + i * a_step, a_step, 1, b, k, bias, c + i * c_step, c_step);
}

/* c = a b + bias, with `k` rows of b from `first` on.

   The last panel of a row may reach some floats beyond it, into the next row's beginning.
   Panels are therefore computed from the last one to the first, which overwrites that. */
static void multiply(
    const float *a, long a_step, int m, const matrix *b, int first, int k, float *c, long c_step) {
  for (int j = panels(b->columns) - 1; j >= 0; j--)
    multiply_panel(a, a_step, m, b->panels + ((long)j * b->rows + first) * PANEL, k,
                   b->bias + j * PANEL, c + j * PANEL, c_step);
}

static void rectify(float *values, long n) {
  for (long i = 0; i < n; i++) values[i] = values[i] > 0 ? values[i] : 0;
}

/* ---- Fourier transform ---- */

/* Transform 1024 complex numbers per lane (Stockham, radix 4); return where the result is: first the
   real parts, then the imaginary ones. */
static const lanes *transform(engine *e) {
  lanes *from_re = e->transformed, *from_im = from_re + FRAME;
  lanes *to_re = from_im + FRAME, *to_im = to_re + FRAME;
  for (int n = FRAME, s = 1; n > 1; n /= 4, s *= 4) {
    int quarter = n / 4;
    for (int p = 0; p < quarter; p++) {
      float c1 = e->cosine[p * s], s1 = -e->sine[p * s];
      float c2 = e->cosine[2 * p * s], s2 = -e->sine[2 * p * s];
      float c3 = e->cosine[3 * p * s], s3 = -e->sine[3 * p * s];
      for (int q = 0; q < s; q++) {
        int i = q + s * p, o = q + s * 4 * p, step = s * quarter;
        lanes ar = from_re[i], ai = from_im[i], br = from_re[i + step], bi = from_im[i + step];
        lanes cr = from_re[i + 2 * step], ci = from_im[i + 2 * step];
        lanes dr = from_re[i + 3 * step], di = from_im[i + 3 * step];
        lanes sum_r = ar + cr, sum_i = ai + ci, odd_r = br + dr, odd_i = bi + di;
        lanes less_r = ar - cr, less_i = ai - ci, turn_r = bi - di, turn_i = dr - br; /* -i (b - d) */
        to_re[o] = sum_r + odd_r, to_im[o] = sum_i + odd_i;
        lanes xr = less_r + turn_r, xi = less_i + turn_i;
        to_re[o + s] = xr * c1 - xi * s1, to_im[o + s] = xr * s1 + xi * c1;
        xr = sum_r - odd_r, xi = sum_i - odd_i;
        to_re[o + 2 * s] = xr * c2 - xi * s2, to_im[o + 2 * s] = xr * s2 + xi * c2;
        xr = less_r - turn_r, xi = less_i - turn_i;
        to_re[o + 3 * s] = xr * c3 - xi * s3, to_im[o + 3 * s] = xr * s3 + xi * c3;
      }
    }
    lanes *swap = from_re;
    from_re = to_re, to_re = swap;
    swap = from_im, from_im = to_im, to_im = swap;
  }
  return from_re;
}

/* From a row for each lane to a register for each column. */
static void interleave(const float *rows, lanes *to) {
  for (int n = 0; n < FRAME; n++)
    for (int lane = 0; lane < LANES; lane++) ((float *)(to + n))[lane] = rows[lane * FRAME + n];
}

/* And back. */
static void spread(const lanes *from, float *rows) {
  for (int n = 0; n < FRAME; n++)
    for (int lane = 0; lane < LANES; lane++) rows[lane * FRAME + n] = ((const float *)(from + n))[lane];
}

/* Spectra of all frames. Frames travel in pairs: one as the real part, one as the imaginary. */
static void analyse(engine *e, const float *samples, float *real, float *imaginary) {
  float *re_rows = e->rows, *im_rows = re_rows + LANES * FRAME;
  for (int first = 0; first < e->frames; first += BATCH) {
    for (int lane = 0; lane < LANES; lane++) {
      int last = e->frames - 1, a = first + lane, b = a + LANES;
      const float *x = samples + HOP * (long)(a < last ? a : last);
      const float *y = samples + HOP * (long)(b < last ? b : last);
      float *xs = re_rows + lane * FRAME, *ys = im_rows + lane * FRAME;
      for (int n = 0; n < FRAME; n++) xs[n] = x[n] * e->window[n], ys[n] = y[n] * e->window[n];
    }
    interleave(re_rows, e->transformed), interleave(im_rows, e->transformed + FRAME);
    const lanes *result = transform(e);
    spread(result, re_rows), spread(result + FRAME, im_rows);
    for (int lane = 0; lane < LANES; lane++) {
      const float *zr = re_rows + lane * FRAME, *zi = im_rows + lane * FRAME;
      int a = first + lane, b = a + LANES;
      float *real_a = real + a * (long)BINS, *imaginary_a = imaginary + a * (long)BINS;
      float *real_b = real + b * (long)BINS, *imaginary_b = imaginary + b * (long)BINS;
      if (a < e->frames) {
        real_a[0] = zr[0], imaginary_a[0] = 0;
        for (int k = 1; k < BINS; k++)
          real_a[k] = (zr[k] + zr[FRAME - k]) / 2, imaginary_a[k] = (zi[k] - zi[FRAME - k]) / 2;
      }
      if (b < e->frames) {
        real_b[0] = zi[0], imaginary_b[0] = 0;
        for (int k = 1; k < BINS; k++)
          real_b[k] = (zi[k] + zi[FRAME - k]) / 2, imaginary_b[k] = (zr[FRAME - k] - zr[k]) / 2;
      }
    }
  }
}

/* The masked spectrum of a channel's frame, or nothing after the last frame. */
static void mask_frame(
    const engine *e, const float *masks, int channel, int frame, int stop, float *re, float *im) {
  const float *mask = masks + frame * (long)e->width;
  const float *real = e->real + (channel * (long)e->frames + frame) * BINS;
  const float *imaginary = e->imaginary + (channel * (long)e->frames + frame) * BINS;
  int channels = e->channels;
  if (frame >= stop)
    for (int k = 0; k < BINS; k++) re[k] = im[k] = 0;
  else if (channels == 1)
    for (int k = 0; k < BINS; k++) re[k] = mask[k] * real[k], im[k] = mask[k] * imaginary[k];
  else
    for (int k = 0; k < BINS; k++, mask += channels) {
      /* Of a song with fewer channels than the network has, the mean of their masks. */
      float m = mask[channel];
      if (e->n_channels < channels) {
        m = 0;
        for (int c = 0; c < channels; c++) m += mask[c];
        m /= channels;
      }
      re[k] = m * real[k], im[k] = m * imaginary[k];
    }
  im[0] = im[BINS - 1] = 0; /* the first and the last bin are real */
}

/* Mask the spectra of the frames from `start` to `stop`, invert them and overlap-add them. */
static void synthesise(
    engine *e, const float *masks, int channel, int start, int stop, float *signal) {
  float *re_rows = e->rows, *im_rows = re_rows + LANES * FRAME;
  float ar[BINS], ai[BINS], br[BINS], bi[BINS]; /* of two frames, one in each part of a lane */
  for (long n = 0; n < HOP * (long)(stop - start + 3); n++) signal[n] = 0;
  for (int first = start; first < stop; first += BATCH) {
    for (int lane = 0; lane < LANES; lane++) {
      mask_frame(e, masks, channel, first + lane, stop, ar, ai);
      mask_frame(e, masks, channel, first + lane + LANES, stop, br, bi);
      /* Real and imaginary part change places: the inverse by the same transform. */
      float *zr = re_rows + lane * FRAME, *zi = im_rows + lane * FRAME;
      for (int k = 0; k < BINS; k++) zi[k] = ar[k] - bi[k], zr[k] = ai[k] + br[k];
      for (int k = 1; k < BINS - 1; k++) zi[FRAME - k] = ar[k] + bi[k], zr[FRAME - k] = br[k] - ai[k];
    }
    interleave(re_rows, e->transformed), interleave(im_rows, e->transformed + FRAME);
    const lanes *result = transform(e);
    spread(result, re_rows), spread(result + FRAME, im_rows);
    for (int i = 0; i < BATCH && first + i < stop; i++) {
      float *out = signal + HOP * (long)(first + i - start);
      const float *frame = i < LANES ? im_rows + i * FRAME : re_rows + (i - LANES) * FRAME;
      for (int n = 0; n < FRAME; n++) out[n] += frame[n] * e->window[n] * (1 / (1.5f * FRAME));
    }
  }
}

/* ---- The network ---- */

/* The timbre filters' outputs. */
void engine_timbres(engine *e) {
  int inputs = BINS * e->channels;
  multiply(e->magnitudes, inputs, e->frames, &e->vertical, 0, inputs, e->timbre, e->timbres);
}

/* The outputs of the horizontal convolution. Twelve frames that follow one another are one row: no
   copy is made. */
void engine_patterns(engine *e) {
  multiply(e->timbre, e->timbres, e->frames - e->taps + 1, &e->horizontal, 0, e->taps * e->timbres,
           e->pattern, e->patterns);
}

/* The bottleneck of each context. */
void engine_bottleneck(engine *e) {
  multiply(e->pattern, (long)e->hop * e->patterns, e->contexts, &e->global, 0,
           e->positions * e->patterns, e->bottleneck, e->shared);
  rectify(e->bottleneck, (long)e->contexts * e->shared);
}

/* What the decoders' first two layers make of the bottleneck. */
void engine_draw(engine *e) {
  int size = e->positions * e->patterns;
  for (int s = 0; s < e->sources; s++) {
    multiply(e->bottleneck, e->shared, e->contexts, &e->single[s], 0, e->shared, e->places, size);
    rectify(e->places, (long)e->contexts * size);
    float *drawn = e->drawn + (long)s * e->contexts * e->context * e->drawn_width;
    for (int frame = 0; frame < e->context; frame++) {
      /* Only the positions that reach this frame, which again follow one another. */
      int near = frame < e->taps ? 0 : frame - e->taps + 1;
      int far = frame < e->positions ? frame + 1 : e->positions;
      multiply(e->places + near * e->patterns, size, e->contexts, &e->horizontal_back[s],
               (near + e->taps - 1 - frame) * e->patterns, (far - near) * e->patterns,
               drawn + frame * e->drawn_width, (long)e->context * e->drawn_width);
    }
  }
}

static lanes magnitude(lanes value) {
  typedef int bits __attribute__((vector_size(4 * LANES)));
  return (lanes)((bits)value & 0x7fffffff);
}

/* Divide what the decoders drew by its sum, and add that to the masks, for a panel's columns of a row. */
static void add_shares(const engine *e, const float *decoded, long source_step, float share, float *mask) {
  for (int half = 0; half < PANEL; half += LANES) {
    lanes total = {0};
    for (int s = 0; s < e->sources; s++) total += magnitude(*(const lanes *)(decoded + s * source_step + half));
    lanes scale = share / total, rest = {0};
    for (int lane = 0; lane < LANES; lane++)
      if (total[lane] < SMALLEST_SUM) scale[lane] = 0, rest[lane] = share / e->sources;
    for (int s = 0; s < e->sources; s++)
      *(lanes *)(mask + s * (long)e->frames * e->width + half) +=
          magnitude(*(const lanes *)(decoded + s * source_step + half)) * scale + rest;
  }
}

/* The masks of the frames from `start` to `stop`, averaged over the contexts that hold them. */
void engine_average(engine *e, int start, int stop) {
  int contexts = e->contexts;
  for (int frame = 0; frame < e->frames; frame++) e->share[frame] = 0;
  for (int c = 0; c < contexts; c++)
    for (int frame = 0; frame < e->context; frame++) e->share[c * e->hop + frame]++;
  for (int frame = 0; frame < e->frames; frame++) e->share[frame] = 1 / e->share[frame];
  for (long i = 0; i < (long)e->sources * e->frames * e->width; i++) e->masks[i] = 0;

  for (int c = 0; c < contexts; c += GROUP) {
    int n = c + GROUP < contexts ? GROUP : contexts - c, rows = n * e->context;
    if (c * e->hop >= stop || (c + n - 1) * e->hop + e->context <= start) continue;
    for (int j = 0; j < e->width / PANEL; j++) {
      for (int s = 0; s < e->sources; s++) {
        const matrix *m = &e->vertical_back[s];
        multiply_panel(e->drawn + ((long)s * contexts + c) * e->context * e->drawn_width, e->drawn_width, rows,
                       m->panels + (long)j * m->rows * PANEL, m->rows, m->bias + j * PANEL,
                       e->decoded + (long)s * rows * PANEL, PANEL);
      }
      for (int row = 0; row < rows; row++) {
        int frame = (c + row / e->context) * e->hop + row % e->context;
        if (frame >= start && frame < stop)
          add_shares(e, e->decoded + row * PANEL, (long)rows * PANEL, e->share[frame],
                     e->masks + frame * (long)e->width + j * PANEL);
      }
    }
  }
}

/* ---- What a host calls ---- */

static void set_contexts(engine *e, int contexts) {
  e->contexts = contexts;
  e->frames = (contexts - 1) * e->hop + e->context;
}

static void set_sizes(
    engine *e, int channels, int sources, int timbres, int patterns, int taps, int shared, int context,
    int hop, int contexts) {
  *e = (engine){channels, sources, timbres, patterns, taps, shared, context, hop};
  set_contexts(e, contexts);
  e->length = HOP * (long)(e->frames + 3);
  e->positions = context - taps + 1;
  e->width = panels(BINS * channels) * PANEL;
  e->drawn_width = panels(timbres) * PANEL;
}

/* Bytes of memory for a network of these sizes and for stretches of up to `contexts` contexts. */
long engine_size(int channels, int sources, int timbres, int patterns, int taps, int shared, int context,
                 int hop, int contexts) {
  engine e;
  set_sizes(&e, channels, sources, timbres, patterns, taps, shared, context, hop, contexts);
  return (arrange(&e, 0) - (char *)0) + sizeof(engine) + 128;
}

/* Make an engine in memory of that size, which begins at a multiple of 64. */
engine *engine_create(char *memory, int channels, int sources, int timbres, int patterns, int taps,
                      int shared, int context, int hop, int contexts) {
  engine *e = (engine *)memory;
  set_sizes(e, channels, sources, timbres, patterns, taps, shared, context, hop, contexts);
  arrange(e, memory + (sizeof(engine) + 63) / 64 * 64);
  double c = 1, s = 0, turn_c = 0.99998117528260110909, turn_s = 0.0061358846491544753597;
  for (int n = 0; n < FRAME; n++) {
    e->cosine[n] = c, e->sine[n] = s, e->window[n] = 0.5 - 0.5 * c; /* Hann */
    double next = c * turn_c - s * turn_s; /* turned by a 1024th of a circle */
    s = s * turn_c + c * turn_s, c = next;
  }
  return e;
}

/* Where the host writes the weights, in the order of sepkit.weights, as 32-bit floats. */
float *engine_weights(engine *e) { return e->weights; }

/* Widen weights that came as 16-bit floats, of which the host wrote `n`. */
void engine_widen(engine *e) {
  long n = n_weights(e);
  const unsigned short *half = (const unsigned short *)e->weights;
  for (long i = n - 1; i >= 0; i--) { /* from the end, since they share their place */
    unsigned sign = (half[i] & 0x8000u) << 16, exponent = half[i] >> 10 & 31, fraction = half[i] & 1023;
    union { unsigned bits; float value; } wide;
    if (exponent) wide.bits = sign | (exponent + 112) << 23 | fraction << 13;
    else wide.value = (sign ? -1.f : 1.f) * fraction / 16777216;
    e->weights[i] = wide.value;
  }
}

/* Arrange the weights for the products. */
void engine_prepare(engine *e) {
  const float *w = e->weights;
  int inputs = BINS * e->channels, size = e->positions * e->patterns, s;
  pack(&e->vertical, w, e->timbres, 1), w += inputs * e->timbres;
  set_bias(&e->vertical, w, e->timbres), w += e->timbres;
  pack(&e->horizontal, w, e->patterns, 1), w += e->taps * e->timbres * e->patterns;
  set_bias(&e->horizontal, w, e->patterns), w += e->patterns;
  pack(&e->global, w, e->shared, 1), w += size * e->shared;
  set_bias(&e->global, w, e->shared), w += e->shared;
  for (s = 0; s < e->sources; s++) pack(&e->single[s], w, size, 1), w += e->shared * size;
  for (s = 0; s < e->sources; s++) set_bias(&e->single[s], w, size), w += size;
  for (s = 0; s < e->sources; s++) {
    /* A frame reads its earliest position through the last tap: taps go backwards. */
    matrix *m = &e->horizontal_back[s];
    for (int j = 0; j < panels(m->columns) * PANEL; j++)
      for (int i = 0; i < m->rows; i++) {
        int tap = e->taps - 1 - i / e->patterns, pattern = i % e->patterns;
        m->panels[((long)(j / PANEL) * m->rows + i) * PANEL + j % PANEL] =
            j < m->columns ? w[(tap * e->timbres + j) * e->patterns + pattern] : 0;
      }
    w += e->taps * e->timbres * e->patterns;
  }
  for (s = 0; s < e->sources; s++) set_bias(&e->horizontal_back[s], w, e->timbres), w += e->timbres;
  for (s = 0; s < e->sources; s++) pack(&e->vertical_back[s], w, 1, e->timbres), w += inputs * e->timbres;
  for (s = 0; s < e->sources; s++) set_bias(&e->vertical_back[s], w, e->channels), w += e->channels;
}

/* Where the host writes a channel's samples: 256 (frames - 1) + 1024 of them. */
float *engine_samples(engine *e, int channel) { return e->samples + channel * e->length; }

/* Where `engine_invert` leaves a channel of a stem. */
float *engine_stem(engine *e, int source, int channel) {
  return e->stems + (source * e->channels + channel) * e->length + EDGE;
}

/* Where the numbers between two steps are stored, to be read or changed by the host: magnitudes (0),
   outputs of the timbre filters (1), of the horizontal convolution (2), bottleneck (3), what the
   decoders drew (4), masks (5). The last two have rows of whole panels. */
float *engine_place(engine *e, int layer) {
  float *places[] = {e->magnitudes, e->timbre, e->pattern, e->bottleneck, e->drawn, e->masks};
  return places[layer];
}

/* Spectra and magnitudes of a stretch of `contexts` contexts. With one channel for a network of
   several, that channel stands for all. */
void engine_analyse(engine *e, int n_channels, int contexts) {
  set_contexts(e, contexts);
  e->n_channels = n_channels;
  long bins = (long)e->frames * BINS;
  for (int c = 0; c < n_channels; c++)
    analyse(e, e->samples + c * e->length, e->real + c * bins, e->imaginary + c * bins);
  for (int c = 0; c < e->channels; c++) {
    const float *re = e->real + (c < n_channels ? c : n_channels - 1) * bins;
    const float *im = e->imaginary + (c < n_channels ? c : n_channels - 1) * bins;
    for (long i = 0; i < bins; i++)
      e->magnitudes[i * e->channels + c] = __builtin_sqrtf(re[i] * re[i] + im[i] * im[i]);
  }
}

/* Stems of the samples that the frames from `start` to `stop` cover fully: (stop - start - 3) * 256. */
void engine_invert(engine *e, int start, int stop) {
  long length = HOP * (long)(stop - start + 3), step = e->channels * e->length;
  for (int c = 0; c < e->n_channels; c++) {
    const float *song = e->samples + c * e->length + HOP * (long)start;
    float *rest = e->stems + (e->sources - 1) * step + c * e->length;
    for (long n = 0; n < length; n++) rest[n] = song[n];
    for (int s = 0; s < e->sources - 1; s++) {
      float *stem = e->stems + s * step + c * e->length;
      synthesise(e, e->masks + (long)s * e->frames * e->width, c, start, stop, stem);
      /* Masks sum to 1: the last stem is what the others leave. */
      for (long n = 0; n < length; n++) rest[n] -= stem[n];
    }
  }
}

/* All steps: separate the frames from `start` to `stop` of a stretch of `contexts` contexts. */
void engine_separate(engine *e, int n_channels, int contexts, int start, int stop) {
  engine_analyse(e, n_channels, contexts);
  engine_timbres(e);
  engine_patterns(e);
  engine_bottleneck(e);
  engine_draw(e);
  engine_average(e, start, stop);
  engine_invert(e, start, stop);
}

/* Resample: output n is the product of the `taps` inputs around n * down / up, the first of which is
   `from` at n = 0, with one of `up` rows of the filter. `phase` is the row of the first output. */
void engine_resample(const float *from, const float *filter, int taps, int up, int down, int phase,
                     float *to, int n) {
  for (int i = 0; i < n; i++) {
    const float *row = filter + (long)phase * taps;
    lanes sum = {0};
    for (int k = 0; k < taps; k += LANES) sum += *(const lanes *)(from + k) * *(const lanes *)(row + k);
    for (int width = LANES / 2; width; width /= 2)
      for (int k = 0; k < width; k++) sum[k] += sum[k + width];
    to[i] = sum[0];
    phase += down;
    from += phase / up, phase %= up;
  }
}
