"""What the command line prints. Output that cannot be printed never stops the work."""

from __future__ import annotations

import contextlib
import os
import sys


def say(text: str, *, error: bool = False) -> None:
    """Print a line on standard output or standard error.

    Characters that its encoding does not have are escaped; a stream that is closed or missing is
    left alone.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # A name may hold bytes that are no characters at all, and a message is one line.
    line = " ".join(text.splitlines()).encode(encoding, "backslashreplace").decode(encoding)
    with contextlib.suppress(OSError, ValueError):
        try:
            print(line, file=stream, flush=True)
        except BrokenPipeError:
            # Else Python would complain of what is left in the stream when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
