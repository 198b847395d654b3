"""The uses of a trained model: scores of sequences and variants, embeddings; one process or a share of many."""
