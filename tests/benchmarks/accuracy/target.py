"""The file that the tool is pointed at: the case that `BSADVISOR_CASE` names."""

from __future__ import annotations

import os

from tests.benchmarks.accuracy.cases import case_named, dataset, loss_of

_CASE = case_named(os.environ.get("BSADVISOR_CASE", "softmax-digits-sgd-early"))

BATCH_SIZE = _CASE.batch_size
LEARNING_RATE = _CASE.learning_rate

model = _CASE.model
data = dataset(_CASE)
loss = loss_of
optimizer = _CASE.make_optimizer
