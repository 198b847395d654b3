"""Convolutions and the gates between them."""
