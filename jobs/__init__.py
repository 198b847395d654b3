"""How a run is started. Imports no torch: it works on login nodes."""
