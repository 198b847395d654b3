"""What is trained: the Hyena model, and published checkpoints of it."""
