"""Flags -> values -> pipeline -> renderer -> exit code: one file per command, no torch, no arithmetic."""
