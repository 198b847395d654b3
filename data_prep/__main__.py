"""The program `python -m data_prep`, which runs the commands on data without the rest of hyena-dist."""

import sys

from data_prep.cli import main

sys.exit(main())
