"""Tasks, which a trained model is for: labelled sequences, heads on a model, and how well they do."""
