"""What drops activations is seen wherever it is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bsadvisor.measure.dropout_calls import DropoutCalls, dropout_watched

ROWS = torch.ones(2, 3, 8)


class Calls(nn.Module):
    """A function as a model."""

    def __init__(self, function: Callable[[Tensor, bool], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, rows: Tensor) -> object:
        return self.function(rows, self.training)


def attention(rows: Tensor, training: bool) -> Tensor:
    return F.scaled_dot_product_attention(rows, rows, rows, dropout_p=0.25 if training else 0.0)


def watch(model: nn.Module, *, inputs: bool = False) -> DropoutCalls:
    with torch.no_grad(), dropout_watched(model, inputs=inputs) as seen:
        model(ROWS)
    return seen


CASES: dict[str, tuple[nn.Module, dict[str, float]]] = {
    "modules": (
        nn.Sequential(nn.Dropout(0.5), nn.AlphaDropout(0.1), nn.Dropout1d(0.2), nn.FeatureAlphaDropout(0.3)),
        {"0": 0.5, "1": 0.9, "2": 0.8, "3": 0.7},
    ),
    "function": (Calls(lambda rows, training: F.dropout(rows, 0.25, training)), {"model": 0.75}),
    "in place": (Calls(lambda rows, training: torch.dropout_(rows + 1, 0.25, training)), {"model": 0.75}),
    "attention": (Calls(attention), {"model": 0.75}),
    "multi-head attention": (
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True),
        {"self_attn": 0.9, "dropout1": 0.9, "dropout": 0.9, "dropout2": 0.9},
    ),
    "recurrent": (nn.Sequential(nn.LSTM(8, 4, 2, dropout=0.4, batch_first=True)), {"0": 0.6}),
    "one recurrent layer": (nn.GRU(8, 4, 1), {}),
    "rate 0": (nn.Dropout(0.0), {}),
    "rate 1": (nn.Sequential(nn.Dropout(1.0)), {"0": 0.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_dropout_is_found_under_its_module(name: str) -> None:
    model, expected = CASES[name]
    found = {place.name: place.keep for place in watch(model.train()).keep_probabilities}
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("name", CASES)
def test_in_evaluation_nothing_drops(name: str) -> None:
    assert watch(CASES[name][0].eval()).keep_probabilities == ()


def test_a_part_in_evaluation_drops_nothing_though_the_rest_trains() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.1))
    model[0].eval()
    assert [place.name for place in watch(model).keep_probabilities] == ["1"]


def test_a_compiled_model_is_not_watched_but_read() -> None:
    class Compiled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

        def forward(self, rows: Tensor) -> Tensor:
            assert not torch.overrides._get_current_function_mode_stack()
            found: Tensor = self._orig_mod(rows)
            return found

    seen = watch(Compiled(nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0))))
    assert [(place.name, place.keep) for place in seen.keep_probabilities] == [("_orig_mod.0", 0.5)]


def test_a_linear_layer_behind_dropout_is_seen_with_what_was_dropped_from() -> None:
    model = nn.Sequential(
        nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(24, 2, bias=False)
    )
    (call,) = watch(model, inputs=True).linear
    assert (call.name, call.keep, call.has_bias) == ("4", 0.5, False)
    assert torch.equal(call.input, model[1](model[0](ROWS)).flatten(1))


def test_what_changes_between_dropout_and_the_layer_is_no_ridge() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 2))
    assert watch(model, inputs=True).linear == []


def test_a_forward_pass_that_fails_leaves_no_hook_behind() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(3, 2))
    with pytest.raises(RuntimeError, match="shapes"), dropout_watched(model):
        model(ROWS)
    assert not nn.modules.module._global_forward_hooks and not nn.modules.module._global_forward_pre_hooks
