"""Run the command line: python -m sepkit."""

import sys

from sepkit.cli import main

sys.exit(main())
