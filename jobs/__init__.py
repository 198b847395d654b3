"""The start, the watch and the end of runs. This package imports no torch, so that it works on login nodes."""
