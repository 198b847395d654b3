"""Groups, tensor-parallel layers and the DeepSpeed engine."""
