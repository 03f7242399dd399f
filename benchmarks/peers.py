"""Time other separators in an environment of their own; prints JSON. See `make bench-peers`.

Random weights: they take the same time as trained ones, and separate nothing. All cores, nothing
averaged over shifts, and no overlap but Demucs' own.
"""

import json
import os
import sys
import time
import types

STARTED = time.perf_counter()
SOURCES = ["drums", "bass", "other", "vocals"]

try:
    import torchaudio  # noqa: F401
except (ImportError, OSError):
    # Open-Unmix imports it to read files, which nothing here does; some builds of it do not load.
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")

import torch  # noqa: E402


def open_unmix():
    """Build the published umx: hidden size 512, 16 kHz, one step of the Wiener filter."""
    from openunmix.model import OpenUnmix, Separator

    max_bin = int(16000 / 44100 * 4096) + 1
    targets = {
        name: OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=512, max_bin=max_bin)
        for name in SOURCES
    }
    return Separator(targets, niter=1, n_fft=4096, n_hop=1024, nb_channels=2).eval()


def demucs():
    """Build the architecture of htdemucs: 48 channels, bottom 512, five transformer layers."""
    from demucs.apply import apply_model
    from demucs.htdemucs import HTDemucs

    model = HTDemucs(SOURCES, bottom_channels=512, segment=7.8).eval()

    def separate(audio):
        return apply_model(model, audio, shifts=0, split=True, overlap=0.25)

    separate.parameters = model.parameters
    return separate


def bs_roformer():
    """Build the architecture of audio-separator's default, model_bs_roformer_ep_317: vocals only.

    Its 8-second segments are put end to end. audio-separator overlaps them, which multiplies the
    time; by how much, is in a file that comes with the weights.
    """
    from audio_separator.separator.uvr_lib_v5.roformer.bs_roformer import BSRoformer

    model = BSRoformer(
        dim=512, depth=12, stereo=True, num_stems=1, time_transformer_depth=1,
        freq_transformer_depth=1, dim_head=64, heads=8, stft_n_fft=2048, stft_hop_length=441,
        stft_win_length=2048, mask_estimator_depth=2, flash_attn=True,
    ).eval()  # fmt: skip

    def separate(audio):
        return torch.cat([model(part) for part in audio.split(8 * 44100, dim=-1)], dim=-1)

    separate.parameters = model.parameters
    return separate


def main(name: str, seconds: float) -> None:
    """Separate noise once and print how long it took."""
    torch.set_num_threads(os.cpu_count() or 1)
    builders = {"open_unmix": open_unmix, "demucs": demucs, "bs_roformer": bs_roformer}
    separate = builders[name]()
    ready = time.perf_counter()
    audio = 0.1 * torch.randn(1, 2, round(44100 * seconds))
    with torch.inference_mode():
        separate(audio[..., : 44100 * 8])
        begun = time.perf_counter()
        stems = separate(audio)
        took = time.perf_counter() - begun
    assert stems.shape[-1] == audio.shape[-1]
    count = sum(p.numel() for p in separate.parameters())
    print(
        json.dumps(
            {
                "startup": ready - STARTED,
                "seconds": took,
                "parameters": count,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
