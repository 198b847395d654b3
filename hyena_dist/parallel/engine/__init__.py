"""The DeepSpeed engine, what it holds, and how that is put together into whole tensors."""
