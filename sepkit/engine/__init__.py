"""The network in C: ``engine.c`` computes what `stft`, `network` and `masks` compute, in less time.

A web page runs it as WebAssembly, and `sepkit.streaming` as a library of this machine.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["compiler", "native"])
