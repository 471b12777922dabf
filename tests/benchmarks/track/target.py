"""The file that the tool is pointed at: the case that `BSADVISOR_CASE` names."""

from __future__ import annotations

import os

from torch.utils.data import TensorDataset

from tests.benchmarks.accuracy.cases import loss_of
from tests.benchmarks.track.cases import case_named, rows

_CASE = case_named(os.environ.get("BSADVISOR_CASE", "softmax-noisy-digits-momentum-early"))
_TRAINING, _HELDOUT = rows(_CASE)

BATCH_SIZE = _CASE.batch_size
LEARNING_RATE = _CASE.learning_rate

model = _CASE.model
data = TensorDataset(*_TRAINING)
heldout = TensorDataset(*_HELDOUT)
loss = loss_of
optimizer = _CASE.make_optimizer
