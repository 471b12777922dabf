"""Ramps of `bsadvisor track`, run for real against constant batch sizes."""
