"""Numbers in, decisions out: no torch, no printing."""
