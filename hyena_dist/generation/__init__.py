"""New sequences from a trained model, one token after another, exact and in nearly linear time."""
