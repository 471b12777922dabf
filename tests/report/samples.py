"""Every report that is rendered in the tests, under its name."""

from __future__ import annotations

from tests.report import curved, dropped, held, sample, tried

SAMPLES = {
    build.__name__: build
    for build in (
        sample.contract_report,
        sample.named_rules,
        sample.no_learning_rate,
        sample.no_batch_size,
        sample.keep,
        sample.no_upper_end,
        sample.nothing_resolved,
        sample.initial_weights,
        sample.interrupted,
        sample.many_findings,
        sample.extreme,
        sample.hostile_names,
        curved.no_saddle,
        curved.at_a_saddle,
        curved.perhaps_at_a_saddle,
        curved.unresolved,
        curved.little_measured,
        curved.piecewise_linear,
        dropped.dropout,
        dropped.shared_masks,
        dropped.augmentation,
        held.memorized,
        held.few_held_out,
        tried.measured,
        tried.far_from_tuned,
        tried.begun,
        tried.planned,
    )
}
