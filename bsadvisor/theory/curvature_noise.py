"""B_noise = tr(H Sigma) / (G'HG) from products of disjoint micro-batches (placeholder layout)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bsadvisor.theory.noise_scale import Array, Interval, invert, jackknife_variance, symmetric_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvedMoments:
    along: Array
    noise_trace: Array
    squared_norm: Array


def _ends(curved: Array, gram: Array, b: int, units: Array, column: Array) -> tuple[float, float, float]:
    k = len(curved)
    nxt = (units + 1) % k
    mask = np.zeros((len(units), k), dtype=bool)
    mask[:, column] = True
    mask[np.arange(len(units)), units] = False
    mask[np.arange(len(units)), nxt] = False
    a = curved[units, nxt].mean()
    c = (curved[units] * mask).sum() / mask.sum()
    sub = gram[np.ix_(column, column)]
    n = len(column)
    u = (sub.sum() - np.trace(sub)) / (n * (n - 1))
    return float(c), float(b * (a - c)), float(u)


def moments(curved: Array, gram: Array, b: int) -> tuple[Array, Array]:
    k = len(curved)
    every = np.arange(k)
    whole = np.array(_ends(curved, gram, b, every, every))
    deleted = []
    for j in range(k):
        units = np.array([u for u in every if u not in (j, (j - 1) % k)])
        deleted.append(_ends(curved, gram, b, units, np.delete(every, j)))
    return whole, np.array(deleted)


def noise_scale(curved: Array, gram: Array, b: int, confidence: float) -> Interval:
    whole, deleted = moments(curved, gram, b)
    if whole[1] <= 0:
        return Interval(value=math.nan, low=math.nan, high=math.inf)
    q = deleted[:, 0] / deleted[:, 1]
    variance = float(jackknife_variance(q))
    return invert(symmetric_interval(whole[0] / whole[1], variance, confidence, len(curved) - 1))


def along_gradient(curved: Array, gram: Array, b: int, confidence: float) -> Interval:
    whole, deleted = moments(curved, gram, b)
    if whole[2] <= 0:
        return Interval(value=math.nan, low=-math.inf, high=math.inf)
    r = deleted[:, 0] / deleted[:, 2]
    return symmetric_interval(whole[0] / whole[2], float(jackknife_variance(r)), confidence, len(curved) - 1)
