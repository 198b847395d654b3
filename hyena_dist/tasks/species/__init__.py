"""Species classification: whose genome a window is of, at growing lengths."""
