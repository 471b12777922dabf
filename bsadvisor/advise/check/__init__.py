"""A pair judged against the advice: a rule fails only where it is broken at the favourable end.

reach (what interval and band leave possible) -> a file per rule -> judge
"""
