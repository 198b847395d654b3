"""What a run is told: one frozen tree of settings and every size that follows from it. No module here imports torch."""
