"""The sequence mixers that a letter of layer_pattern names."""
