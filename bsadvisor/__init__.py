"""Batch-size advice for a PyTorch checkpoint, with the uncertainty of every number."""

__version__ = "0.1.0"
