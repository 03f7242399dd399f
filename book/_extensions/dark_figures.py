"""Draw every figure of a page once more, in the colors of the dark theme.

The build's kernels run this first (``PYTHONSTARTUP``). For each figure that a notebook shows, its
copy is ``SHA-256 OF THE FIGURE.png`` in the folder of ``BOOK_DARK_FIGURES``. `publish` puts both
into the page, and the theme shows one of them.
"""

import hashlib
import os
from binascii import b2a_base64
from pathlib import Path


def draw_both(print_figure, folder):
    """Wrap IPython's function that draws a figure."""

    def print_both(figure, fmt="png", base64=False, **options):
        drawn = print_figure(figure, fmt=fmt, **options)
        if fmt != "png" or drawn is None:
            return drawn
        # Later than this script: a notebook's first cell may install sepkit.
        from sepkit.notebook.dark import dark

        with dark(figure):
            other = print_figure(figure, fmt=fmt, **options)
        (folder / f"{hashlib.sha256(drawn).hexdigest()}.png").write_bytes(other)
        return b2a_base64(drawn, newline=False).decode("ascii") if base64 else drawn

    return print_both


if "BOOK_DARK_FIGURES" in os.environ:
    from IPython.core import pylabtools

    _folder = Path(os.environ["BOOK_DARK_FIGURES"])
    _folder.mkdir(parents=True, exist_ok=True)
    pylabtools.print_figure = draw_both(pylabtools.print_figure, _folder)
    del _folder, pylabtools
