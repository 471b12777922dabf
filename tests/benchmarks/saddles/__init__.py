"""Saddle verdicts against brute force: cases, what is true of them, and a judge."""
