"""Measurements that decide how things are done; each compares within one run and writes what it found."""
