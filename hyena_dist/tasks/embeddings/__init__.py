"""What a frozen model's embeddings know of labels, by simple classifiers beside the same ones on k-mers."""
