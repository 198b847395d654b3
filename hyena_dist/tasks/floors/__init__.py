"""Simple methods that a model must beat: the majority class, logistic regression on k-mers, a small CNN."""
