"""Checkpoints: their format, and how they are written beside training and read again."""
