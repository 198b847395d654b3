"""The choice of windows: which parts of the genome a run trains on and is evaluated on."""
