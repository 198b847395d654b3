"""What a trained model is used for: scores of sequences and variants, embeddings; one process or a share of many."""
