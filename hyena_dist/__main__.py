"""`python -m hyena_dist`, which launchers call."""

import sys

from hyena_dist.cli import main

sys.exit(main())
