"""The mean of several sets of weights, and the user's weights afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bsadvisor.measure.weight_mean import WeightMean


def weights(seed: int, dtype: torch.dtype) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
        for name, shape in (("a", (3, 4)), ("b", (5,)))
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_mean_stands_in_for_the_last_weights_and_they_come_back(dtype: torch.dtype) -> None:
    sets = [weights(seed, dtype) for seed in range(7)]
    mean = WeightMean()
    for one in sets:
        mean.add(one)
    last = sets[-1]
    before = {name: parameter.detach().clone() for name, parameter in last.items()}
    wanted = {name: torch.stack([one[name].detach().double() for one in sets]).mean(0) for name in last}
    with mean.in_place_of(last):
        for name, parameter in last.items():
            torch.testing.assert_close(parameter.detach(), wanted[name].to(dtype))
    assert mean.count == 7
    assert all(torch.equal(parameter, before[name]) for name, parameter in last.items())


def test_what_was_taken_up_is_not_what_training_goes_on_with() -> None:
    one, mean = weights(0, torch.float32), WeightMean()
    mean.add(one)
    taken = one["a"].detach().clone()
    with torch.no_grad():
        one["a"].add_(1)
    with mean.in_place_of(one):
        assert torch.equal(one["a"], taken)


def test_the_weights_come_back_where_measuring_fails() -> None:
    one, mean = weights(0, torch.float32), WeightMean()
    mean.add(weights(1, torch.float32))
    before = one["a"].detach().clone()
    with pytest.raises(RuntimeError), mean.in_place_of(one):
        raise RuntimeError
    assert torch.equal(one["a"], before)
