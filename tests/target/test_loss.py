"""The loss: given, found or inferred; and what is counted in its batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bsadvisor.errors import TargetError
from bsadvisor.target.factory import Target
from bsadvisor.target.loss import (
    class_labels,
    counted_classes,
    cross_entropy,
    label_counts,
    mean_squared_error,
    token_counts,
)
from tests.target.conftest import MODEL, PLAIN, User

FLOATS = MODEL + "    model = nn.Linear(4, 1)\n    data = TensorDataset(inputs, inputs.sum(1))\n"


def first(target: Target) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, targets and the loss of eight examples."""
    batch = next(target.data.fetch([range(8)]))
    return target.model(batch[0]), batch[1], target.loss(batch)


def test_integer_targets_mean_cross_entropy(user: User) -> None:
    user.write(PLAIN)
    target = user.load()
    outputs, targets, loss = first(target)
    assert torch.allclose(loss, F.cross_entropy(outputs, targets))
    assert target.facts.loss_from == "cross entropy, for the targets are integers"


def test_float_targets_mean_mean_squared_error(user: User) -> None:
    user.write(FLOATS)
    target = user.load()
    outputs, targets, loss = first(target)
    assert torch.allclose(loss, F.mse_loss(outputs[:, 0], targets))
    assert target.facts.loss_from == "mean squared error, for the targets are floats"


def test_a_single_example_has_a_loss_too(user: User) -> None:
    user.write(FLOATS)
    target = user.load()
    assert target.loss(next(target.data.fetch([[3]]))).ndim == 0


@pytest.mark.parametrize(
    ("logits", "targets"), [((6, 3), (6,)), ((6, 5, 3), (6, 5)), ((6, 3, 4, 4), (6, 4, 4)), ((6, 3), (6, 1))]
)
def test_classes_are_found_in_every_usual_place(logits: tuple[int, ...], targets: tuple[int, ...]) -> None:
    scores, labels = torch.randn(logits), torch.randint(0, 3, targets)
    classes_last = scores.movedim(1, -1) if len(logits) == 4 else scores
    expected = F.cross_entropy(classes_last.reshape(-1, 3), labels.flatten())
    assert torch.allclose(cross_entropy(scores, labels), expected)


def test_where_both_could_be_meant_sequences_have_their_classes_last() -> None:
    scores, labels = torch.randn(2, 5, 5), torch.randint(0, 5, (2, 5))
    assert torch.allclose(
        cross_entropy(scores, labels), F.cross_entropy(scores.reshape(-1, 5), labels.flatten())
    )


@pytest.mark.parametrize(
    ("outputs", "targets"), [((6, 1), (6,)), ((6,), (6, 1)), ((1, 1), (1,)), ((6, 2), (6, 2))]
)
def test_a_column_is_a_vector(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    values, wanted = torch.randn(outputs), torch.randn(targets)
    assert torch.allclose(
        mean_squared_error(values, wanted), (values.flatten() - wanted.flatten()).square().mean()
    )


def test_shapes_that_do_not_fit_are_refused_before_torch_broadcasts_them(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)\n    data = TensorDataset(inputs, inputs.sum(1))")
    error = user.fails(TargetError)
    assert "outputs (4, 3) and targets (4,): they do not fit" in error
    assert "def loss(model, batch): inputs, targets = batch; return " in error


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ("def loss(model, batch): return model(batch[0]).square().mean()", lambda o, t: o.square().mean()),
        (
            "criterion = nn.CrossEntropyLoss(label_smoothing=0.5)",
            lambda o, t: F.cross_entropy(o, t, label_smoothing=0.5),
        ),
        ("loss = nn.functional.cross_entropy", F.cross_entropy),
        (
            "for _ in range(2): loss = torch.tensor(0.0)",
            F.cross_entropy,
        ),
    ],
)
def test_a_loss_in_the_file_is_used(user: User, definition: str, expected: Any) -> None:
    user.write(PLAIN + f"    {definition}")
    outputs, targets, loss = first(user.load())
    assert torch.allclose(loss, expected(outputs, targets))


def test_a_loss_module_compares_a_column_with_a_vector(user: User) -> None:
    user.write(FLOATS + "    criterion = nn.L1Loss()")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs, targets, loss = first(user.load())
    assert torch.allclose(loss, F.l1_loss(outputs[:, 0], targets))


def test_two_loss_modules_are_not_guessed_between(user: User) -> None:
    user.write(PLAIN + "    a, b = nn.NLLLoss(), nn.CrossEntropyLoss(label_smoothing=0.5)")
    assert user.load().facts.loss_from.startswith("cross entropy")


@pytest.mark.parametrize("loss", ["model.py:mine", "other.py:mine", "mse"])
def test_the_flag_names_another_loss(user: User, loss: str) -> None:
    mine = "    def mine(model, batch): return (model(batch[0])[:, 0] - batch[1]).square().mean()\n"
    user.write(FLOATS + "    def loss(model, batch): return 0\n" + mine)
    user.write(mine, "other.py")
    target = user.load(loss=loss)
    outputs, targets, value = first(target)
    assert torch.allclose(value, F.mse_loss(outputs[:, 0], targets))
    assert target.facts.loss_from == loss


def test_probabilities_of_classes_are_targets_of_a_cross_entropy_module(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Linear(4, 3)\n    data = TensorDataset(inputs, torch.rand(40, 3).softmax(1))\n"
        + "    loss = nn.CrossEntropyLoss()"
    )
    outputs, targets, loss = first(user.load())
    assert torch.allclose(loss, F.cross_entropy(outputs, targets))


def test_a_training_step_is_the_loss(user: User) -> None:
    user.write(
        MODEL
        + "    class Module(nn.Linear):\n"
        + "        def training_step(self, batch, batch_idx): return {'loss': self(batch[0]).sum() + batch_idx}\n"
        + "    model = Module(4, 3)\n    data = TensorDataset(inputs, targets)"
    )
    target = user.load()
    outputs, _, loss = first(target)
    assert torch.allclose(loss, outputs.sum())
    assert target.facts.loss_from == "the model's training_step"


OWN_LOSS = """
    from types import SimpleNamespace
    class Net(nn.Linear):
        def forward(self, x, labels):
            return SimpleNamespace(loss=nn.functional.cross_entropy(super().forward(x), labels))
    model = Net(4, 3)
"""


@pytest.mark.parametrize(
    "data",
    [
        "[{'x': inputs, 'labels': targets}]",
        "[(inputs, targets)]",
    ],
)
def test_an_output_with_a_loss_is_the_loss(user: User, data: str) -> None:
    user.write(MODEL + OWN_LOSS + f"    data = {data}")
    target = user.load()
    assert target.facts.loss_from == "the output's loss"
    assert target.loss(next(target.data.fetch([range(5)]))).requires_grad


@pytest.mark.parametrize("returned", ["logits, loss", "loss, logits, logits.mean(0)"])
def test_the_only_scalar_of_a_tuple_is_the_loss(user: User, returned: str) -> None:
    user.write(
        MODEL
        + "    class Net(nn.Linear):\n"
        + "        def forward(self, x, y=None):\n"
        + "            logits = super().forward(x)\n"
        + "            loss = None if y is None else nn.functional.cross_entropy(logits, y)\n"
        + f"            return {returned}\n"
        + "    model = Net(4, 3)\n    data = TensorDataset(inputs, targets)"
    )
    target = user.load()
    assert target.facts.loss_from == "the output's loss"
    batch = next(target.data.fetch([range(8)]))
    logits = F.linear(batch[0], target.parameters["weight"], target.parameters["bias"])
    assert torch.allclose(target.loss(batch), F.cross_entropy(logits, batch[1]))


def test_a_tuple_with_two_scalars_is_not_guessed_from(user: User) -> None:
    user.write(
        MODEL
        + "    class Net(nn.Linear):\n"
        + "        def forward(self, x):\n            return super().forward(x).mean(), x.mean()\n"
        + "    model = Net(4, 3)\n    data = TensorDataset(inputs, targets)"
    )
    assert "no loss can be inferred" in user.fails(TargetError)


@pytest.mark.parametrize(
    ("batch", "parts"),
    [
        ("{'image': inputs, 'label': targets, 'id': 1}", "batch['image'], batch['label']"),
        ("{'image': inputs, 'cls': targets}", "batch['image'], batch['cls']"),
        ("(inputs, inputs, targets)", "inputs, *_, targets = batch"),
    ],
)
def test_the_loss_to_write_names_the_parts_of_the_batch(user: User, batch: str, parts: str) -> None:
    user.write(MODEL + f"    model = nn.Linear(4, 3)\n    data = [{batch}]")
    assert parts in user.fails(TargetError)


def test_an_output_that_is_a_dict_with_a_loss_is_the_loss(user: User) -> None:
    user.write(
        MODEL + OWN_LOSS.replace("SimpleNamespace(loss=", "dict(loss=") + "    data = [(inputs, targets)]"
    )
    assert user.load().facts.loss_from == "the output's loss"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("TensorDataset(inputs)", "a list of 1"),
        ("TensorDataset(inputs, targets > 1)", "a list of 2"),
        ("[(inputs, ['a'] * 40)]", "a tuple of 2"),
    ],
)
def test_where_no_loss_can_be_inferred_the_function_to_write_is_shown(
    user: User, data: str, what: str
) -> None:
    user.write(MODEL + f"    model = nn.Linear(4, 3)\n    data = {data}")
    error = user.fails(TargetError)
    assert f"no loss can be inferred from a batch that is {what}" in error
    assert "def loss(model, batch)" in error


def test_integer_targets_of_a_single_output_are_no_classes(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 1)\n    data = TensorDataset(inputs, targets % 2)")
    assert "no loss can be inferred" in user.fails(TargetError)


def test_a_forward_pass_that_fails_is_told_with_its_line(user: User) -> None:
    user.write(
        MODEL
        + "    class Net(nn.Linear):\n        def forward(self, x):\n            return super().forward(x[:, :2])\n"
        + "    model = Net(4, 3)\n    data = TensorDataset(inputs, targets)"
    )
    assert "the forward pass of the first batch failed at model.py:9 in forward: RuntimeError" in user.fails(
        TargetError
    )


def test_inferring_leaves_running_statistics_as_they_were(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))\n    data = [(inputs + 9, targets)]"
    )
    buffers = dict(user.load().model.named_buffers())
    assert buffers["0.running_mean"].tolist() == [0.0] * 4
    assert buffers["0.num_batches_tracked"].item() == 0


@pytest.mark.parametrize(
    ("body", "message", "remedy"),
    [
        ("model(batch[0]).sum(1)", "a tensor of shape (8,), not a scalar", "return loss.mean()"),
        ("model(batch[0]).sum().item()", "the loss returned a float", "return a scalar tensor"),
        ("model(batch[7])", "the loss failed at model.py:10 in loss: IndexError", "loss(model, batch)"),
    ],
)
def test_a_loss_that_is_no_scalar_or_fails_is_told(user: User, body: str, message: str, remedy: str) -> None:
    user.write(PLAIN + f"    def loss(model, batch):\n        return {body}")
    target = user.load()
    with pytest.raises(TargetError) as caught:
        target.loss(next(target.data.fetch([range(8)])))
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_a_loss_of_one_element_is_a_scalar(user: User) -> None:
    user.write(PLAIN + "    def loss(model, batch): return model(batch[0]).mean().reshape(1, 1)")
    assert first(user.load())[2].ndim == 0


@pytest.mark.parametrize(
    "error",
    ["torch.OutOfMemoryError('x')", "RuntimeError('DefaultCPUAllocator: can\\'t allocate memory: 1')"],
)
def test_running_out_of_memory_is_left_to_whoever_can_make_the_batch_smaller(user: User, error: str) -> None:
    user.write(PLAIN + f"    def loss(model, batch): raise {error}")
    target = user.load()
    with pytest.raises(RuntimeError) as caught:
        target.loss(next(target.data.fetch([range(8)])))
    assert not isinstance(caught.value, TargetError)


def test_an_interrupt_is_no_error_of_the_users(user: User) -> None:
    user.write(PLAIN + "    def loss(model, batch): raise KeyboardInterrupt")
    target = user.load()
    with pytest.raises(KeyboardInterrupt):
        target.loss(next(target.data.fetch([range(8)])))


# --- what is counted ----------------------------------------------------------------------------

MASKED = torch.tensor([[1, 2, -100], [-100, -100, 4]])


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        ({"input_ids": torch.zeros(2, 3), "labels": MASKED}, 3),
        ({"labels": MASKED}, 3),
        ({"input_ids": MASKED.clamp(min=0), "labels": MASKED}, 2),
        ([MASKED.clamp(min=0), MASKED], 2),
        ([torch.zeros(2, 3), MASKED], 3),
        ([torch.zeros(2, 3), torch.tensor([1, -100, 2])], 2),
        ([torch.tensor([1, 2]), torch.tensor([1, -100])], 1),
        ([torch.zeros(2, 3), torch.zeros(2, 3)], None),
        ([torch.zeros(2, 3), torch.tensor([[1], [2]])], 2),
        ({"input_ids": MASKED}, None),
        (MASKED, None),
    ],
)
def test_unmasked_labels_are_counted(batch: Any, count: int | None) -> None:
    assert label_counts(batch) == count


def test_only_examples_of_several_labels_have_tokens() -> None:
    assert token_counts([torch.zeros(2, 3), MASKED]) == 3
    assert token_counts([torch.zeros(2, 3), torch.tensor([1, -100])]) is None


IGNORING = "nn.CrossEntropyLoss(ignore_index=1)"


@pytest.mark.parametrize(
    ("definition", "flag"),
    [
        (f"criterion = {IGNORING}", None),
        (
            f"criterion = {IGNORING}\n    def loss(model, batch): return criterion(model(batch[0]), batch[1])",
            None,
        ),
        (f"mine, other = {IGNORING}, nn.CrossEntropyLoss()", "model.py:mine"),
        ("model.criterion = nn.NLLLoss(ignore_index=1)", None),
    ],
)
def test_the_label_that_a_criterion_ignores_is_not_counted(
    user: User, yaml: Callable[[str], Path], definition: str, flag: str | None
) -> None:
    user.write(PLAIN + f"    {definition}")
    yaml(f"loss: {flag}" if flag else "")
    target = user.load()
    batch = next(target.data.fetch([[0, 1, 2, 3]]))
    assert batch[1].tolist() == [0, 1, 2, 0]
    assert target.weight(batch) == 3
    assert target.labels([batch[0][:2], batch[1][:2]]).unique().tolist() == [0]  # type: ignore[union-attr]


def test_a_loss_by_name_ignores_what_torch_ignores(user: User) -> None:
    user.write(PLAIN + f"    criterion = {IGNORING}")
    target = user.load(loss="cross_entropy")
    assert target.weight(next(target.data.fetch([range(4)]))) == 4


@pytest.mark.parametrize(("ignored", "seen"), [(-100, [3, 3, 2]), (7, [3, 3, 2])])
def test_ignored_labels_are_no_class(ignored: int, seen: list[int]) -> None:
    batch = [torch.zeros(3, 1), torch.tensor([3, ignored, 2])]
    assert counted_classes(batch, ignored).tolist() == seen  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("batch", "labels"),
    [
        ([torch.zeros(2), torch.tensor([4, 5])], [4, 5]),
        ({"label": torch.tensor([4, 5])}, [4, 5]),
        ([torch.zeros(2), torch.tensor([4.0, 5.0])], None),
        ([torch.zeros(2), MASKED], None),
        ([torch.zeros(2), "ab"], None),
    ],
)
def test_one_integer_per_example_is_a_class(batch: Any, labels: list[int] | None) -> None:
    found = class_labels(batch)
    assert (None if found is None else found.tolist()) == labels
