"""What only the book and its experiments need; the core imports none of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "analyses",
        "arms",
        "artifacts",
        "band",
        "cards",
        "classical",
        "commands",
        "evaluation",
        "experiments",
        "floors",
        "listening",
        "objectives",
        "oracles",
        "rehearsal",
        "remix",
        "report_network",
        "results",
        "statistics",
        "studio",
        "tables",
    ],
)
