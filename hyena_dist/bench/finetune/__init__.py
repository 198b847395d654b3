"""Pretrained against from scratch on sets of labelled sequences, beside simple methods."""
