"""Positional encodings and the Transformer (torch)."""
