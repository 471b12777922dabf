"""What runs that were tried say: is the run stuck, and does a kick lead away?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from bsadvisor.values import CurvatureStats, EscapeDirection, Estimate, ShortRun, Verdict

STUCK_STEPS, STUCK_SHARE = 100, 0.05
"""A run that is stuck keeps its loss to within this share over so many steps."""

RUN_EXAMPLES = 25_600
"""The most that a short run may see, but for a tenth of `STUCK_STEPS` at the least."""

LOOKS = 10
"""At the loss, in a short run."""

HURRIED_STEPS, HURRIED_LOOKS, TIMES_FASTER = 400, 40, 30.0
"""The second run, where the kick has not led far enough away within the first: some saddles are slow.

Its learning rate grows to so many times that in use: whenever the way out opens, there are looks before
the run without a kick finds it as well.
"""

FAR = 0.2
"""Of the loss: a hurried run that falls so far leads somewhere, with a kick or without."""

SURE_PART = 0.4
"""Of what counts as moving: a kick that surely gains so much leads away, however slowly."""

MUCH = 2.0
"""Times what counts as moving: a run that falls so far moves, however uncertain the fall."""

Sure = Literal["surely", "perhaps", "hardly", "no"]


def plan_short_run(batch_size: int) -> int:
    """Steps of the run that is tried: fewer where its batches are large."""
    return LOOKS * max(min(STUCK_STEPS, RUN_EXAMPLES // batch_size) // LOOKS, 1)


def look_every(batch_size: int) -> int:
    """Steps between two looks at the loss."""
    return plan_short_run(batch_size) // LOOKS  # which divides it, see `plan_short_run`


def has_left(fall: Estimate, loss: float, batch_size: int) -> bool:
    """Whether a fall of the loss at any time within the short run shows that it is not stuck."""
    return _stays(fall, _little(plan_short_run(batch_size), loss)) == "no"


def highest_rate(curvature: CurvatureStats, *, adaptive: bool) -> float:
    """The largest learning rate of the hurried run: half of what would diverge; adaptive steps do not."""
    largest = None if adaptive else curvature.own_lambda_max
    top = None if largest is None else largest.high or largest.value
    return 1 / top if top is not None and top > 0 else math.inf


def has_hurried_off(fall: Estimate, loss: float) -> bool:
    """Whether a hurried run has fallen far enough, or climbs: its steps are too large for more."""
    if fall.value is None:
        return True
    return fall.value <= -MUCH * _little(STUCK_STEPS, loss) or _is_far(fall, loss)


def best_look(looks: Sequence[ShortRun], loss: float) -> ShortRun | None:
    """Where a hurried run had fallen far; else where the kick had gained most, before the other one left."""
    far = [look for look in looks if _leads_far(look, loss)]
    if far:
        return far[0]
    least = _little(STUCK_STEPS, loss)
    stuck = [look for look in looks if _stays(look.widest_drop, least) in ("surely", "perhaps")]
    known = [look for look in stuck if look.lasting_gain.value is not None]
    return max(known, key=lambda look: look.lasting_gain.value or 0.0, default=None)


def needs_hurry(escape: EscapeDirection) -> bool:
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
    run = escape.short_run
    fall = None if run is None else run.loss_drop.value
    return run is not None and fall is not None and fall < little(run, escape.loss) and steps <= run.steps


def little(run: ShortRun, loss: float) -> float:
    """The least fall of the loss in such a run that counts as moving."""
    return _little(run.steps, loss)


def _little(steps: int, loss: float) -> float:
    return STUCK_SHARE * abs(loss) * min(steps / STUCK_STEPS, 1.0)


def _is_stuck(run: ShortRun, loss: float) -> Sure:
    return _stays(run.widest_drop, little(run, loss))


def _stays(moved: Estimate, least: float) -> Sure:
    """A loss that rises by as much as it may not fall is not stuck, either."""
    if moved.value is None or moved.low is None or moved.high is None or moved.value <= -least:
        return "no"
    if moved.value >= least:
        return "hardly" if moved.low < least and moved.value < MUCH * least else "no"
    return "surely" if moved.high < least else "perhaps"


def _leads_away(escape: EscapeDirection) -> Sure:
    found = set()
    if escape.short_run is not None:
        found.add(_gains(escape.short_run, little(escape.short_run, escape.loss)))
    if escape.hurried_run is not None:
        found.add(_gains_in_a_hurry(escape.hurried_run, _little(STUCK_STEPS, escape.loss)))
        found.add("perhaps" if _leads_far(escape.hurried_run, escape.loss) else "no")
    return "surely" if "surely" in found else "perhaps" if "perhaps" in found else "no"


def _gains(run: ShortRun, least: float) -> Sure:
    """By as much as would be moving, both against the checkpoint and against the run without a kick.

    Or by a part of it that is certain: both runs see the same batches, which carry them back together
    where nothing is to be gained.
    """
    value, low = _gained(run)
    if low >= least:
        return "surely"
    return "perhaps" if value >= least or low >= SURE_PART * least else "no"


def _gains_in_a_hurry(run: ShortRun, least: float) -> Sure:
    """Both by much and with some certainty: it is the best of many looks."""
    value, low = _gained(run)
    if low >= least:
        return "surely"
    return "perhaps" if value >= least and low >= SURE_PART * least else "no"


def _gained(run: ShortRun) -> tuple[float, float]:
    """The lesser of the two gains of a kick, and the lower end of either."""
    both = run.kicked_loss_drop, run.lasting_gain
    values, lows = ([getattr(gain, name) for gain in both] for name in ("value", "low"))
    return min(map(_known, values)), min(map(_known, lows))


def _known(end: float | None) -> float:
    return -math.inf if end is None else end


def _leads_far(run: ShortRun, loss: float) -> bool:
    """A run at larger rates than that in use, so no more than perhaps the way that it will take."""
    return _is_far(run.loss_drop, loss) or _is_far(run.kicked_loss_drop, loss)


def _is_far(fall: Estimate, loss: float) -> bool:
    return fall.low is not None and fall.low >= FAR * abs(loss)
