"""Sums, sketches and their reduction over ranks, against the gradients kept whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from bsadvisor.measure.accumulator import MAX_BLOCKS, GradientAccumulator
from bsadvisor.measure.sketch import CHUNK, Sketch
from bsadvisor.theory import noise_scale as theory

SHAPES = {"a.weight": (30, 20), "a.bias": (30,), "b.weight": (5, 30)}


def gradients(
    count: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES, seed: int = 0
) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {name: 0.1 + torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def filled(
    pushed: list[dict[str, Tensor]], weights: list[float] | None = None, **kind: object
) -> GradientAccumulator:
    accumulator = GradientAccumulator(pushed[0], **kind)  # type: ignore[arg-type]
    for gradient, weight in zip(pushed, weights or [4.0] * len(pushed), strict=True):
        accumulator.add(gradient, weight, 4)
    return accumulator


def sketch(size: int, seed: int, *gradients: Tensor) -> Tensor:
    """The sketches of gradients of one tensor, a chunk at a time."""
    making = Sketch([size], seed=seed, device=torch.device("cpu"))
    for number, chunk in enumerate(torch.stack(gradients).split(CHUNK, dim=1)):
        making.add(0, number * CHUNK, chunk)
    return making.take()


def flat(gradient: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in gradient.values()]).double()


def test_small_models_are_not_approximated() -> None:
    pushed = gradients(20)
    sums = filled(pushed).sums()
    whole = torch.stack([4 * flat(gradient) for gradient in pushed])
    assert sums.gram == pytest.approx((whole @ whole.T).numpy(), rel=1e-5)
    assert float(sums.total_squared_norm) == pytest.approx(float(whole.sum(0).square().sum()), rel=1e-5)


def test_merging_blocks_changes_no_estimate() -> None:
    pushed = gradients(3 * MAX_BLOCKS)
    weights = [float(weight) for weight in np.random.default_rng(0).integers(1, 9, size=len(pushed))]
    sums = filled(pushed, weights).sums()
    assert sums.num_blocks <= MAX_BLOCKS < len(pushed)

    kept = torch.stack([flat(gradient) for gradient in pushed]).numpy()
    w = np.array(weights)
    total = (w[:, None] * kept).sum(0)
    norms = (kept**2).sum(1)
    squared_norm = (total @ total - (w**2 * norms).sum()) / (w.sum() ** 2 - (w**2).sum())
    assert float(theory.moments(sums).squared_norm) == pytest.approx(squared_norm, rel=1e-4)
    assert sums.micro_batches.sum() == len(pushed)


def test_a_preconditioner_changes_the_inner_product() -> None:
    pushed = gradients(20)
    diagonal = {name: torch.rand(shape) + 0.5 for name, shape in SHAPES.items()}
    found = filled(pushed, preconditioner=diagonal).sums(preconditioned=True)
    scaled = [{name: g[name] * diagonal[name].sqrt() for name in g} for g in pushed]
    assert found.gram == pytest.approx(filled(scaled).sums().gram, rel=1e-4)


def test_an_empty_parameter_takes_no_part() -> None:
    pushed = gradients(20, {"empty": (0, 3), **SHAPES, "last": (0,)})
    assert np.array_equal(filled(pushed).sums().gram, filled(gradients(20)).sums().gram)
    norms = filled(pushed).squared_norms()
    assert norms == pytest.approx(filled(gradients(20)).squared_norms())


def test_groups_add_up_to_the_whole() -> None:
    accumulator = filled(gradients(20))
    groups = accumulator.sums_per_group({"a": [0, 1], "b": [2]})
    together = sum(float(theory.moments(sums).squared_norm) for sums in groups.values())
    assert together == pytest.approx(float(theory.moments(accumulator.sums()).squared_norm), rel=1e-5)


def test_norms_of_long_tensors_keep_their_digits() -> None:
    long = {"w": torch.randn(3_000_000, generator=torch.Generator().manual_seed(0))}
    accumulator = filled([long, long])
    exact = float(long["w"].double().square().sum())
    assert accumulator.squared_norms()[0] == pytest.approx(exact, rel=1e-6)


def test_sketched_inner_products_are_unbiased_and_as_close_as_promised() -> None:
    a, b = (torch.randn(50_000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    b = b + 0.5 * a
    exact, scale = float(a @ b), float(a.norm() * b.norm())
    errors = []
    for seed in range(60):
        left, right = sketch(50_000, seed, a, b)
        errors.append((float(left @ right) - exact) / scale)
    spread = np.std(errors)
    assert abs(np.mean(errors)) < 3.5 * spread / np.sqrt(60)
    assert spread < 1.5 * np.sqrt(2 / 4096)


@pytest.mark.parametrize("size", [1, 4096, 4097, CHUNK - 1, CHUNK, CHUNK + 10, 2 * CHUNK + 4095])
def test_every_length_is_sketched_and_has_its_exact_norm(size: int) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(0))
    (row,) = sketch(size, 0, tensor)
    assert row.numel() == min(size, 4096)
    assert float(row @ row) == pytest.approx(float(tensor @ tensor), rel=0.15)
    accumulator = filled([{"a": tensor, "b": tensor[:1]}])
    exact = float(tensor.double().square().sum() + tensor[0].double().square())
    assert accumulator.squared_norms()[0] == pytest.approx(exact, rel=1e-6)


def test_gradients_with_equal_rows_do_not_fool_the_sketch() -> None:
    row = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    structured = (torch.randn(64, 1, generator=torch.Generator().manual_seed(1)) * row).reshape(-1)
    errors = []
    for seed in range(20):
        (sketched,) = sketch(structured.numel(), seed, structured)
        errors.append(float(sketched @ sketched / (structured @ structured)) - 1)
    assert np.std(errors) < 2 * np.sqrt(2 / 4096)


def test_the_interval_from_a_sketch_is_that_of_the_whole_gradients() -> None:
    shapes = {"w": (300, 400)}
    deviations = torch.arange(1, 120_001).float().reshape(300, 400) ** -0.5
    pushed = [{"w": 0.02 * deviations + deviations * gradient["w"]} for gradient in gradients(32, shapes)]
    sums = filled(pushed).sums()
    whole = torch.stack([4 * flat(gradient) for gradient in pushed])
    exact = sums.__class__(
        **{**{name: getattr(sums, name) for name in sums.__slots__}, "gram": (whole @ whole.T).numpy()}
    )
    ratio = theory.inverse_noise_scale_variance(sums) / theory.inverse_noise_scale_variance(exact)
    assert 0.9 < ratio**0.5 < 1.1


@pytest.mark.parametrize("long", [100, 20_000, CHUNK + 30_000])
def test_a_saved_state_goes_on_bit_for_bit(long: int) -> None:
    shapes = SHAPES | {"long": (long,)}
    pushed = gradients(MAX_BLOCKS + 7 if long < CHUNK else 5, shapes)
    whole, half = filled(pushed), len(pushed) // 2
    resumed = GradientAccumulator(pushed[0])
    resumed.load_state(filled(pushed[:half]).state())
    for gradient in pushed[half:]:
        resumed.add(gradient, 4.0, 4)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name]), name


def test_looking_early_changes_nothing_and_shows_all_that_was_pushed() -> None:
    pushed = gradients(MAX_BLOCKS + 20)
    ones = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    looked = GradientAccumulator(pushed[0], preconditioner=ones)
    for number, gradient in enumerate(pushed, start=1):
        looked.add(gradient, 4.0, 4)
        if number % 7 == 0:
            assert len(looked.squared_norms()) == number == looked.sums().micro_batches.sum()
    assert torch.equal(looked.total_gradient()["a.bias"], filled(pushed).total_gradient()["a.bias"])
    assert np.array_equal(looked.sums().gram, filled(pushed).sums().gram)
    assert looked.sums(preconditioned=True).gram == pytest.approx(looked.sums().gram, rel=1e-6)


def test_what_was_pushed_may_be_overwritten_at_once() -> None:
    pushed = gradients(20)
    accumulator = GradientAccumulator(pushed[0])
    for gradient in pushed:
        borrowed = {name: part.clone() for name, part in gradient.items()}
        accumulator.add(borrowed, 4.0, 4)
        for part in borrowed.values():
            part.zero_()
    assert np.array_equal(accumulator.sums().gram, filled(pushed).sums().gram)


def test_a_state_of_other_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="other parameters"):
        filled(gradients(4, {"w": (3, 3)})).load_state(filled(gradients(4)).state())


def _rank(rank: int, ranks: int, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    share = len(gradients(48)) // ranks
    accumulator = filled(gradients(48)[rank * share : (rank + 1) * share])
    accumulator.reduce()
    if rank == ranks - 1:
        torch.save(accumulator.state(), Path(folder) / "reduced.pt")
    dist.destroy_process_group()


def test_two_ranks_know_what_one_process_would(tmp_path: Path) -> None:
    mp.spawn(_rank, args=(2, str(tmp_path)), nprocs=2)  # type: ignore[attr-defined,no-untyped-call]
    reduced = GradientAccumulator(gradients(1)[0])
    reduced.load_state(torch.load(tmp_path / "reduced.pt", weights_only=True))
    alone, together = filled(gradients(48)).sums(), reduced.sums()
    assert together.num_blocks == alone.num_blocks
    assert together.gram == pytest.approx(alone.gram, rel=1e-5)
    assert theory.noise_scale(together, 0.95).high == pytest.approx(
        theory.noise_scale(alone, 0.95).high, rel=1e-4
    )
