"""Formulas: numbers in, numbers out; every function cites its source.

Letters used throughout:

    G, Sigma     mean gradient, covariance of one example's gradient
    H            Hessian of the mean loss
    B, eta       batch size in examples, learning rate
    beta         momentum
    q            1 / B_simple = |G|^2 / tr(Sigma); intervals are put on q, which has finite variance
    n, N         examples in the probe, in the data set
    K, J         micro-batches, blocks of micro-batches
    S(B), E(B)   steps and examples to a target loss; S_min, E_min their minima
"""
