"""Imported once by the server that ranks fork from."""

import matplotlib.pyplot  # noqa: F401  a second of each run's report

import hyena_dist.train.loop  # noqa: F401
from hyena_dist.parallel.compat.imports import import_deepspeed

import_deepspeed()
