"""What people would use instead: the report's own procedure, and Spleeter's U-Nets in Keras."""

from __future__ import annotations

import keras
import numpy as np
import scipy.signal
import tensorflow as tf
from keras import layers, ops

from sepkit.losses import report_loss
from sepkit.stft import FRAME_LENGTH, HOP_LENGTH, SEGMENT_LENGTH
from sepkit.study.report_network import report_network, set_report_weights
from sepkit.tracks import SOURCES

BATCH = 32


def convolutional_masks(values) -> keras.Model:
    """Build the report's layers from the spectrum to the masks, without the inverse STFT."""
    channels = values["vertical_convolution/kernel"].shape[1]
    network = report_network(channels=channels)
    set_report_weights(network, values)
    masks = [network.get_layer(f"division_{source}").output for source in SOURCES]
    return keras.Model(network.input, masks)


def magnitude_and_phase(segments: tf.Tensor) -> tf.Tensor:
    """Transform (n, 7168, channels) to the report's input (n, 25, 513, channels, 2)."""
    spectra = tf.signal.stft(
        tf.transpose(segments, (0, 2, 1)), FRAME_LENGTH, HOP_LENGTH, FRAME_LENGTH
    )
    spectra = tf.transpose(spectra, (0, 2, 3, 1))
    return tf.stack([tf.abs(spectra), tf.math.angle(spectra)], axis=-1)


class ReportProcedure:
    """From a wav file to four wav files as the report does, in batches of 32 segments."""

    def __init__(self, values):
        self.channels = values["vertical_convolution/kernel"].shape[1]
        self.model = report_network(channels=self.channels, batch_size=BATCH)
        set_report_weights(self.model, values)

    def __call__(self, path, folder) -> None:
        """Separate a file of two channels, or the left channel, into a folder."""
        audio, rate = tf.audio.decode_wav(tf.io.read_file(str(path)), self.channels)
        segments = tf.signal.frame(audio, SEGMENT_LENGTH, SEGMENT_LENGTH, pad_end=True, axis=0)
        stft = magnitude_and_phase(segments)
        stft = stft[: len(stft) // BATCH * BATCH]
        estimates = self.model.predict(stft, batch_size=BATCH, verbose=0)
        stems = estimates.reshape(-1, self.channels, len(SOURCES))
        for i, source in enumerate(SOURCES):
            wav = tf.audio.encode_wav(stems[..., i], rate)
            tf.io.write_file(str(folder / f"report-{source}.wav"), wav)


def report_training(*, jit_compile: bool = False) -> keras.Model:
    """Build the report's graph with its STFT before it, compiled as there, or by XLA."""
    mixture = keras.Input((SEGMENT_LENGTH, 1), batch_size=BATCH)
    stft = layers.Lambda(magnitude_and_phase, output_shape=(25, 513, 1, 2))(mixture)
    model = keras.Model(mixture, report_network(batch_size=BATCH)(stft))
    model.compile(
        keras.optimizers.Adadelta(0.01, rho=0.95, epsilon=1.0),
        loss=report_loss,
        jit_compile=jit_compile,
    )
    return model


def unet() -> keras.Model:
    """Build one of Spleeter's four U-Nets: masks of 512 frames of 1024 bins, for two channels."""
    x = image = keras.Input((512, 1024, 2))
    skips = []
    for filters in (16, 32, 64, 128, 256, 512):
        x = layers.Conv2D(filters, 5, strides=2, padding="same")(x)
        skips.append(x)
        x = layers.Activation("elu")(layers.BatchNormalization()(x))
    x = skips.pop()
    for filters in (256, 128, 64, 32, 16, 1):
        x = layers.Conv2DTranspose(filters, 5, strides=2, padding="same")(x)
        x = layers.BatchNormalization()(layers.Activation("elu")(x))
        if skips:
            x = layers.Concatenate()([skips.pop(), x])
    mask = layers.Conv2D(2, 4, dilation_rate=2, padding="same", activation="sigmoid")(x)
    return keras.Model(image, layers.Multiply()([mask, image]))


class Spleeter:
    """Spleeter's four stems by architecture, written anew, with random weights: for time only."""

    def __init__(self):
        image = keras.Input((512, 1024, 2))
        drawn = ops.stack([unet()(image) for _ in SOURCES], axis=-1)
        power = ops.square(drawn) + 1e-10
        self.model = keras.Model(image, power / ops.sum(power, axis=-1, keepdims=True))

    def __call__(self, audio: np.ndarray) -> list[np.ndarray]:
        """Separate (n_samples, 2)."""
        _, _, spectrum = scipy.signal.stft(audio.T, nperseg=4096, noverlap=3072)
        spectrum = np.moveaxis(spectrum, 0, -1).swapaxes(0, 1)  # (frames, 2049, 2)
        missing = -len(spectrum) % 512
        padded = np.pad(np.abs(spectrum[:, :1024]), [(0, missing), (0, 0), (0, 0)])
        images = padded.reshape(-1, 512, 1024, 2).astype(np.float32)
        masks = self.model.predict(images, batch_size=1, verbose=0)
        masks = masks.reshape(-1, 1024, 2, len(SOURCES))[: len(spectrum)]
        stems = []
        for i in range(len(SOURCES)):
            # Above 11 kHz the mean of the mask, as Spleeter's "average" extension does.
            above = np.repeat(masks[..., i].mean(axis=1, keepdims=True), 1025, axis=1)
            masked = spectrum * np.concatenate([masks[..., i], above], axis=1)
            masked = np.moveaxis(masked.swapaxes(0, 1), -1, 0)
            stems.append(scipy.signal.istft(masked, nperseg=4096, noverlap=3072)[1].T)
        return stems
