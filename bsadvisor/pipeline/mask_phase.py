"""The split of the gradient noise into data, augmentation and dropout masks, where there is more than data."""

from __future__ import annotations

from bsadvisor.advise.mask_plan import MaskPlan, mask_plan, seconds_allowed
from bsadvisor.errors import is_out_of_memory
from bsadvisor.measure.dropout_ridge import dropout_ridges
from bsadvisor.measure.mask_noise import MaskProbe, RepeatedGradients
from bsadvisor.measure.mask_stats import dropout_stats
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.values import AssumptionFacts, DropoutRidge, DropoutStats, Progress

TOO_LONG = "it would take longer than the gradient itself"
TOO_FEW = "there are too few examples"
OUT_OF_MEMORY = "a second gradient did not fit in memory"


class MasksUnavailableError(Exception):
    """The split was not measured; says why."""


def measure_masks(session: Session, gradient: GradientPhase) -> DropoutStats | None:
    """Where the noise comes from; None where nothing is random but the choice of examples.

    Raises:
        MasksUnavailableError: time or memory do not allow it.
    """
    facts = gradient.assumptions
    masks, draws = 2 if has_masks(facts) else 1, 2 if facts.augmented else 1
    if masks == draws == 1:
        return None
    session.progress(Progress(phase="dropout", done=0, total=None))
    ends = session.watch.seconds + min(seconds_allowed(gradient.seconds), session.watch.left())
    plan = mask_plan(
        available=gradient.sampler.num_certain,
        micro_batch=gradient.probe.micro_batch,
        coupled=gradient.couples,
        parameters=session.target.description.trainable_parameters,
    )
    if plan is None:
        raise MasksUnavailableError(TOO_FEW)
    found = _repeated(session, gradient, plan, ends, masks=masks, draws=draws)
    return dropout_stats(
        found,
        keep_probabilities=facts.dropout,
        ridges=_ridges(session, gradient, plan, ends),
        batch_size=session.target.description.batch_size,
        confidence=session.settings.confidence,
    )


def has_masks(facts: AssumptionFacts) -> bool:
    """Whether the forward pass draws masks, or other random numbers."""
    return facts.random_forward or any(0 < place.keep < 1 for place in facts.dropout)


def _repeated(
    session: Session, gradient: GradientPhase, plan: MaskPlan, ends: float, *, masks: int, draws: int
) -> RepeatedGradients:
    probe = MaskProbe(
        session.target,
        gradient.sampler,
        micro_batch=plan.micro_batch,
        small=plan.small,
        masks=masks,
        draws=draws,
        seed=session.settings.seed,
        reduction=gradient.assumptions.loss_reduction,
    )
    try:
        found = probe.run(
            plan.micro_batches,
            time_left=lambda: ends - session.watch.seconds,
            stop=lambda: session.stop.requested,
        )
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_out_of_memory(error):
            raise
        raise MasksUnavailableError(OUT_OF_MEMORY) from None
    if found is None:
        raise MasksUnavailableError(TOO_LONG)
    return found


def _ridges(
    session: Session, gradient: GradientPhase, plan: MaskPlan, ends: float
) -> tuple[DropoutRidge, ...]:
    """Of the linear layers behind dropout; fewer micro-batches do where time is short."""
    if not any(0 < place.keep < 1 for place in gradient.assumptions.dropout):
        return ()
    return dropout_ridges(
        session.target,
        gradient.sampler.gradient(0, plan.ridge_batches, plan.micro_batch),
        confidence=session.settings.confidence,
        seed=session.settings.seed,
        should_stop=lambda: session.stop.requested or session.watch.seconds > ends,
    )
