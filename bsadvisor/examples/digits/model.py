"""Everything that `bsadvisor probe model.py` needs, found in this file by name.

The file is imported, never run: a training loop belongs in another file (here train.py) or under
`if __name__ == "__main__":`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

# The pair in use today: advice starts from here. Examples per optimizer step, and the peak learning rate.
BATCH_SIZE = 32
LEARNING_RATE = 1e-3


def model() -> nn.Module:
    """The network; its weights are loaded from the checkpoint that bsadvisor.yaml names."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer as in training; its state comes from the checkpoint."""
    return torch.optim.AdamW(parameters, lr=LEARNING_RATE)


def data() -> TensorDataset:
    """The training examples: a Dataset, a DataLoader or an iterable of batches would do as well."""
    return _digits("train")


def heldout() -> TensorDataset:
    """Examples that training never sees."""
    return _digits("heldout")


# No `loss`: a model of inputs with whole numbers as targets is taken to be trained with cross entropy.
# Any other loss is a function `loss(model, batch)` that returns the mean over the examples of the batch.


def _digits(split: str) -> TensorDataset:
    """Images as 64 numbers from 0 to 1, with the digit that each shows."""
    with np.load(Path(__file__).with_name("digits.npz")) as arrays:
        images = torch.from_numpy(arrays[f"{split}_images"]).flatten(1).float() / 16
        labels = torch.from_numpy(arrays[f"{split}_labels"]).long()
    return TensorDataset(images, labels)
