"""The only room that calls autograd: gradients, assumptions, best step, known answers.

A `Problem` goes in (problem.py), values come out.
"""
