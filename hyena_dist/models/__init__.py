"""The model that is trained, and published checkpoints of it."""
