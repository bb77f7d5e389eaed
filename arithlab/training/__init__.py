"""Experiments, training, evaluation and the runs they leave on disk (torch)."""
