"""When a ramp is advised, and which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.ramp import Ramp, Run, advise_ramp, noise_factor
from bsadvisor.advise.track_remarks import about_run, measure_again
from bsadvisor.advise.trend import find_trends
from bsadvisor.values import Estimate, LossSource, OptimizerDetails, TrackedCheckpoint, WeightAverage

SGD = OptimizerDetails(family="sgd", momentum=0.0)

ADAM = OptimizerDetails(family="adam", betas=(0.9, 0.999), state_loaded=True)

STEPS = tuple(range(100, 1001, 100))


def checkpoint(step: int, *, loss: float, noise_scale: float, variance: float = 0.008) -> TrackedCheckpoint:
    scale = Estimate(value=noise_scale, low=noise_scale / 1.2, high=noise_scale * 1.25, confidence=0.95)
    return TrackedCheckpoint(
        checkpoint=f"step-{step}.pt",
        checkpoint_sha256=str(step),
        step=step,
        step_from="checkpoint",
        learning_rate=None,
        loss=Estimate(value=loss, low=0.9 * loss, high=1.1 * loss, confidence=0.95),
        heldout_loss=None,
        noise_scale_simple=scale,
        noise_scale_preconditioned=None,
        update_variance=variance,
        examples=1024,
        seconds=1.0,
    )


def a_run(
    *,
    exponent: float = 1.0,
    fall: float = 0.1,
    variance: float = 0.008,
    optimizer: OptimizerDetails = SGD,
    batch_size: int | None = 16,
    rate: float | None = 0.1,
) -> Run:
    """Losses fall as step^-fall, noise scales grow as step^exponent from 200; variance 0.008 is 0.02 of loss."""
    checkpoints = tuple(
        checkpoint(
            step,
            loss=(step / 100) ** -fall,
            noise_scale=200 * (step / 100) ** exponent,
            variance=variance,
        )
        for step in STEPS
    )
    pair = PairInUse(batch_size=batch_size, learning_rate=rate, optimizer=optimizer)
    trends = find_trends(checkpoints, confidence=0.95)
    return Run(pair=pair, checkpoints=checkpoints, trends=trends, weight_average=None, dataset_size=50_000)


def test_where_noise_is_much_of_the_loss_a_ramp_is_advised_late_in_the_run() -> None:
    ramp = advise_ramp(a_run(variance=0.08))
    assert [stage.batch_size for stage in ramp.stages] == [16, 32, 64, 128]
    assert [stage.from_example for stage in ramp.stages] == [0, 8000, 12000, 14048]
    assert [stage.from_step for stage in ramp.stages] == [0, 500, 625, 657]
    assert ramp.summary is not None and ramp.summary.steps == 657 + 16
    assert ramp.summary.mean_batch_size == pytest.approx(16_000 / 673)
    assert ramp.summary.loss_change.value is not None and ramp.summary.loss_change.value < 0


def test_the_stages_cover_exactly_the_examples_of_their_steps() -> None:
    stages = advise_ramp(a_run(variance=0.08)).stages
    for before, after in pairwise(stages):
        assert after.from_example - before.from_example == before.batch_size * (
            after.from_step - before.from_step
        )


def test_where_steps_are_what_the_run_lacks_none_is_advised_and_the_figures_say_why() -> None:
    ramp = advise_ramp(a_run(fall=0.5, variance=0.008))
    assert ramp.stages == () and "number of steps" in ramp.reason
    assert ramp.summary is not None and (ramp.summary.loss_change.high or 0) > 0


def test_where_the_noise_scale_falls_none_is_advised() -> None:
    ramp = advise_ramp(a_run(exponent=-1.0, variance=0.08))
    assert ramp == Ramp(reason="the noise scale falls over these checkpoints")


def test_the_same_noise_by_decaying_instead_is_given_with_every_stage() -> None:
    stages = advise_ramp(a_run(variance=0.08)).stages
    assert [stage.decay_factor for stage in stages] == [1, 0.5, 0.25, 0.125]
    assert [stage.decay_from_step for stage in stages] == [0, 500, 750, 878]
    assert noise_factor(4, PairInUse(batch_size=8, learning_rate=1e-3, optimizer=ADAM)) == 0.5


def test_adam_keeps_its_second_moment_over_as_many_examples() -> None:
    stages = advise_ramp(a_run(variance=0.08, optimizer=ADAM)).stages
    assert [stage.adam_betas for stage in stages[:2]] == [(0.9, 0.999), (0.9, pytest.approx(0.999**2))]


def with_heldout(run: Run, losses: Callable[[int], float], average: WeightAverage | None = None) -> Run:
    """Held-out losses by step."""
    checkpoints = [
        replace(one, heldout_loss=Estimate(value=losses(one.step), low=None, high=None, confidence=0.95))
        for one in run.checkpoints
    ]
    return replace(run, checkpoints=checkpoints, weight_average=average)


def averaged(*, gain: float, loss_of: LossSource = "heldout") -> WeightAverage:
    return WeightAverage(
        checkpoints=6, from_step=500, loss=0.8 - gain, mean_loss=0.8, loss_of=loss_of, mode="eval"
    )


def test_the_held_out_loss_says_what_steps_are_worth_where_there_is_one() -> None:
    """The training loss falls steeply by then, the held-out loss hardly."""
    run = a_run(fall=0.5, variance=0.02)
    assert advise_ramp(run).stages == ()
    ramp = advise_ramp(with_heldout(run, lambda step: 0.8 * (step / 1000) ** -0.05))
    assert ramp.stages and ramp.summary is not None and ramp.summary.loss_of == "heldout"
    some = with_heldout(run, lambda step: 0.8 * (step / 1000) ** -0.05)
    last = replace(some.checkpoints[-1], heldout_loss=None)
    without = advise_ramp(replace(some, checkpoints=[*some.checkpoints[:-1], last]))
    assert without.stages == () and without.summary is not None and without.summary.loss_of == "train"


def test_noise_is_that_of_the_averaged_weights_where_they_were_judged() -> None:
    """Whatever the gradients say, which speak of a run that has settled."""

    def heldout(step: int) -> float:
        return float(0.8 * (step / 1000) ** -0.1)

    for variance in (0.08, 0.0008):
        much = advise_ramp(with_heldout(a_run(variance=variance), heldout, averaged(gain=0.1)))
        assert much.stages and much.summary is not None
        assert much.summary.noise_loss == pytest.approx(0.12)
        assert much.summary.noise_from == "averaged_weights"
        little = advise_ramp(with_heldout(a_run(variance=variance), heldout, averaged(gain=0.001)))
        assert little.stages == () and "number of steps" in little.reason


def test_an_average_that_was_judged_by_other_examples_is_not_taken() -> None:
    run = with_heldout(a_run(variance=0.08), lambda step: 0.8, averaged(gain=0.0, loss_of="train"))
    ramp = advise_ramp(run)
    assert ramp.summary is not None and ramp.summary.noise_from == "gradients"
    assert ramp.summary.noise_loss == pytest.approx(0.2)


def test_losses_that_scatter_leave_it_open() -> None:
    """As little of the loss is noise as such losses can show to be there."""

    def scattered(step: int) -> float:
        return 0.8 + (0.05 if step % 200 else -0.05)

    ramp = advise_ramp(with_heldout(a_run(), scattered, averaged(gain=0.02)))
    assert ramp.stages == () and "cannot be told" in ramp.reason
    assert ramp.summary is not None and (ramp.summary.loss_change.value or 0) < 0.05
    calm = advise_ramp(with_heldout(a_run(), lambda step: 0.8, averaged(gain=0.02)))
    assert calm.stages


def test_no_stage_is_beyond_the_data() -> None:
    run = a_run(variance=0.08)
    small = replace(run, dataset_size=40)
    assert [stage.batch_size for stage in advise_ramp(small).stages] == [16, 32]
    assert "no batch twice as large" in advise_ramp(replace(run, dataset_size=20)).reason


def test_a_run_that_decays_its_learning_rate_needs_no_ramp() -> None:
    run = a_run(variance=0.08)
    decayed = [replace(one, learning_rate=0.1 / one.step) for one in run.checkpoints]
    assert "learning rate changes" in advise_ramp(replace(run, checkpoints=tuple(decayed))).reason


@pytest.mark.parametrize(
    ("missing", "why"), [({"batch_size": None}, "no batch size"), ({"rate": None}, "not known")]
)
def test_without_half_of_the_pair_there_is_a_reason_and_no_ramp(missing: dict[str, None], why: str) -> None:
    ramp = advise_ramp(a_run(**missing))  # type: ignore[arg-type]
    assert ramp.stages == () and why in ramp.reason


def test_without_steps_there_is_no_ramp() -> None:
    run = a_run(variance=0.08)
    ordered = tuple(replace(one, step_from="order", step=n) for n, one in enumerate(run.checkpoints, 1))
    lost = Run(
        pair=run.pair,
        checkpoints=ordered,
        trends=find_trends(ordered, confidence=0.95),
        weight_average=None,
        dataset_size=None,
    )
    assert "steps" in advise_ramp(lost).reason
    assert [trend.against for trend in lost.trends] == ["loss"]
    codes = [found.code for found in about_run(ordered, lost.trends, reordered=True, doubles=(), left=0)]
    assert codes == ["BSA333"]


def test_the_trend_against_the_loss_grows_as_the_loss_falls() -> None:
    step, loss = a_run(exponent=0.5, fall=0.25).trends
    assert step.verdict == loss.verdict == "grows"
    assert step.growth.value == pytest.approx(10**0.5, rel=0.1)
    assert loss.exponent.value == pytest.approx(-2, rel=0.1)
    assert loss.growth.value == pytest.approx(10**0.5, rel=0.1)


def test_the_next_look_is_where_the_noise_scale_has_doubled() -> None:
    run = a_run(exponent=1.0, fall=0.5)
    again = measure_again(run.checkpoints, run.trends)
    assert again is not None and again.basis == "measured"
    assert again.at_step == pytest.approx(2000, rel=0.1)
    assert again.at_loss == pytest.approx(10**-0.5 * 2**-0.5, rel=0.1)


def test_one_checkpoint_alone_says_when_to_look_again() -> None:
    alone = a_run().checkpoints[:1]
    again = measure_again(alone, ())
    assert again is not None and (again.at_step, again.basis) == (None, "assumed")
    assert again.at_loss == pytest.approx(0.87)
    (found,) = about_run(alone, (), reordered=False, doubles=(), left=0)
    assert found.code == "BSA334" and "loss is down to 0.87" in found.remedy
