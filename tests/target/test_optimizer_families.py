"""What a name alone says of an optimizer."""

from __future__ import annotations

import pytest
import torch

from bsadvisor.target.optimizer_families import ADAM_LIKE, default_details, family_of


@pytest.mark.parametrize(
    "kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adamax]
)
def test_the_defaults_are_those_of_pytorch(kind: type[torch.optim.Adam]) -> None:
    found, theirs = default_details(kind.__name__.lower()), kind([torch.zeros(1)]).defaults
    assert found.family == "adam"
    assert (found.betas, found.epsilon) == (theirs["betas"], theirs["eps"])
    assert found.weight_decay == theirs["weight_decay"]


def test_only_optimizers_with_two_betas_get_them() -> None:
    with_betas = {name for name in ADAM_LIKE if default_details(name).betas}
    assert with_betas == {"adam", "adamw", "nadam", "radam", "adamax", "sparseadam"}


def test_an_unknown_name_is_of_no_known_family() -> None:
    assert [family_of(name) for name in ("sgd", "lion", "mine", None)] == ["sgd", "adam", "other", "other"]
