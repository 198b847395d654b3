"""Operators that nothing chooses until a measurement on a GPU earns them their place."""
