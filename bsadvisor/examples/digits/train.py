"""The training run that made checkpoint.pt: `python train.py` makes it again, beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from model import BATCH_SIZE, data, heldout, model, optimizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

STEPS = 200


def main() -> None:
    """Train while the held-out loss still falls, and save weights and optimizer state."""
    torch.manual_seed(0)
    network = model()
    adamw = optimizer(network.parameters())
    for step, (images, labels) in zip(range(1, STEPS + 1), batches(), strict=False):
        adamw.zero_grad()
        cross_entropy(network(images), labels).backward()
        adamw.step()
        if step % 100 == 0:
            fitted, unseen = loss_on(network, data()), loss_on(network, heldout())
            print(f"step {step}: loss {fitted:.3f}, held out {unseen:.3f}")
    saved = {"model": network.state_dict(), "optimizer": adamw.state_dict(), "step": STEPS}
    torch.save(saved, Path(__file__).with_name("checkpoint.pt"))


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches of the training data, epoch after epoch."""
    loader = DataLoader(data(), batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    while True:
        yield from loader


@torch.no_grad()
def loss_on(network: nn.Module, examples: TensorDataset) -> float:
    """Mean cross entropy over all examples."""
    images, labels = examples.tensors
    return cross_entropy(network(images), labels).item()


if __name__ == "__main__":
    main()
