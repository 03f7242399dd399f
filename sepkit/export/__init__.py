"""Networks in the formats of other programs; the core imports none of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["onnx_file"])
