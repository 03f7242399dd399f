"""Time Open-Unmix and Demucs in an environment of their own; prints JSON. See `make bench-peers`.

Random weights: they take the same time as trained ones, and separate nothing.
"""

import json
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
    """Build the architecture of umxl: hidden size 1024, 16 kHz, one step of the Wiener filter."""
    from openunmix.model import OpenUnmix, Separator

    max_bin = int(16000 / 44100 * 4096) + 1
    targets = {
        name: OpenUnmix(nb_bins=2049, nb_channels=2, hidden_size=1024, max_bin=max_bin)
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


def main(name: str, seconds: float) -> None:
    """Separate noise once and print how long it took."""
    separate = {"open_unmix": open_unmix, "demucs": demucs}[name]()
    ready = time.perf_counter()
    audio = 0.1 * torch.randn(1, 2, round(44100 * seconds))
    with torch.inference_mode():
        separate(audio[..., : 44100 * 2])
        begun = time.perf_counter()
        stems = separate(audio)
        took = time.perf_counter() - begun
    assert stems.shape[1] == len(SOURCES)
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
