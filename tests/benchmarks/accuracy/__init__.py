"""Is the trial right? Brute-force truth over checkpoints of real runs, and what the tool says of them."""
