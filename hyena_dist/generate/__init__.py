"""New sequences from a trained model, exact and in nearly linear time."""
