"""The only room that calls autograd: gradients, assumptions, line search, known answers.

A `Problem` goes in (problem.py), values come out.
"""
