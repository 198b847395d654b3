"""Probes: simple classifiers of a frozen model's embeddings, beside the same ones of k-mers."""
