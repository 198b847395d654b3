"""The training run, its checkpoints and its evaluation."""
