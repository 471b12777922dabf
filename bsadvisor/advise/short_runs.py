"""What runs that were tried say: is the run stuck, and does a kick lead away?"""

from __future__ import annotations

from typing import Literal

from bsadvisor.values import EscapeDirection, ShortRun, Verdict

STUCK_STEPS, STUCK_SHARE = 100, 0.05
"""A run that is stuck keeps its loss to within this share over so many steps."""

RUN_EXAMPLES = 25_600
"""The most that a short run may see, but for a tenth of `STUCK_STEPS` at the least."""

TIMES_LONGER = 3
"""The second run, where the kick has not led far enough away within the first: some saddles are slow."""

MUCH = 2.0
"""Times what counts as moving: a run that falls so far moves, however uncertain the fall."""

Sure = Literal["surely", "perhaps", "hardly", "no"]


def plan_short_run(batch_size: int) -> int:
    """Steps of the run that is tried: fewer where its batches are large."""
    return max(min(STUCK_STEPS, RUN_EXAMPLES // batch_size), STUCK_STEPS // 10)


def plan_long_run(batch_size: int) -> int:
    """Steps of the second one."""
    return TIMES_LONGER * plan_short_run(batch_size)


def needs_longer_run(escape: EscapeDirection) -> bool:
    """Whether the run was stuck, and the kick had not led away either."""
    run = escape.short_run
    return run is not None and _is_stuck(run, escape.loss) != "no" and _leads_away(escape) == "no"


def has_way_out(escape: EscapeDirection) -> bool:
    """Whether a kick led away from where the run was stuck."""
    return judge_runs(escape) != "note"


def runs_away(escape: EscapeDirection) -> bool:
    """Whether the run that was tried was not stuck."""
    return escape.short_run is not None and _is_stuck(escape.short_run, escape.loss) == "no"


def judge_runs(escape: EscapeDirection) -> Verdict:
    """The verdict along a certified direction along which a run was tried."""
    run = escape.short_run
    stuck, away = "no" if run is None else _is_stuck(run, escape.loss), _leads_away(escape)
    if "no" in (stuck, away) or (stuck == "hardly" and away != "surely"):
        return "note"
    return "warning" if stuck == away == "surely" else "possible"


def is_refuted(escape: EscapeDirection, steps: float) -> bool:
    """Whether a run of so many steps was tried and had not left."""
    return any(
        run.loss_drop.value is not None
        and run.loss_drop.value < little(run, escape.loss)
        and steps <= run.steps
        for run in _tried(escape)
    )


def little(run: ShortRun, loss: float) -> float:
    """The least fall of the loss in such a run that counts as moving."""
    return STUCK_SHARE * abs(loss) * min(run.steps / STUCK_STEPS, 1.0)


def _tried(escape: EscapeDirection) -> tuple[ShortRun, ...]:
    return tuple(run for run in (escape.short_run, escape.long_run) if run is not None)


def _is_stuck(run: ShortRun, loss: float) -> Sure:
    """A loss that rises by as much as it may not fall is not stuck, either."""
    least, moved = little(run, loss), run.loss_drop
    if moved.value is None or moved.low is None or moved.high is None or moved.value <= -least:
        return "no"
    if moved.value >= least:
        return "hardly" if moved.low < least and moved.value < MUCH * least else "no"
    return "surely" if moved.high < least else "perhaps"


def _leads_away(escape: EscapeDirection) -> Sure:
    found = {_gains(run, escape.loss) for run in _tried(escape)}
    return "surely" if "surely" in found else "perhaps" if "perhaps" in found else "no"


def _gains(run: ShortRun, loss: float) -> Sure:
    """By as much as would be moving, both against the checkpoint and against the run without a kick."""
    least, drop, gain = little(run, loss), run.kicked_loss_drop, run.gain
    if drop.value is None or gain.value is None or min(drop.value, gain.value) < least:
        return "no"
    lows = drop.low, gain.low
    return "surely" if all(low is not None and low >= least for low in lows) else "perhaps"
