"""Every value that crosses a border between rooms, in the order in which it flows.

    TargetRequest -> TargetDescription, TargetFacts -> ProbeRun, AssumptionFacts, GradientStats,
    CurvatureStats, EscapeDirection, LocalStats -> CriticalBatchSize, Recommendation, SaddleVerdict,
    Headline, Finding -> Report

A `Report` is the JSON report: its field names are the JSON keys, in the order of the file. `None` is
JSON `null`: a part that was not measured, an estimate that was not resolved, a bound that does not
exist. No NaN and no infinity ever stands in one of these values.

Batch sizes are in examples (what the loader shuffles: an image, a row, a sequence).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1

Severity = Literal["info", "note", "warning", "error"]
StoppedBy = Literal["precision", "max_examples", "time", "data", "interrupt"]
Role = Literal["current", "efficient", "balanced", "largest_useful", "fastest", "cheapest"]
Basis = Literal["predicted", "measured"]
OptimizerFamily = Literal["sgd", "adam", "other"]
Verdict = Literal["none", "note", "possible", "warning", "unresolved"]


# --- what the user asks for ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRequest:
    """Where the model, data and settings are, as typed: each `None` is looked for elsewhere."""

    target: str | None = None
    """`FILE.py`, `FILE.py:NAME`, or None when the YAML names the model."""
    config: str | None = None
    checkpoint: str | None = None
    data: str | None = None
    """`FILE.py:NAME` of the training data."""
    loss: str | None = None
    """`FILE.py:NAME`, `cross_entropy` or `mse`."""
    optimizer: str | None = None
    """Name of a `torch.optim` class, any case."""
    batch_size: int | None = None
    """Examples per optimizer step in use today, over all devices and accumulation steps."""
    learning_rate: float | None = None
    device: str | None = None
    dtype: str | None = None
    trust_checkpoint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How long and how precisely to measure."""

    precision: float = 0.5
    """Stop when (high - low) / (2 value) of `noise_scale_simple` is below this."""
    time_budget: float = 60.0
    """Seconds."""
    max_examples: int | None = None
    micro_batch: int | None = None
    """Examples per gradient; None: chosen from the data, the batch size and the device."""
    confidence: float = 0.95
    curvature: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step forward, told to whoever draws a bar."""

    phase: str
    done: int
    """Examples."""
    total: int | None
    """Examples expected now; grows when another round is added."""
    noise_scale: Estimate | None = None


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
    curvature: float | None = None
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
    """G'DG."""
    effective_noise_dimensions: Estimate
    """tr(Sigma)^2 / tr(Sigma^2)."""
    update_noise: UpdateNoise | None
    raw: RawSums
    groups: tuple[GroupStats, ...]
    left_out: tuple[str, ...]
    """Trainable parameters that received no gradient."""
    dropout: None = None
    examples_for_precision: int | None = None
    """Forecast of the examples that the asked precision takes; None once it is reached."""

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
    """A few steps of training with the pair in use, taken back afterwards."""

    steps: int
    loss_drop: Estimate
    """Fall of the loss, each end at 99 % by itself."""
    kicked_loss_drop: Estimate
    """The same, against the checkpoint, when the run starts at the lowest point of the escape direction."""
    gain: Estimate
    """The second less the first, example by example: both runs saw the same batches."""


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
    long_run: ShortRun | None = None
    """The same over more steps; measured where the short one is stuck with a kick as without one."""


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
    """(eta / B) against today's."""
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
    trial: None = None
    saddle: SaddleVerdict | None = None
    generalization: None = None
    hardware: None = None
