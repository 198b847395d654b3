"""Which windows of the genome a run trains on and is evaluated on."""
