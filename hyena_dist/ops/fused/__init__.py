"""Operators that do several steps of a layer at once and keep little for backward."""
