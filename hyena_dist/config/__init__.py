"""The settings of a run: one frozen tree, and every size that follows from it. No module here imports torch."""
