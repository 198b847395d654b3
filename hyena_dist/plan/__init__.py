"""Estimates: pure functions of the configuration, without torch."""
