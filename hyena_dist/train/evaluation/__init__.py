"""Held-out perplexity of the model, and of Markov chains beside it."""
