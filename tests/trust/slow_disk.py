"""The command line on a disk that takes half a second to rename a file.

So that what happens between the first stem and the last can be met by a signal.
"""

import os
import sys
import time

from sepkit import cli


def slowly(act):
    def later(*arguments, **options):
        time.sleep(0.5)
        return act(*arguments, **options)

    return later


os.rename, os.replace = slowly(os.rename), slowly(os.replace)
sys.exit(cli.main(sys.argv[1:]))
