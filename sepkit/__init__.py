"""Music source separation by a small convolutional network.

Names and modules are imported on first use (see ``__init__.pyi``): separating and scoring never
import TensorFlow.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
