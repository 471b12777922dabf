"""The best single step and its loss decrease: brute force, and what predicts it."""
