"""Tests of species classification."""
