"""Where tokens are read from: a packed Zarr store, or WebDataset shards, local or remote."""
