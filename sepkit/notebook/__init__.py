"""What only a page shows: the stem player, explorers, tables of songs, figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "blind",
        "dark",
        "explorer",
        "live",
        "loudness",
        "media",
        "player",
        "plotting",
        "song_table",
        "web",
    ],
)
