"""Separation without training: a fixed equalizer, and three methods that need no examples.

Each function maps the magnitudes of a song to masks, as `sepkit.separation.separate_song` and
`sepkit.separation.separate_segments` take them. The methods themselves are librosa's. HPSS and
REPET-SIM split a song into two parts and NMF into parts without names; the equalizer's gains say
to which sources these belong.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from sepkit import stft
from sepkit.errors import import_optional
from sepkit.tracks import SOURCES, Track


def silence(magnitudes: np.ndarray) -> np.ndarray:
    """Return masks (4, n_frames, 513, n_channels) that let nothing pass."""
    return np.zeros((len(SOURCES), *magnitudes.shape), np.float32)


def quarter(magnitudes: np.ndarray) -> np.ndarray:
    """Return masks (4, n_frames, 513, n_channels) that give each source a quarter of the song."""
    return np.full((len(SOURCES), *magnitudes.shape), 1 / len(SOURCES), np.float32)


def mixture(magnitudes: np.ndarray) -> np.ndarray:
    """Return masks (4, n_frames, 513, n_channels) that give each source the whole song."""
    return np.ones((len(SOURCES), *magnitudes.shape), np.float32)


def mean_powers(tracks: Iterable[Track]) -> np.ndarray:
    """Compute the mean power spectrum of each source, left channel, over frames, then songs.

    Float64 of shape (4, 513).
    """
    songs = [
        [np.mean(np.abs(stft.stft(stem[:, :1])[..., 0]) ** 2, axis=0) for stem in track.read()]
        for track in tracks
    ]
    return np.asarray(np.mean(songs, axis=0, dtype=np.float64))


def equalizer_gains(powers: np.ndarray) -> np.ndarray:
    """Compute each source's share of power spectra (4, 513): Wiener's filter for stationary sounds.

    Float32 of the same shape, sum 1 over sources; equal shares where there is no power.
    """
    total = powers.sum(axis=0)
    shares = powers / np.where(total == 0, 1, total)
    return np.where(total == 0, 1 / len(powers), shares).astype(np.float32)


def equalizer(magnitudes: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return the same gains (4, 513) for every frame of a song, whatever it sounds like.

    Masks (4, ..., 513, n_channels) for magnitudes (..., 513, n_channels).
    """
    n_sources, n_bins = gains.shape
    every = gains.reshape(n_sources, *[1] * (magnitudes.ndim - 2), n_bins, 1)
    return np.broadcast_to(every, (n_sources, *magnitudes.shape))


def hpss(
    magnitudes: np.ndarray,
    gains: np.ndarray,
    *,
    kernels: tuple[int, int] = (121, 9),
    power: float = 2.0,
    trust: float = 1.0,
) -> np.ndarray:
    """Separate by median filters: what is percussive goes to the drums, the rest to the others.

    A tone is a horizontal line of a spectrogram, a stroke a vertical one. A median over time keeps
    the one, a median over frequency the other.

    Parameters
    ----------
    magnitudes : ndarray of shape (n_frames, 513, n_channels)
        The song.
    gains : ndarray of shape (4, 513)
        The equalizer's, for `share`.
    kernels : tuple of int
        Lengths of the medians, over time [frames] and over frequency [bins].
    power : float
        Exponent of the soft masks.
    trust : float
        As for `share`.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks that sum to one.

    References
    ----------
    Fitzgerald (2010), Harmonic/percussive separation using median filtering.
    """
    decompose = import_optional("librosa", "book").decompose
    _, percussive = decompose.hpss(magnitudes.T, kernel_size=kernels, power=power, mask=True)
    return share(percussive.T, gains, "drums", trust=trust)


def repet_sim(
    magnitudes: np.ndarray,
    gains: np.ndarray,
    *,
    apart: int = 172,
    neighbours: int = 50,
    margin: float = 1.0,
    power: float = 0.5,
    trust: float = 1.0,
) -> np.ndarray:
    """Separate what does not repeat, for the vocals, from what does, for the others.

    Each frame is compared with the frames of the song that are most like it: their median is what
    repeats, and what exceeds it does not.

    Parameters
    ----------
    magnitudes : ndarray of shape (n_frames, 513, n_channels)
        The song. Of four frames or fewer nothing is known to repeat.
    gains : ndarray of shape (4, 513)
        The equalizer's, for `share`.
    apart : int
        Distance from which frames are compared [frames]; a quarter of the song if
        that is less.
    neighbours : int
        Similar frames.
    margin : float
        How many times what repeats must be exceeded for an even share.
    power : float
        Exponent of the soft mask.
    trust : float
        As for `share`.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks that sum to one.

    References
    ----------
    Rafii, Pardo (2012), Music/voice separation using the similarity matrix.
    """
    librosa = import_optional("librosa", "book")
    n_frames = len(magnitudes)
    if n_frames <= 4:
        return equalizer(magnitudes, gains)
    spectrogram = magnitudes.T
    # By distances: of a graph without any, librosa keeps the first neighbours, not the nearest.
    similar = librosa.segment.recurrence_matrix(
        spectrogram,
        k=neighbours,
        width=min(apart, n_frames // 4),
        metric="cosine",
        mode="distance",
        sparse=True,
    )
    repeating = librosa.decompose.nn_filter(spectrogram, rec=similar, aggregate=np.median)
    repeating = np.minimum(repeating, spectrogram)
    foreground = librosa.util.softmask(
        spectrogram - repeating, margin * repeating, power=power, split_zeros=True
    )
    return share(foreground.T, gains, "vocals", trust=trust)


def share(part: np.ndarray, gains: np.ndarray, source: str, *, trust: float = 0.0) -> np.ndarray:
    """Assign a part of a song to one source, and divide the rest among the others by the equalizer.

    Parameters
    ----------
    part : ndarray of shape (n_frames, 513, n_channels)
        The part, as a mask.
    gains : ndarray of shape (4, 513)
        The equalizer's gains.
    source : str
        The source that it belongs to.
    trust : float
        How much the equalizer corrects the part: the odds of the source are multiplied by those
        that the equalizer gives it, to this power. With 0 the part is taken as it is.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks that sum to one.
    """
    index = SOURCES.index(source)
    own = gains[index][:, np.newaxis]
    inside, outside = part * own**trust, (1 - part) * (1 - own) ** trust
    total = inside + outside
    mask = np.where(total > 0, inside / np.where(total > 0, total, 1), own)
    others = np.delete(gains, index, axis=0)
    others = equalizer(part, equalizer_gains(others)) * (1 - mask)
    return np.insert(others, index, mask, axis=0).astype(np.float32)


def nmf(
    magnitudes: np.ndarray,
    gains: np.ndarray,
    *,
    components: int = 32,
    sharpness: float = 0.5,
    divergence: str = "frobenius",
    trust: float = 1.0,
) -> np.ndarray:
    """Separate into spectra that come and go, and share each among the sources by the equalizer.

    A spectrogram is approximated by a sum of products, a spectrum times its level over time. A
    component belongs to each source by what the equalizer would let that source have of it.

    Parameters
    ----------
    magnitudes : ndarray of shape (n_frames, 513, n_channels)
        The song.
    gains : ndarray of shape (4, 513)
        The equalizer's.
    components : int
        Number of spectra; no more than frames.
    sharpness : float
        Exponent of the shares of a component: 1 shares as the equalizer does, more gives more of
        it to the source with the largest share.
    divergence : {"frobenius", "kullback-leibler"}
        What the approximation minimises.
    trust : float
        How much the equalizer corrects the masks, bin by bin: they are multiplied by its gains to
        this power, and made to sum to one again.

    Returns
    -------
    ndarray of shape (4, n_frames, 513, n_channels), float32
        Masks that sum to one.

    References
    ----------
    Lee, Seung (1999), Learning the parts of objects by non-negative matrix factorization;
    Smaragdis, Brown (2003), Non-negative matrix factorization for polyphonic music transcription.
    """
    librosa = import_optional("librosa", "book")
    if not len(magnitudes):
        return equalizer(magnitudes, gains)
    with warnings.catch_warnings():
        # Two hundred iterations are enough for masks.
        warnings.filterwarnings("ignore", message="Maximum number of iterations")
        spectra, levels = librosa.decompose.decompose(
            magnitudes.T,
            n_components=min(components, len(magnitudes)),
            init="nndsvda",
            random_state=0,
            beta_loss=divergence,
            solver="cd" if divergence == "frobenius" else "mu",
        )
    # What the equalizer would let each source have of each component, to a power: (4, components).
    shares = np.einsum("sf,cfk->sk", gains, spectra)
    shares = equalizer_gains((shares / shares.max(axis=0, initial=1e-30)) ** sharpness)
    parts = np.stack([(spectra * s) @ levels for s in shares]).transpose(0, 3, 2, 1)
    parts = parts * equalizer(magnitudes, gains) ** trust
    total = parts.sum(axis=0)
    masks = np.where(total > 0, parts / np.where(total > 0, total, 1), 1 / len(gains))
    return np.asarray(masks, np.float32)
