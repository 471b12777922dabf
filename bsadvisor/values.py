"""Every value that crosses a border between rooms, in the order in which it flows.

    TargetRequest (in `settings`) -> TargetDescription, TargetFacts -> ProbeRun, AssumptionFacts,
    GradientStats, CurvatureStats, EscapeDirection, LocalStats -> CriticalBatchSize, Recommendation, SaddleVerdict,
    Headline, Finding -> Report; with CheckRequest -> Judgement -> CheckSummary; TrackedCheckpoint,
    NoiseTrend, RampStage -> TrackReport

A `Report` is the JSON report: its field names are the JSON keys, in the order of the file. `None` is
JSON `null`: a part that was not measured, an estimate that was not resolved, a bound that does not
exist. No NaN and no infinity ever stands in one of these values.

Batch sizes are in examples (what the loader shuffles: an image, a row, a sequence).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bsadvisor.settings import RuleSeverity

SCHEMA_VERSION = 1

Severity = Literal["info", "note", "warning", "error"]
StoppedBy = Literal["precision", "max_examples", "time", "data", "interrupt"]
Role = Literal["current", "efficient", "balanced", "largest_useful", "fastest", "cheapest"]
Basis = Literal["predicted", "measured"]
OptimizerFamily = Literal["sgd", "adam", "other"]
NoiseRegime = Literal["noise", "between", "signal"]
"""Whether gradients at both batch sizes are mostly noise, mostly signal, or neither."""
Verdict = Literal["none", "note", "possible", "warning", "unresolved"]
EquilibriumVerdict = Literal["run", "task", "unresolved"]
GeneralizationVerdict = Literal["fitting", "overfitting", "memorization"]
CheckVerdict = Literal["pass", "fail", "unknown"]
FileState = Literal["unchanged", "changed", "absent"]
StepSource = Literal["checkpoint", "optimizer", "name", "order"]
"""Who says at which step a checkpoint was saved."""
TrendVerdict = Literal["grows", "falls", "unresolved"]
"""Whether the noise scale's growth over the run is certainly above one, below one, or neither."""
RuleName = Literal[
    "max_examples_over_minimum",
    "max_steps_over_minimum",
    "learning_rate",
    "escape_steps",
    "memory",
    "max_drift",
]


# --- while it runs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step forward, told to whoever draws a bar."""

    phase: str
    done: int
    """Examples."""
    total: int | None
    """Examples expected now; grows when another round is added."""
    noise_scale: Estimate | None = None
    note: str = ""
    """What is known so far, in words."""


ProgressCallback = Callable[[Progress], None]


# --- estimates ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number and how sure we are of it."""

    value: float | None
    """None: not resolved."""
    low: float | None
    """None: no lower bound."""
    high: float | None
    """None: no upper bound."""
    confidence: float
    """Probability that the interval covers the truth, over repeated probes."""


# --- the target ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Where each half of the pair in use today was found."""

    batch_size_from: str | None
    learning_rate_from: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerDetails:
    """The hyperparameters of the optimizer that the advice depends on."""

    family: OptimizerFamily
    betas: tuple[float, float] | None = None
    momentum: float | None = None
    nesterov: bool = False
    weight_decay: float | None = None
    epsilon: float | None = None
    step: int | None = None
    """Optimizer steps taken so far, from the checkpoint's state."""
    state_loaded: bool = False
    dampening: float = 0.0
    """Share of each new gradient that SGD keeps out of its momentum."""
    signed: bool = False
    """It steps along the sign of its direction, as Lion does."""
    trust_ratios: bool = False
    """It rescales the step of every layer by the norm of its weights, as LAMB does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryRule:
    """How an optimizer divides the coordinates of the gradient, where what it has gathered is not known."""

    epsilon: float = 0.0
    """Added to the root of the second moments."""
    factored: bool = False
    """Second moments of a matrix are the product of those of its rows and columns."""
    averaging: float | None = None
    """Of an optimizer that takes the sign: variance of what it takes it of, over that of one gradient."""
    least_size: float | None = None
    """Steps are relative to the root mean square of a parameter, or to this; None: they are not."""
    relative_rates: Mapping[str, float] | None = None
    """Learning rate of each parameter over the main one; None: all have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetDescription:
    """What was measured: the section `target` of the report."""

    model: str
    parameters: int
    trainable_parameters: int
    checkpoint: str | None
    checkpoint_sha256: str | None
    example: str
    """What one example is: `example`, `image`, `sequence`, ..."""
    tokens_per_example: float | None
    anchor: Anchor
    dataset_size: int | None
    """Examples; None for a stream."""
    optimizer: str | None
    optimizer_details: OptimizerDetails | None
    batch_size: int | None
    learning_rate: float | None
    device: str
    dtype: str
    data_file: str | None = None
    """A file that the data was read from; None: it came from Python code."""
    data_sha256: str | None = None

    @property
    def trial_command(self) -> str:
        """What to type for a trial of the same weights."""
        weights = f" --checkpoint {shlex.quote(self.checkpoint)}" if self.checkpoint else ""
        return f"bsadvisor trial {shlex.quote(self.model)}{weights}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadNumber:
    """A number in the user's file that may be half of the pair in use, under a name that is not read."""

    name: str
    file: str
    value: float
    wanted: str
    """The name that would be read."""
    flag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """What was noticed while loading; `advise` turns it into findings."""

    checkpoint_wrapper: str | None = None
    """Key under which the weights were found, such as `model_state_dict`."""
    checkpoint_prefix: str | None = None
    """Prefix taken off every weight's name, such as `module.`."""
    optimizer_state: Literal["loaded", "missing", "mismatch", "not_needed"] = "not_needed"
    optimizer_state_problem: str | None = None
    learning_rate_now: float | None = None
    """The decayed learning rate, where the anchor is the peak that the schedule started from."""
    batch_size_assumed: bool = False
    """From `DataLoader.batch_size`: one device, no accumulation."""
    unread: tuple[UnreadNumber, ...] = ()
    num_devices: int | None = None
    """From `hardware.devices`."""
    clip_grad_norm: float | None = None
    loader_shuffles: bool | None = None
    """Whether the loader draws in random order; None when it cannot be told."""
    sampler: str | None = None
    """Class of a sampler that decides what is drawn (weighted, distributed, ...)."""
    frozen_parameters: tuple[str, ...] = ()
    tied_parameters: tuple[tuple[str, ...], ...] = ()
    """Names that share one tensor."""
    loss_from: str = ""
    """How the loss was found or inferred."""


# --- the probe ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondsPerPhase:
    """Wall-clock seconds; None for a part that did not run."""

    load: float | None = None
    gradient: float | None = None
    line_search: float | None = None
    dropout: float | None = None
    """Telling the noise of dropout and augmentation from that of the data."""
    curvature: float | None = None
    heldout: float | None = None
    hardware: float | None = None
    trial: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRun:
    """What was run: the section `probe` of the report."""

    examples: int
    micro_batch_size: int
    micro_batches: int
    stopped_by: StoppedBy
    seconds: float
    seconds_per_phase: SecondsPerPhase
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionFacts:
    """What was checked before a number was believed; `advise` turns it into findings."""

    loss_reduction: Literal["mean", "sum", "token_mean"] = "mean"
    coupling: Literal["none", "batch_norm", "other"] = "none"
    coupling_size: float | None = None
    """Relative change of the loss when examples change their batch mates."""
    repeatable: bool = True
    order_p_value: float | None = None
    """Probability of neighbouring micro-batches this alike if the loader shuffled."""
    single_class: int | None = None
    """The one class that every target in the probe has."""
    out_of_memory_at: tuple[int, ...] = ()
    """Micro-batch sizes that did not fit."""
    dropped_examples: int = 0
    """Examples of ragged batches that were left out."""
    curvature_problem: str | None = None
    """Why the curvature could not be measured."""
    curvature_by_differences: str | None = None
    """Why exact products with the Hessian were not used."""
    random_forward: bool = False
    """The loss of a batch changes when it is computed again with other random numbers."""
    augmented: bool = False
    """The same examples, fetched again, are other tensors."""
    dropout: tuple[KeepProbability, ...] = ()
    """Every call of a dropout function in a forward pass, by the module that makes it; each once."""
    dropout_problem: str | None = None
    """Why the noise of dropout and augmentation could not be told from that of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepProbability:
    """A place in the model that drops activations in training mode."""

    name: str
    """Of the module."""
    keep: float
    """Probability that a unit is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSums:
    """The probe's sufficient statistics: advice is recomputed from these.

    Micro-batch k has weight w_k (its examples, or its counted tokens) and gradient h_k. Consecutive
    micro-batches are pooled into J <= 64 blocks; `gram[i][j]` is the inner product of the blocks'
    sums of w_k h_k, from a sketch off the diagonal of large models.
    """

    micro_batches: tuple[int, ...]
    """Per block."""
    examples: tuple[int, ...]
    """Per block."""
    weight: tuple[float, ...]
    """Sum of w_k per block."""
    weight_squared: tuple[float, ...]
    """Sum of w_k^2 per block."""
    weighted_squared_norm: tuple[float, ...]
    """Sum of w_k |h_k|^2 per block."""
    weight_squared_squared_norm: tuple[float, ...]
    """Sum of w_k^2 |h_k|^2 per block."""
    total_squared_norm: float
    """|sum over all k of w_k h_k|^2, exact."""
    gram: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStats:
    """Gradient noise of one layer."""

    name: str
    squared_norm: Estimate
    noise_trace: Estimate
    noise_scale_simple: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNoise:
    """Variance of one optimizer update at the pair in use."""

    geometry: str
    """`gradient descent: eta^2 tr(Sigma) / B`, or the preconditioned one, named."""
    variance: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutRidge:
    """What dropout before a linear layer adds to the loss: a penalty on its weights that no batch size changes.

    For half the squared error of one output it is  strength_j w_j^2 / 2  summed over the features j, with
    strength_j = (1 - keep) / keep times E x_j^2; else to first order, times the loss's curvature in the output.
    """

    name: str
    """Of the linear layer."""
    keep: float
    strength: Estimate
    """Mean of strength_j over the features: what weight decay would have to be."""
    learning_rate_factor: Estimate
    """The layer's stable learning rate over that without dropout, where its inputs and outputs are independent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DropoutStats:
    """Where tr(Sigma) comes from: data, augmentation and dropout masks; traces are per example."""

    data_trace: Estimate
    """Of the examples, each averaged over its masks and augmentations."""
    mask_trace: Estimate | None
    """Of the masks, or of whatever else is random in the forward pass; null: nothing is. With masks that a
    batch shares, `micro_batch_size` times the variance of a micro-batch's gradient over them."""
    augmentation_trace: Estimate | None
    """Of the augmentation, averaged over masks; null: the same examples are the same tensors."""
    mask_share: Estimate | None
    """Of tr(Sigma)."""
    augmentation_share: Estimate | None
    masks: Literal["per_example", "shared", "unknown"] | None
    """Whether the examples of a batch share a mask, by `mask_sharing`."""
    mask_sharing: Estimate | None
    """Share of an example's mask noise that a copy of it in the same batch has, too: 0 to 1; null: not measured."""
    mask_floor: Estimate | None
    """Part of tr Var(g_B) that stays however large the batch: with masks of its own for each example, 0."""
    floor_batch_size: Estimate | None
    """Batch size at which the floor is half of the noise; only the low end where masks are not `shared`."""
    averaged_away: Estimate | None
    """Share of the mask noise at the batch size in use that falls as 1/B."""
    keep_probabilities: tuple[KeepProbability, ...]
    ridges: tuple[DropoutRidge, ...]
    """Of every linear layer whose input comes straight from dropout."""
    micro_batches: int
    micro_batch_size: int
    """On which traces were measured, each with two masks."""
    small_micro_batch_size: int | None
    """Of as many others, for the floor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where the D of the optimizer's own geometry came from."""

    source: Literal["state", "learning_rates", "probe"]
    """`learning_rates`: D is nothing but the rates of parameter groups, relative to the main one."""
    examples: int | None = None
    """That it was estimated from, and nothing else was; None: it was not estimated."""
    batch_size: int | None = None
    """At which second moments were estimated: that in use, as far as so many examples can tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalToNoise:
    """How coordinates of the gradient differ: shares of those that had any, of some picked at random."""

    batch_size: int
    """In use."""
    coordinates: int
    noise_dominated: Estimate
    """Noise variance at this batch size more than four times the squared mean."""
    signal_dominated: Estimate
    """Less than a quarter of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientStats:
    """The gradient and its noise: the section `gradient` of the report."""

    squared_norm: Estimate
    """|G|^2, unbiased, so it can be negative."""
    noise_trace: Estimate
    """tr(Sigma), per example."""
    noise_scale_simple: Estimate
    """B_simple = tr(Sigma) / |G|^2 for the population the data was drawn from, in examples."""
    noise_scale_training_set: Estimate | None
    """The same for this finite data set: 1 / (1 / B_simple + 1 / N)."""
    noise_scale: Estimate | None
    """B_noise = tr(H Sigma) / (G'HG); no value where the curvature along the gradient is not positive."""
    noise_scale_gauss_newton: Estimate | None = None
    """The same with the Gauss-Newton matrix for H, where B_noise is not defined."""
    noise_scale_preconditioned: Estimate | None
    """tr(D Sigma) / (G'DG) with the adaptive optimizer's preconditioner D."""
    squared_norm_preconditioned: Estimate | None = None
    """G'DG with a D that was not estimated."""
    geometry: Geometry | None = None
    """Of D; None: gradients are measured as they are."""
    signal_to_noise: SignalToNoise | None = None
    """Per coordinate, at the batch size in use."""
    effective_noise_dimensions: Estimate
    """tr(Sigma)^2 / tr(Sigma^2)."""
    update_noise: UpdateNoise | None
    raw: RawSums
    groups: tuple[GroupStats, ...]
    left_out: tuple[str, ...]
    """Trainable parameters that received no gradient."""
    dropout: DropoutStats | None = None
    """Null where nothing is random but the choice of examples."""
    examples_for_precision: int | None = None
    """Forecast of the examples that the asked precision takes; None once it is reached."""

    @property
    def own_noise_scale(self) -> Estimate:
        """The noise scale in the optimizer's geometry, where that was measured and resolved."""
        adaptive = self.noise_scale_preconditioned
        return self.noise_scale_simple if adaptive is None or adaptive.value is None else adaptive

    @property
    def own_squared_norm(self) -> Estimate:
        """|G|^2 in the optimizer's geometry, where it has one of its own."""
        return self.squared_norm_preconditioned or self.squared_norm


# --- curvature ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedPart:
    """A part of the curvature that the budget left out."""

    part: str
    seconds: float
    """Estimate of what it would have taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvatureStats:
    """The Hessian H at the checkpoint: the section `curvature` of the report."""

    along_gradient: Estimate | None
    """G'HG / |G|^2, or G'DHDG / G'DG along an adaptive optimizer's own direction."""
    along_noise: Estimate | None = None
    """tr(H Sigma) / tr(Sigma), or that of D^1/2 H D^1/2 and D^1/2 Sigma D^1/2: mean curvature along the noise."""
    lambda_max: Estimate | None
    """Largest eigenvalue: `value` and `low` on examples that did not choose the direction."""
    lambda_max_preconditioned: Estimate | None
    """Of D^1/2 H D^1/2 with the adaptive optimizer's D."""
    lambda_min: Estimate | None
    """Smallest eigenvalue: `value` and `high` on examples that did not choose the direction."""
    trace: Estimate | None
    """tr(H), or tr(D H) with an adaptive optimizer."""
    learning_rate_limit: Estimate | None
    """Largest stable learning rate of the optimizer in use, with its momentum, without gradient noise."""
    method: Literal["exact", "finite_differences"]
    """Double backward, or central differences of gradients."""
    direction_examples: int
    """Examples that directions were sought on."""
    certificate_examples: int
    """Other examples, on which everything else was measured."""
    iterations: int | None
    """Hessian-vector products of the Lanczos iteration."""
    residual: float | None
    """|Hv - lambda v| / |lambda| of the least converged direction, on the examples it was sought on."""
    skipped: tuple[SkippedPart, ...]

    @property
    def own_lambda_max(self) -> Estimate | None:
        """The largest eigenvalue in the optimizer's geometry, where it has one of its own."""
        return self.lambda_max_preconditioned or self.lambda_max


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortRun:
    """A few steps of training with the pair in use, taken back afterwards, and what the loss did meanwhile."""

    steps: int
    loss_drop: Estimate
    """Fall of the loss, each end at 99 % by itself."""
    kicked_loss_drop: Estimate
    """The same, against the checkpoint, when the run starts at the lowest point of the escape direction."""
    gain: Estimate
    """The second less the first, example by example: both runs saw the same batches."""
    widest_drop: Estimate
    """`loss_drop` where it was farthest from zero, of all looks so far."""
    lasting_gain: Estimate
    """The least `gain` of the latest looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EscapeDirection:
    """What was measured along the direction of most negative curvature, in the optimizer's geometry.

    A step of x moves the parameters by x D^1/2 v with |v| = 1 (D the identity for SGD).
    """

    curvature: Estimate
    """Second derivative of the loss along x, at `CERTIFICATE` confidence, one-sided at both ends.

    Its ends are its value where that is the mean over all examples.
    """
    parameter_curvature: Estimate
    """The same per unit length in the space of the parameters: bounds lambda_min from above."""
    gradient: Estimate
    """First derivative of the loss along x."""
    noise: float
    """Variance of one example's first derivative."""
    isotropic_noise: float
    """What `noise` would be if all directions had the same."""
    loss: float
    """At x = 0."""
    loss_drop: Estimate
    """Lowest loss along x against x = 0: chosen on half of the examples, measured on the other half."""
    escaped_drop: float | None
    """Fall of the loss that counts as having left: 5 % of it, or half of the lowest; None: no drop."""
    distance: float | None
    """x at which it is reached."""
    lowest_at: float | None
    """x, with its sign, of the lowest loss that was tried."""
    examples: int
    short_run: ShortRun | None = None
    """Whether the run leaves by itself; measured where the direction is worth leaving along."""
    hurried_run: ShortRun | None = None
    """The same at the largest learning rate that is stable with much momentum, at the look with the largest
    gain before the run without a kick left; measured where the short one is stuck with a kick as without."""


# --- local optimum ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPoint:
    """The best single step at one batch size; never a learning rate to train with."""

    batch_size: int
    learning_rate: Estimate
    loss_decrease: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalStats:
    """One step from here: the section `local` of the report."""

    direction: Literal["gradient", "optimizer"]
    loss: Estimate
    """Training loss at the checkpoint, on the examples on which steps are tried."""
    max_learning_rate: Estimate
    """The best single step with a noise-free gradient (B -> infinity), by steps along the measured one.

    No value where none of the steps that were tried was too long for it.
    """
    quadratic_max_learning_rate: Estimate | None
    """The same by the curvature alone: 1 / `curvature.along_gradient`."""
    curve: tuple[LocalPoint, ...]
    noise_scale: Estimate | None = None
    """eta_max tr(DHD Sigma) / G'DG: the batch size at which noise halves a quadratic's best step."""


# --- the trial ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Training runs of one batch size that start at the checkpoint and race to the target loss."""

    batch_size: int
    learning_rates: tuple[float, ...]
    """Each is run with each seed."""
    seeds: tuple[int, ...]
    target_loss: float | None
    """None: what the runs of `pace_setter` reach after `horizon` steps becomes the target."""
    pace_setter: float
    """A learning rate of this heat, which is not given up in favour of a higher one before the expected steps."""
    expected_steps: float
    """To the target, with it."""
    max_steps: int
    steps_to_beat: float | None = None
    """By the best learning rate before on the same data: who takes clearly longer is given up."""
    patience: float | None = None
    """Steps after which all end where the highest learning rate has left the others far behind, and is not there."""

    @property
    def expected_examples(self) -> float:
        """About as many as it will take."""
        return len(self.learning_rates) * len(self.seeds) * self.expected_steps * self.batch_size


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchResult:
    """How one training run of a heat ended."""

    learning_rate: float
    seed: int
    outcome: Literal["reached", "slower", "diverged", "out_of_reach"]
    steps: float | None
    """To the target; for a `slower` one, which was given up, an extrapolation where another one got there."""
    steps_taken: int
    final_log_loss: float | None
    """Logarithm of the last loss that was seen, where it was finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatResult:
    """What came out of a heat."""

    heat: Heat
    target_loss: float | None
    """None: the pace setter's loss did not go down by more than it wavers."""
    start_loss: float
    branches: tuple[BranchResult, ...]

    @property
    def examples(self) -> int:
        """Trained on."""
        return sum(branch.steps_taken for branch in self.branches) * self.heat.batch_size

    @property
    def was_cut_short(self) -> bool:
        """Whether runs ended before the most steps with nobody there: a yet higher learning rate may be, or none."""
        return any(
            run.outcome == "out_of_reach" and run.steps_taken < self.heat.max_steps for run in self.branches
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """What a trial would probably run: the section `trial_plan` of the report."""

    batch_sizes: tuple[int, ...]
    runs: int
    examples: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedRate:
    """One learning rate at one batch size of the trial."""

    learning_rate: float
    steps: float | None
    """Geometric mean over its seeds; null where one never got there."""
    seeds: int
    outcome: Literal["reached", "slower", "diverged", "out_of_reach"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint:
    """What training at one batch size took."""

    batch_size: int
    learning_rate: float
    """Of the runs that `steps` were counted in."""
    learning_rate_low: float | None
    """From here to `learning_rate_high` ten per cent more steps at most are expected."""
    learning_rate_high: float | None
    steps: Estimate
    examples: Estimate
    seeds: int
    at_edge: bool
    """The best learning rate was at the end of those tried: a better one may lie beyond."""
    tried: tuple[TriedRate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStats:
    """The trial: short training runs from the checkpoint, to one target loss."""

    measured_critical_batch_size: Estimate
    """B_crit of S(B) = S_min (1 + B_crit / B), fitted to the curve."""
    minimum_steps: Estimate
    minimum_examples: Estimate
    steps_in_use: float | None
    """To the target with the pair in use; null where that was too far from tuned to be run so far."""
    curve: tuple[TrialPoint, ...]
    residual: float | None
    """Root mean square of log(measured / fitted) steps."""
    fits: bool
    """Whether the hyperbola describes the points; if not, only these count."""
    start_loss: float
    target_loss: float | None
    """Null: the loss went down at no learning rate."""
    horizon: int | None
    """Steps after which the pace setter reaches the target; null: it was given."""
    evaluation_examples: int
    """On which losses were compared."""
    examples_used: int
    stopped_by: Literal["precision", "time", "max_examples", "interrupt"]
    notes: tuple[str, ...]
    """What was done otherwise than in the run itself."""


# --- held-out examples --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutFacts:
    """How the held-out data was compared with the training data; `advise` turns it into findings."""

    shared: float
    """Share of the held-out examples that are training examples, as far as that can be told."""
    compared: int | None = None
    """Held-out examples that were looked for in the training data; None: told by how both are put together."""
    looked_through: int | None = None
    """Training examples that they were looked for in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinking:
    """What smaller weights would do to either loss, at the size that serves held-out examples best."""

    factor: float
    """Of all trainable weights."""
    heldout_gain: Estimate
    """By so much the held-out loss falls."""
    train_gain: Estimate
    """The same of the training loss; negative where it rises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalization:
    """How the loss on held-out examples stands to that on training examples: the section of this name."""

    train_loss: Estimate
    """Mean over the training set."""
    heldout_loss: Estimate
    """Mean over what the held-out examples were drawn from."""
    gap: Estimate
    """Held-out loss minus training loss."""
    alignment: Estimate | None
    """G_t'G_v / |G_v|^2 of the training gradient G_t and the held-out one G_v: 1 where they agree."""
    self_share: Estimate | None
    """(tr(Sigma) / N) / (|G|^2 + tr(Sigma) / N): the share of the training gradient's squared norm that each of
    the N training examples owes to itself; above 1 where examples help only themselves."""
    verdict: GeneralizationVerdict | None
    """None: it cannot be told, or held-out examples are training examples."""
    train_growth: Estimate | None = None
    """d loss / d log c of the training loss, with all trainable weights multiplied by c, at c = 1."""
    heldout_growth: Estimate | None = None
    """The same of the held-out loss."""
    growth_gap: Estimate | None = None
    """`heldout_growth` minus `train_growth`."""
    shrinking: Shrinking | None = None
    """Where growing weights raises the held-out loss, above what it does to the training loss."""
    train_examples: int
    """On which the training loss was measured."""
    heldout_examples: int
    mode: Literal["eval", "train"]
    """Of the model when losses were measured: `train` where it has none in evaluation mode."""


# --- advice -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalBatchSize:
    """B_crit as predicted from the noise scale, with its sampling interval and its honest band."""

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    band_low: float | None
    band_high: float | None
    band_confidence: float
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRules:
    """What the two textbook rules say at this batch size (factors where no learning rate is known)."""

    square_root: float
    linear: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """One (batch size, learning rate) pair and what it would cost."""

    batch_size: int
    learning_rate: float | None
    learning_rate_factor: float | None
    """Against the learning rate in use today."""
    learning_rate_low: float | None
    learning_rate_high: float | None
    learning_rate_confidence: float | None
    """Level of the range: share of the stored errors of the rule that it holds."""
    other_rules: OtherRules | None
    role: Role | None
    """The batch size in use is marked `current` unless it also has one of the other roles."""
    current: bool
    basis: Basis
    rule: str
    steps_factor: float | None
    """Steps to the same loss, against the pair in use."""
    examples_factor: float | None
    steps_over_minimum: float
    """1 + B_crit / B."""
    examples_over_minimum: float
    """1 + B / B_crit."""
    relative_temperature: float | None
    """eta / (B (1 - beta)) against today's, with the same beta."""
    relative_update_noise: float | None
    """(eta^2 / B) against today's."""
    learning_rate_limit: float | None = None
    """Stability limit at this batch size; a learning rate equal to it was capped."""
    adam_betas: tuple[float, float] | None = None
    weight_decay: float | None = None
    micro_batch_size: int | None = None
    accumulation_steps: int | None = None
    devices: int | None = None
    seconds_per_step: float | None = None
    time_factor: float | None = None
    peak_memory_bytes: int | None = None
    escape_steps: float | None = None
    """Steps to leave the saddle with this pair; null where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSetting:
    """What one scaling rule sets at one batch size; None: what it leaves alone or cannot tell."""

    batch_size: int
    learning_rate: float | None
    learning_rate_factor: float | None
    """Against the learning rate in use today."""
    over_recommended: float | None
    """Its learning rate over the recommended one."""
    adam_betas: tuple[float, float] | None
    epsilon: float | None
    weight_decay: float | None
    valid: bool | None
    """Whether the rule holds between here and the batch size in use; None: that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleVerdict:
    """One named scaling rule: whether it holds for this optimizer and noise scale, and what it sets."""

    name: str
    """As in `bsadvisor explain NAME`."""
    valid: bool | None
    """At every batch size but today's, at none, or (None) at some of them or not known."""
    reason: str
    learning_rates: tuple[RuleSetting, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaddleVerdict:
    """Does the checkpoint sit at a saddle that the pair in use will not leave soon?"""

    verdict: Verdict
    curvature: Estimate | None
    """v'Hv / v'v of the escape direction, on examples that did not choose it."""
    escape_steps: float | None
    """Median number of steps to leave with the pair in use; null: it is not known, or never."""
    noise_share: float | None
    """Share of the escape that gradient noise starts; the rest is the gradient's own component."""
    loss_drop: Estimate | None
    gradient_steps: float | None
    """Steps in which following the gradient lowers the loss as much as leaving does."""
    examples_needed: int | None
    """Where the sample was too small for a certificate."""
    advice: str
    evidence: EscapeDirection | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Equilibrium:
    """Whether the measured noise scale tells of the task or of the run: the section `equilibrium` of the report."""

    noise_scale: Estimate
    """What it would be if the run had settled at its own noise: B tr(Sigma) / (eta c tr(H Sigma)), in examples."""
    ratio: Estimate
    """The measured one over it: the share of |G|^2 that the run's own noise makes; 1 in equilibrium."""
    batch_size: int
    learning_rate: float
    """Of the run's last steps."""
    verdict: EquilibriumVerdict
    """`run` where the ratio is surely above a half, `task` where it is surely below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The one line a person can copy."""

    action: Literal["use", "try", "keep", "none"]
    batch_size: int | None
    """The recommended pair, a row of `recommendations`."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that went otherwise than expected, and what to do."""

    code: str
    severity: Severity
    message: str
    remedy: str
    evidence: dict[str, Any] = field(default_factory=dict)


# --- the learning rate at another batch size ----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledPair:
    """The recommended pair at the batch size asked for."""

    batch_size: int
    learning_rate: float
    learning_rate_low: float | None
    learning_rate_high: float | None
    learning_rate_confidence: float | None
    """Share of the stored errors that the range holds; None for the span of the rules that may hold."""
    learning_rate_limit: float | None
    """Stability limit at this batch size."""
    capped: bool
    """Whether the rule asks for more than the limit, or than the learning rate in use above it."""
    basis: Basis
    rule: str
    """Name of the scaling rule, or `measured`."""
    reason: str
    adam_betas: tuple[float, float] | None
    weight_decay: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleAdvice:
    """The answer of `bsadvisor scale`: what its `--format json` prints."""

    schema_version: int
    bsadvisor_version: str
    command: str
    """`scale`."""
    optimizer: str | None
    optimizer_details: OptimizerDetails
    from_batch_size: int
    from_learning_rate: float
    noise_scale: Estimate | None
    """Of the report: in the optimizer's geometry where that is known."""
    regime: NoiseRegime | None
    recommended: ScaledPair
    scaling_rules: tuple[RuleVerdict, ...]
    notes: tuple[str, ...]


# --- a run, checkpoint after checkpoint ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedCheckpoint:
    """What a probe of one checkpoint of the run found."""

    checkpoint: str
    checkpoint_sha256: str
    step: int
    """Optimizer steps; where nobody says, its place in the order of names."""
    step_from: StepSource
    learning_rate: float | None
    """As a schedule had made it by then; None: not known."""
    loss: Estimate | None
    """Training loss, in evaluation mode."""
    heldout_loss: Estimate | None
    noise_scale_simple: Estimate
    noise_scale_preconditioned: Estimate | None
    """In an adaptive optimizer's geometry."""
    update_variance: float | None
    """eta^2 tr(Sigma) / B with the pair in use; tr(D Sigma) with an adaptive optimizer's D."""
    examples: int
    seconds: float


LossSource = Literal["heldout", "train"]
"""Examples that a loss is of."""

NoiseSource = Literal["averaged_weights", "gradients"]
"""`averaged_weights`: measured, by what the loss falls by at the mean of several checkpoints' weights;
`gradients`: predicted, from the noise of the last checkpoint's gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightAverage:
    """The run's last checkpoints, and their weights averaged: most of the noise in the weights averages away."""

    checkpoints: int
    from_step: int
    """Of the first of them."""
    loss: float
    """At the average of their weights."""
    mean_loss: float
    """Of these checkpoints, on the same examples."""
    loss_of: LossSource
    mode: Literal["eval", "train"]
    """Of the model: `train` with BatchNorm, whose running statistics are not those of the averaged weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseTrend:
    """The noise scale as a power law of steps or of the loss, over all checkpoints."""

    against: Literal["step", "loss"]
    noise_scale: Literal["simple", "preconditioned"]
    exponent: Estimate
    """p in Bn ~ x^p."""
    growth: Estimate
    """Fitted Bn at the last checkpoint over that at the first."""
    last: float
    """Fitted Bn at the last checkpoint, in examples."""
    scatter: float
    """Standard deviation of ln Bn about the law, beyond the errors of measurement."""
    checkpoints: int
    verdict: TrendVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RampStage:
    """From one switch of the batch size to the next."""

    from_step: int
    batch_size: int
    learning_rate_factor: float
    """Of the learning rate that the run would have at this point without the ramp."""
    learning_rate: float | None
    """The same, where the peak is known and nothing else changes it."""
    adam_betas: tuple[float, float] | None
    from_example: int
    decay_from_step: int
    """Instead of the switch, at the batch size in use: from this step ..."""
    decay_factor: float
    """... the learning rate times this: the same noise, example for example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RampSummary:
    """What the ramp does to a run of the same number of examples."""

    examples: int
    steps: int
    steps_now: int
    """With the batch size in use throughout."""
    mean_batch_size: float
    """Examples over steps."""
    noise_loss: float
    """How much of the loss at the end is noise in the weights, without the ramp."""
    noise_from: NoiseSource
    loss_of: LossSource
    """Whose loss, here and below."""
    loss_change: Estimate
    """Of the loss at the end, against the batch size in use throughout: predicted. The interval is of how the
    losses scatter, and not of how far the prediction itself is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureAgain:
    """When the next checkpoint is worth a look."""

    at_step: int | None
    at_loss: float | None
    basis: Literal["measured", "assumed"]
    """Whether the run's own trend says so, or what was published of other runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackReport:
    """The answer of `bsadvisor track`: what its `--format json` prints."""

    schema_version: int
    bsadvisor_version: str
    command: str
    """`track`."""
    target: TargetDescription
    """With the last checkpoint."""
    seed: int
    seconds: float
    checkpoints: tuple[TrackedCheckpoint, ...]
    """In the order of their steps."""
    weight_average: WeightAverage | None
    """None where too few checkpoints are of the second half of the run, or steps are not known."""
    trends: tuple[NoiseTrend, ...]
    ramp: tuple[RampStage, ...]
    """For a run of the same number of examples; empty where none is advised."""
    ramp_reason: str
    ramp_summary: RampSummary | None
    """Also of a ramp that was looked at and is not advised."""
    measure_again: MeasureAgain | None
    findings: tuple[Finding, ...]


# --- the check ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Who set a number, and where."""

    by: str
    """`--lr`, `bsadvisor.yaml`, `LEARNING_RATE in model.py`, `checkpoint`, ..."""
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedPair:
    """A batch size and a learning rate, each with who set it."""

    batch_size: int | None = None
    batch_size_from: Source | None = None
    learning_rate: float | None = None
    learning_rate_from: Source | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRule:
    """A rule that is on."""

    name: RuleName
    value: float | str | None
    """The most that is allowed; `range` or `limit` for the learning rate; None for memory."""
    severity: RuleSeverity
    source: Source | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRequest:
    """What is judged, and by which rules."""

    pair: SourcedPair
    """What flags and YAML say; a half that they leave out is None."""
    rules: tuple[CheckRule, ...]
    fail_on: RuleSeverity


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A number with the ends that interval and band leave possible; None: no such end."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassingRange:
    """Values of a setting that would pass."""

    setting: Literal["batch_size", "learning_rate"]
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What became of one rule."""

    rule: RuleName
    code: str
    """For `bsadvisor explain`."""
    severity: RuleSeverity
    message: str
    """What was measured and what was asked; or why it cannot be told."""
    remedy: str
    """What would pass; or what would make it known."""
    measured: Reach | None = None
    asked: float | None = None
    """The most that is allowed; for the learning rate, the one that is judged."""
    passes: PassingRange | None = None
    source: Source | None = None
    """Of the setting that the rule is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a pair was judged: the section `check` of the report, beside `verdict` and `violations`."""

    pair: SourcedPair
    """The pair judged."""
    anchor: SourcedPair | None
    """What the learning rate was judged from; None: nothing that is independent of the pair judged."""
    passed: tuple[RuleResult, ...]
    unknown: tuple[RuleResult, ...]
    fail_on: RuleSeverity
    checkpoint: FileState | None = None
    """Since a saved report was made; None: it was made just now, or without one."""
    data: FileState | None = None
    """The same of the file that the data was read from."""


# --- the self test ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestResult:
    """One known answer beside what the measuring code found."""

    name: str
    quantity: str
    truth: float
    estimate: Estimate
    passed: bool


# --- the report ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one run found: what `--format json` prints."""

    schema_version: int
    bsadvisor_version: str
    command: str
    """`probe`."""
    target: TargetDescription
    probe: ProbeRun
    gradient: GradientStats
    local: LocalStats | None
    predicted_critical_batch_size: CriticalBatchSize
    headline: Headline
    recommendations: tuple[Recommendation, ...]
    findings: tuple[Finding, ...]
    curvature: CurvatureStats | None = None
    trial: TrialStats | None = None
    trial_plan: TrialPlan | None = None
    """Of a trial that was asked for, or that would not have fitted into the time."""
    saddle: SaddleVerdict | None = None
    regime: NoiseRegime | None = None
    """Of the batch size in use, in the optimizer's geometry; null where it cannot be told."""
    equilibrium: Equilibrium | None = None
    """Null without curvature, and where the pair in use or the optimizer's geometry is not known."""
    generalization: Generalization | None = None
    hardware: None = None
    scaling_rules: tuple[RuleVerdict, ...] = ()
    """Every named rule at every recommended batch size."""
    verdict: CheckVerdict | None = None
    """Of `check`: `fail` where a violation is at least as severe as `fail_on`."""
    violations: tuple[RuleResult, ...] | None = None
    check: Judgement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckError:
    """Why a target could not be judged."""

    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTarget:
    """One of the targets of a `check`: its report, or why there is none."""

    name: str
    """As typed."""
    exit_code: int
    report: Report | None
    error: CheckError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSummary:
    """Several targets, judged in one call: what `check --format json` prints for more than one."""

    schema_version: int
    bsadvisor_version: str
    command: str
    """`check`."""
    verdict: CheckVerdict
    """`fail` where one fails, else `unknown` where one is not known, else `pass`."""
    exit_code: int
    """The worst of the targets' exit codes: 2, 4, 3, 5, 0 in this order."""
    targets: tuple[CheckedTarget, ...]
