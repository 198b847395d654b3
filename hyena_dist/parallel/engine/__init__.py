"""The DeepSpeed engine: training steps, the fragments that a rank holds, and the whole tensors they make."""
