"""How a run is started, watched and ended. This package imports no torch, so that it works on login nodes."""
