"""Reports with held-out examples: memorized, and too few to tell."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.advise.generalization import about_generalization, judge_generalization
from bsadvisor.values import Estimate, Generalization, HeldOutFacts, Report, Shrinking
from tests.report.sample import UNRESOLVED, contract_report, estimate

FACTS = HeldOutFacts(shared=0.0)


def around(value: float, reach: float) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach, confidence=0.95)


def judged(measured: Generalization, facts: HeldOutFacts = FACTS) -> Report:
    """With what is remarked about it."""
    found = replace(measured, verdict=judge_generalization(measured, facts.shared))
    remarks = about_generalization(facts, found, "images")
    report = contract_report()
    return replace(report, generalization=found, findings=(*remarks, *report.findings))


def memorized() -> Report:
    """Past the turn of the held-out loss."""
    return judged(
        Generalization(
            train_loss=around(0.962, 0.041),
            heldout_loss=around(1.456, 0.095),
            gap=around(0.494, 0.103),
            alignment=Estimate(value=0.361, low=0.146, high=1.5, confidence=0.95),
            self_share=estimate(0.571),
            verdict=None,
            train_growth=around(-0.455, 0.163),
            heldout_growth=around(0.476, 0.198),
            growth_gap=around(0.931, 0.256),
            shrinking=Shrinking(
                factor=0.94, heldout_gain=around(0.0176, 0.0112), train_gain=around(-0.0392, 0.0098)
            ),
            train_examples=1024,
            heldout_examples=352,
            mode="eval",
        )
    )


def few_held_out() -> Report:
    """A gap that may be anything, and some examples in common."""
    return judged(
        Generalization(
            train_loss=around(0.96, 0.05),
            heldout_loss=around(1.2, 0.7),
            gap=around(0.24, 0.7),
            alignment=UNRESOLVED,
            self_share=None,
            verdict=None,
            train_examples=1024,
            heldout_examples=12,
            mode="train",
        ),
        replace(FACTS, shared=0.04, compared=12, looked_through=1437),
    )
