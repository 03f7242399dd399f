"""Sound files, read to their end and written whole, by libsndfile and ffmpeg."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["decoding", "encoding", "remuxing"]
)
