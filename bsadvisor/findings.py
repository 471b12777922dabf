"""The closed catalogue of what a report may remark: code, severity, sentence, remedy, explanation.

BSA1xx target, 2xx measurement, 3xx advice, 4xx saddle, 5xx hardware, 6xx generalization.
`message` and `remedy` are templates; the values that fill them become the finding's evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bsadvisor.values import Finding, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of the catalogue."""

    code: str
    severity: Severity
    title: str
    message: str
    remedy: str
    explanation: str
    """How it was decided and why it matters: what `bsadvisor explain CODE` prints."""


def finding(code: str, **evidence: Any) -> Finding:
    """The finding `code` with its templates filled from `evidence`."""
    from bsadvisor.values import Finding

    rule = CATALOGUE[code]
    return Finding(
        code=code,
        severity=rule.severity,
        message=rule.message.format(**evidence),
        remedy=rule.remedy.format(**evidence),
        evidence=evidence,
    )


_RULES = (
    # --- 1xx: the target ---
    Rule(
        code="BSA101",
        severity="warning",
        title="Measured at initial weights",
        message="no checkpoint: measured at the weights that the file built",
        remedy="give --checkpoint FILE from the run you want advice for",
        explanation=(
            "At initial weights noise scales are typically many times below those of the run, so no "
            "headline recommends a change from them. The table and the noise scales are printed all "
            "the same. If the file loads trained weights by itself, pass them with --checkpoint."
        ),
    ),
    Rule(
        code="BSA102",
        severity="info",
        title="The learning rate had decayed",
        message="the schedule has brought the learning rate to {now:.3g}; the pair is stated for its peak {peak:.3g}",
        remedy="to anchor on another learning rate, pass --lr",
        explanation=(
            "A schedule that stores `initial_lr` has changed `lr` since. The pair that a person sets "
            "is the peak, so recommendations are anchored on it; the decayed value is named here."
        ),
    ),
    Rule(
        code="BSA103",
        severity="note",
        title="The batch size in use was assumed",
        message="B = {batch_size} is assumed from DataLoader.batch_size: one device, no accumulation",
        remedy="set BATCH_SIZE in the file or pass --batch-size with the examples per optimizer step",
        explanation=(
            "The batch size that the advice starts from is the number of examples per optimizer step, "
            "over all devices and accumulation steps. A DataLoader knows only one device's share."
        ),
    ),
    Rule(
        code="BSA104",
        severity="warning",
        title="No learning rate found",
        message="no learning rate was found: the table gives factors, not learning rates",
        remedy="set LEARNING_RATE in the file or pass --lr with the one you train with",
        explanation=(
            "The anchor is looked for in flags, YAML, module constants, the optimizer and the "
            "checkpoint. A learning rate for training cannot be read off a gradient: the best single "
            "step is six times too small on average, so none is invented here."
        ),
    ),
    Rule(
        code="BSA105",
        severity="info",
        title="Weights were unwrapped",
        message="weights taken from {where}",
        remedy="nothing to do if these are the weights you meant",
        explanation=(
            "Checkpoints often wrap the weights in a dictionary or prefix their names (DDP, "
            "torch.compile). What was taken off is named so that a wrong guess can be seen."
        ),
    ),
    Rule(
        code="BSA106",
        severity="note",
        title="No optimizer state",
        message="{optimizer}: no optimizer state in the checkpoint, so its geometry was not measured",
        remedy="save optimizer.state_dict() with the weights",
        explanation=(
            "An adaptive optimizer rescales every coordinate of the gradient, and the noise that it "
            "feels is measured with the second moments it has gathered. Without them they are estimated from "
            "some of the probe's examples; where there are too few of those, the noise scale is the Euclidean one."
        ),
    ),
    Rule(
        code="BSA107",
        severity="warning",
        title="Optimizer state does not match",
        message="the checkpoint's optimizer state does not match the model: {problem}",
        remedy="define `optimizer(params)` in the file with the same parameter groups as the run",
        explanation=(
            "Optimizer state is stored by parameter number. With several groups the order can only be "
            "reproduced by the code that built the optimizer."
        ),
    ),
    Rule(
        code="BSA108",
        severity="warning",
        title="No batch size found",
        message="no batch size in use was found: steps and examples are given over their minimum only",
        remedy="set BATCH_SIZE in the file or pass --batch-size",
        explanation=(
            "Recommendations start from the pair in use. Without a batch size nothing can be said "
            "relative to today, and no learning rate can be carried to another batch size."
        ),
    ),
    Rule(
        code="BSA109",
        severity="info",
        title="A sampler decides what is drawn",
        message="examples are drawn by the loader's {sampler}",
        remedy="nothing to do if training uses the same sampler",
        explanation=(
            "The noise of a training step is that of the examples the sampler draws, so the probe "
            "draws through it and not uniformly from the data set."
        ),
    ),
    Rule(
        code="BSA110",
        severity="warning",
        title="The loader does not shuffle",
        message="the DataLoader reads its data set in order; the probe drew at random",
        remedy="train with shuffle=True, or the advice does not describe your run",
        explanation=(
            "Noise scales describe batches of independent examples. A loader with shuffle=False "
            "yields the same batches in the same order each epoch, whose noise can be far larger."
        ),
    ),
    Rule(
        code="BSA111",
        severity="note",
        title="No optimizer found",
        message="no optimizer was found: learning rates are carried over by the rule for SGD, assumed",
        remedy="define `optimizer(params)` in the file, or pass --optimizer with its name",
        explanation=(
            "The best learning rate at another batch size rises more steeply for Adam-like optimizers "
            "(power 0.75 of the gain) than for SGD (0.5). Without an optimizer in the file, YAML, flags "
            "or checkpoint, SGD's rule is used."
        ),
    ),
    Rule(
        code="BSA112",
        severity="note",
        title="A number under a name that is not read",
        message="{name} = {value} in {file} is not read, for only {wanted} is",
        remedy="if it is what you train with, pass {flag} {value} or rename it {wanted}",
        explanation=(
            "Only BATCH_SIZE and LEARNING_RATE, spelled so, are taken from the file as the pair in use: "
            "a lower-case name may be anything. It is pointed out where nothing else gives the number."
        ),
    ),
    Rule(
        code="BSA113",
        severity="note",
        title="The optimizer is not known",
        message="{optimizer} is not known here: treated as Euclidean, like SGD",
        remedy="if it does what a known one does, name that with --optimizer",
        explanation=(
            "An optimizer is recognised by its name or by what it keeps in its state (`exp_avg_sq`, "
            "`square_avg`, row and column factors and the like, and nothing unfamiliar beside them). Of any "
            "other it is not known what it does to the gradient: noise is measured without scaling, learning "
            "rates are carried over by the rule for SGD, and no stability limit is given."
        ),
    ),
    Rule(
        code="BSA114",
        severity="info",
        title="The optimizer's geometry was estimated",
        message="{optimizer}, {why}: its geometry was estimated from {examples:,} examples, as at B = {batch_size:,}",
        remedy="{advice}",
        explanation=(
            "What an adaptive optimizer divides each coordinate by is, once it has settled, the root of mu^2 + "
            "sigma^2 / B with the coordinate's mean gradient mu and its variance sigma^2. Both are estimated from "
            "examples that no other number is made of: a gradient that is weighed by its own size would count for "
            "less. Lion and other optimizers that step along a sign keep no second moments; the sign's expected "
            "value divides in the same way. B is the batch size in use, as far as so many examples can tell. The "
            "stability limit and the saddle verdict are left without it: these depend on its absolute size."
        ),
    ),
    Rule(
        code="BSA115",
        severity="note",
        title="Layers are rescaled by trust ratios",
        message="{optimizer} rescales the step of every layer by a trust ratio, which is left out here",
        remedy="read noise scales as those of the same optimizer without it; `bsadvisor trial` measures the real one",
        explanation=(
            "LARS and LAMB multiply the step of every layer by the norm of its weights over that of its update. "
            "The second norm holds gradient noise and changes with the batch size, so it is no part of a fixed "
            "geometry: noise is measured with what the optimizer does to each coordinate before, and no "
            "stability limit is given."
        ),
    ),
    # --- 2xx: the measurement ---
    Rule(
        code="BSA201",
        severity="warning",
        title="The loss is a sum",
        message="the loss adds up over examples; it was divided by their number",
        remedy="return the mean; or keep the sum and multiply each learning rate of the table by today's B / B",
        explanation=(
            "Decided by comparing the gradient of a small batch with those of its two halves: for a "
            "mean it is half of their sum, for a sum all of it. With a summed loss the step grows with B by "
            "itself, so a learning rate belongs to one batch size; the table's are those of the mean."
        ),
    ),
    Rule(
        code="BSA202",
        severity="info",
        title="The loss averages over tokens",
        message="the loss averages over unmasked tokens: micro-batches are weighted by them",
        remedy="nothing to do; B is given in examples and in tokens",
        explanation=(
            "Label masks (-100) were found and the loss of a batch equals the token-weighted mean of "
            "the losses of its halves. A batch with more tokens then carries more of the gradient."
        ),
    ),
    Rule(
        code="BSA203",
        severity="note",
        title="BatchNorm couples examples",
        message="BatchNorm couples the examples of a batch: measured in micro-batches of {micro_batch}",
        remedy="pass --micro-batch with the batch size one device normalises over",
        explanation=(
            "With BatchNorm in training mode an example's gradient depends on its batch mates. The "
            "bias of |G|^2 was 7.5 % at micro-batches of 8, 1.2 % at 32 and 0.15 % at 128, so the "
            "micro-batch is raised to what one device really sees, as far as the data allows."
        ),
    ),
    Rule(
        code="BSA204",
        severity="warning",
        title="The loss couples the examples of a batch",
        message="an example's loss changes with its batch mates (by {size:.2g}, relative)",
        remedy="read the noise scale as that of micro-batches of {micro_batch}; set --micro-batch to a device's batch",
        explanation=(
            "Decided by letting examples change partners at equal batch size: for a sum of separate "
            "losses the total stays the same. Contrastive losses and batch statistics change it, and "
            "their gradient noise does not fall as 1/B."
        ),
    ),
    Rule(
        code="BSA205",
        severity="warning",
        title="The data is not shuffled",
        message="neighbouring micro-batches are too alike for shuffled data (p = {p_value:.1g})",
        remedy="shuffle the data before it is batched: until then the noise scale is biased",
        explanation=(
            "The inner products of neighbouring micro-batch gradients are compared with those of all "
            "pairs, over random orders. Alike neighbours mean sorted or grouped data."
        ),
    ),
    Rule(
        code="BSA206",
        severity="note",
        title="The forward pass is not repeatable",
        message="the same batch with the same seed gave another loss",
        remedy="draw random numbers from torch, numpy or random, seeded; expect last digits to differ",
        explanation=(
            "The loss was computed twice with all generators in the same state. Non-deterministic "
            "kernels and private generators make the two differ; estimates stay valid, repeats differ."
        ),
    ),
    Rule(
        code="BSA207",
        severity="note",
        title="Parameters without a gradient",
        message="{count} trainable parameter tensors received no gradient: {names}",
        remedy="freeze or remove them if that is meant; else the model does not use them",
        explanation=(
            "They are in the model and require a gradient, but the loss does not depend on them. They "
            "are left out of every number."
        ),
    ),
    Rule(
        code="BSA208",
        severity="info",
        title="Frozen parameters",
        message="{count} parameter tensors are frozen and left out",
        remedy="nothing to do if training freezes them too",
        explanation="Only parameters that require a gradient are measured, as in training.",
    ),
    Rule(
        code="BSA209",
        severity="info",
        title="Tied parameters",
        message="tied parameters are counted once: {names}",
        remedy="nothing to do",
        explanation="Two names share one tensor; its gradient is the sum over both uses.",
    ),
    Rule(
        code="BSA210",
        severity="note",
        title="The interval is wider than asked",
        message="less precise than asked after {examples:,} examples (stopped by {stopped_by}); about {needed} would do",
        remedy="{advice}",
        explanation=(
            "A probe must hold about as many examples as its answer. The forecast extrapolates the "
            "two parts of the variance, one falling as 1/n and one as 1/n^2."
        ),
    ),
    Rule(
        code="BSA211",
        severity="warning",
        title="The noise scale has no upper end yet",
        message="{examples:,} examples cannot bound the noise scale from above: it is at least {low:,.0f}",
        remedy="{advice}",
        explanation=(
            "The interval of |G|^2 / tr(Sigma) reaches zero: these examples cannot tell the gradient "
            "from noise with confidence. Below the lower bound the table holds; above it, nothing is "
            "known, and no change of batch size is recommended."
        ),
    ),
    Rule(
        code="BSA212",
        severity="warning",
        title="The gradient was not resolved",
        message="the gradient could not be told from noise with {examples:,} examples",
        remedy="{advice}",
        explanation=(
            "The unbiased estimate of |G|^2 is not positive. Near convergence, or on memorised data, "
            "this is expected: the mean gradient is far smaller than the noise. Only a lower bound "
            "of the noise scale can be given."
        ),
    ),
    Rule(
        code="BSA213",
        severity="error",
        title="The gradient is exactly zero",
        message="every gradient is exactly zero: there is nothing to measure",
        remedy="check for dead units, a saturated loss, or a loss that does not use the model",
        explanation="Both |G|^2 and tr(Sigma) are zero, so their ratio does not exist.",
    ),
    Rule(
        code="BSA214",
        severity="info",
        title="Ragged batches were left out",
        message="{dropped} examples of ragged last batches were left out",
        remedy="nothing to do",
        explanation="Micro-batches must be of equal size for the estimators to be unbiased.",
    ),
    Rule(
        code="BSA215",
        severity="note",
        title="Out of memory",
        message="micro-batches of {sizes} did not fit in memory; measured with {micro_batch}",
        remedy="pass --micro-batch {micro_batch} to skip the failed tries",
        explanation=(
            "The micro-batch was halved until it ran. Statistics do not depend on it as long as "
            "there are at least 16 micro-batches."
        ),
    ),
    Rule(
        code="BSA216",
        severity="warning",
        title="The data holds one class",
        message="every target in the probe is class {label}",
        remedy="check the data and its order; a model learns nothing from one class",
        explanation="All integer targets that were drawn are equal.",
    ),
    Rule(
        code="BSA217",
        severity="note",
        title="No best step was found",
        message="the loss does not fall along the {direction} direction at any step that was tried",
        remedy="nothing to set: the local section of the report is empty",
        explanation=(
            "Steps from tiny to huge were tried, less what their examples owe to having made the direction. At "
            "convergence, or where the gradient is not resolved, none lowers the loss."
        ),
    ),
    Rule(
        code="BSA218",
        severity="warning",
        title="Interrupted",
        message="interrupted after {examples:,} examples: this report is partial",
        remedy="{advice}",
        explanation="What had been measured by then is in the report, with its wider interval.",
    ),
    Rule(
        code="BSA219",
        severity="note",
        title="The curvature was not measured",
        message="no second derivative of this model could be had: {problem}",
        remedy="nothing else depends on it; --no-curvature skips the try",
        explanation=(
            "B_noise, the stability limit and the saddle verdict need products of the Hessian with "
            "vectors, in float32 at least. They are taken by differentiating twice, or by differences of "
            "gradients where that is impossible; here neither worked."
        ),
    ),
    Rule(
        code="BSA220",
        severity="info",
        title="Curvature by finite differences",
        message="second derivatives were taken by differences of gradients: {reason}",
        remedy="nothing to do; a backward that can be differentiated again makes them exact",
        explanation=(
            "Exact products of the Hessian with vectors differentiate the gradient once more. Custom "
            "functions and fused kernels may refuse that, or leave a part of it out; exact products are "
            "therefore compared with differences of gradients on a few examples first."
        ),
    ),
    Rule(
        code="BSA223",
        severity="note",
        title="The noise scale is that of the run, not of the task",
        message="the run has settled at its own noise: η = {learning_rate:.2g} with B = {batch_size:,} alone leaves B_simple near {own:,.0f}",
        remedy="lower the learning rate or raise the batch size, and measure again: little else lowers the loss here",
        explanation=(
            "A run that has settled is held up by its own noise: its weights jitter around the optimum, and what is "
            "left of |G|^2 is that jitter's restoring force, eta c tr(H Sigma) / B on a quadratic (c = 1/2, and "
            "1 / (2 (1 - beta)) with momentum). B_simple is then B tr(Sigma) / (eta c tr(H Sigma)) whatever the "
            "task, and changes as soon as eta or B does. The measured noise scale is compared with that, both in "
            "the optimizer's geometry: this is said where the run's own noise makes surely more than half of |G|^2. "
            "`equilibrium.ratio` in the report is that share; a run on its way has much less, and one whose learning "
            "rate has just been raised can have more than all of it."
        ),
    ),
    Rule(
        code="BSA230",
        severity="note",
        title="Most of the gradient noise is dropout's",
        message="{share:.0%} of the gradient noise is that of dropout masks, not of the data",
        remedy="a lower dropout rate asks for smaller batches: at this gradient, about {factor:.2g}x without any",
        explanation=(
            "The same micro-batches were measured under two masks each. Their difference is the masks' part "
            "of tr(Sigma); what is left is that of the data. Masks that are drawn for each example average "
            "away as 1/B like the data does, so both count in the noise scale. Dropout is also a regularizer, "
            "which is a reason of its own for a rate, and no batch size replaces it."
        ),
    ),
    Rule(
        code="BSA231",
        severity="warning",
        title="Dropout masks are shared by a batch",
        message="masks are shared by a batch, so a part of the noise does not fall with B: {where}",
        remedy="draw a mask for each example; or split the batch: each pass of an accumulation has masks of its own",
        explanation=(
            "A batch of copies of one example was measured under two masks, and so was the example alone. Where "
            "every example has masks of its own the copies average them; where one mask serves the whole batch "
            "(dropped weights or layers, a mask broadcast over examples) they do not. How large the part is "
            "that stays comes from the variance of micro-batches of two sizes. The noise scale is then that of "
            "micro-batches of the size measured, and the steps of large batches are optimistic. Certain to "
            "99.9 %."
        ),
    ),
    Rule(
        code="BSA232",
        severity="warning",
        title="Dropout that drops everything",
        message="dropout with a rate of 1 in {names}: nothing gets through",
        remedy="give it a rate below 1; a rate is the probability to drop, not to keep",
        explanation=(
            "Every forward pass calls dropout with p = 1, which sets all of its input to zero: what comes "
            "before gets no gradient from there."
        ),
    ),
    Rule(
        code="BSA233",
        severity="info",
        title="What another batch size does to dropout",
        message="B = {batch_size:,} at η = {learning_rate:.2g}: dropout's noise in the weights times {noise:.2g}, its ridge as now",
        remedy="nothing to do; if dropout's noise is what regularizes, keep η / B",
        explanation=(
            "Dropout does two things. On average over masks it penalizes weights like a ridge, with a strength "
            "that depends on rate and inputs alone, on neither learning rate nor batch size. And its masks "
            "shake the weights, with a variance proportional to eta / B as all gradient noise. Raising B alone "
            "removes from the second and leaves the first; raising eta with it in proportion leaves both."
        ),
    ),
    Rule(
        code="BSA234",
        severity="note",
        title="Most of the gradient noise is the augmentation's",
        message="{share:.0%} of the gradient noise is that of augmentation, not of the examples",
        remedy="nothing to do: it falls with B as the rest; the data set is larger than its number of examples says",
        explanation=(
            "The same examples were fetched twice and came with other numbers. The difference of their gradients "
            "is the augmentation's part of tr(Sigma). It does not vanish when all examples are in a batch, so "
            "the noise scale of the finite training set is an underestimate."
        ),
    ),
    Rule(
        code="BSA235",
        severity="note",
        title="Dropout was not told from data",
        message="how much of the noise is dropout's or augmentation's was not measured: {reason}",
        remedy="nothing else depends on it: the noise scale has both in it; a longer --time-budget may do",
        explanation=(
            "Some micro-batches have to be measured again under other masks or augmentations. That is done in "
            "no more time than the gradient took, within the time budget, and where two gradients fit in memory."
        ),
    ),
    Rule(
        code="BSA221",
        severity="note",
        title="The noise scale in the optimizer's geometry was not resolved",
        message="the noise scale in {optimizer}'s geometry was not resolved: rules use B_simple instead",
        remedy="give it more examples with --time-budget and --max-examples",
        explanation=(
            "Learning rates are carried over with the noise scale tr(D Sigma) / (G'DG) of the optimizer's own "
            "geometry D. D is largest where gradients are small, so that this is often less certain than B_simple. "
            "Where its estimate is not positive, B_simple stands in, which can be far from it."
        ),
    ),
    # --- 3xx: the advice ---
    Rule(
        code="BSA301",
        severity="note",
        title="The ladder ends at the data set",
        message="batch sizes above the {dataset_size:,} examples of the data set were left out",
        remedy="nothing to do",
        explanation="A batch larger than the data set would repeat examples within one step.",
    ),
    Rule(
        code="BSA302",
        severity="note",
        title="Today's batch size is outside the band",
        message="B = {batch_size:,} is outside the 80 % band {band_low:,.0f} … {band_high:,.0f} of the critical batch size",
        remedy="see the table: {advice}",
        explanation=(
            "Even with the honest error of predicting the critical batch size from one checkpoint, "
            "this batch size is on the wasteful side: far below it, steps are wasted; far above it, "
            "examples are."
        ),
    ),
    Rule(
        code="BSA303",
        severity="info",
        title="How often clipping acts",
        message="at B = {batch_size:,} the gradient norm exceeds {clip:g} on about {share:.0%} of steps",
        remedy="a changed batch size changes this share: clipping then acts as a smaller learning rate",
        explanation=(
            "From the mean |G|^2 + tr(Sigma) / B and spread of the squared norm of a batch gradient, "
            "by a Gaussian approximation."
        ),
    ),
    Rule(
        code="BSA304",
        severity="note",
        title="Learning rates were capped",
        message="from B = {batch_size:,} on, learning rates were capped: the local stability limit allows no larger ones",
        remedy="a larger batch brings no larger step here: read the steps of these rows as optimistic",
        explanation=(
            "Above the limit, steps along the direction of largest curvature grow instead of shrinking: "
            "2 / lambda_max for gradient descent, more with momentum, less with gradient noise. It holds at "
            "this point of the run; the landscape adapts to the learning rate as training goes on. "
            "Learning rates are never capped below the one in use."
        ),
    ),
    Rule(
        code="BSA305",
        severity="note",
        title="Today's learning rate is above the local limit",
        message="the learning rate in use, {learning_rate:.2g}, is above the stability limit {limit:.2g} of this point",
        remedy="no reason to lower it by itself: training often runs at the limit; but do not raise it",
        explanation=(
            "Full-batch training drives the largest curvature up to the limit of its own learning rate "
            "(the edge of stability), so a checkpoint near the limit is expected. The limit then only "
            "speaks against raising the learning rate."
        ),
    ),
    Rule(
        code="BSA310",
        severity="warning",
        title="No trial is possible",
        message="no trial was run: {reason}",
        remedy="the pairs below are predicted; mend that, or compare them by training yourself",
        explanation=(
            "A trial trains from the checkpoint with several pairs on the same data, and counts the steps to "
            "the same loss. It needs a data set whose examples can be read in any order, a loss that is a mean "
            "over examples, and an optimizer of torch.optim."
        ),
    ),
    Rule(
        code="BSA311",
        severity="warning",
        title="The trial's target was not reached",
        message="{tried}",
        remedy="check the loss and data; or give --target-loss above what training reaches, or a longer --horizon",
        explanation=(
            "The runs of a trial start at the checkpoint and count steps until the loss is down at a target. "
            "Where the loss goes down by no more than it wavers (twice the root mean square distance from its "
            "monotone curve), or never as far as the target, at any learning rate that was tried, nothing can be "
            "compared. A model that has converged, a target below what it can reach, and a loss "
            "that does not depend on the weights all look like this."
        ),
    ),
    Rule(
        code="BSA312",
        severity="note",
        title="The trial's steps do not follow the curve",
        message="the measured steps are off S(B) = S_min (1 + B_crit / B) by {residual:.0%}: trust the points, not the curve",
        remedy="read the measured rows; a longer --horizon makes the start of each run matter less",
        explanation=(
            "The steps to the target at each batch size are fitted by a hyperbola with two parameters. The "
            "scatter between seeds says how large its residuals should be; they are more than twice that. The "
            "measured points are then right and the curve between and beyond them is not."
        ),
    ),
    Rule(
        code="BSA313",
        severity="note",
        title="The best learning rate was the last one tried",
        message="at B = {batch_size:,} the best learning rate, {learning_rate:.2g}, was at the end of those tried",
        remedy="a better one may lie beyond: start from a pair nearer to it with --lr",
        explanation=(
            "Learning rates are tried by factors of two around the expected best one until the best is inside. "
            "Here the search ended before that."
        ),
    ),
    Rule(
        code="BSA314",
        severity="note",
        title="The trial ended early",
        message="the trial is not complete: {reason}",
        remedy="with --output report.json, go on with --resume report.json; or raise --time-budget",
        explanation=(
            "What was measured until then is in the report. Every finished heat is kept beside the report, and "
            "a resumed trial runs none of them again."
        ),
    ),
    Rule(
        code="BSA315",
        severity="note",
        title="Measured and predicted differ",
        message="the trial measured a critical batch size of {measured:,.0f}, outside the band around the predicted {predicted:,.0f}",
        remedy="believe the measured one for this stretch of the run",
        explanation=(
            "One checkpoint predicts the critical batch size only roughly, and its band holds four of five. What "
            "a trial measures holds for the stretch between the checkpoint and the target loss."
        ),
    ),
    Rule(
        code="BSA316",
        severity="info",
        title="How the trial was run",
        message="trial: {note}",
        remedy="nothing to do if that is what you meant",
        explanation=(
            "A trial trains as the run does wherever it can. Where it could not, or where the pair in use was "
            "far from tuned, it says what it did instead."
        ),
    ),
    # --- 38x: the rules of `check`; 39x: the report that it reads ---
    Rule(
        code="BSA331",
        severity="info",
        title="Checkpoints were put in order",
        message="the checkpoints were not given in the order of their steps: sorted by them",
        remedy="nothing to do: a shell lists step-1000 before step-200",
        explanation=(
            "A trend needs the order in which the run went through the checkpoints. It is that of the steps that "
            "they recorded, that the optimizer's state counts, or that stand in their names, whichever of these "
            "gives every checkpoint a step of its own."
        ),
    ),
    Rule(
        code="BSA332",
        severity="note",
        title="A checkpoint was given twice",
        message="{double} was left out: it is the same as {kept}",
        remedy="give every checkpoint of the run once",
        explanation=(
            "The files are compared by what is in them. A copy, such as `last.pt`, would count one moment of the "
            "run twice and make a trend look surer than it is."
        ),
    ),
    Rule(
        code="BSA333",
        severity="warning",
        title="The steps are not known",
        message="the checkpoints' steps are not known: taken in the order of their names, without a ramp",
        remedy="save the step with the weights, as `step`, or write it into the file's name: step-400.pt",
        explanation=(
            "Neither in the checkpoints nor in their names there is a number of steps that tells all of them apart "
            "(an epoch is none). The noise scale is then set against the loss only, and as nobody knows how long "
            "the run was, no switch of the batch size can be placed in it."
        ),
    ),
    Rule(
        code="BSA334",
        severity="note",
        title="Too few checkpoints for a trend",
        message="{count} of the run's checkpoints can be used for a trend, which takes {needed} at different steps",
        remedy="{advice}",
        explanation=(
            "Two points lie on every curve. One checkpoint has no derivative at all: it says what the noise scale "
            "is and not where it goes. Published runs of language models doubled their critical batch size for "
            "every 13 % that the loss fell by, which is when another look is worth it; so is one after every "
            "change of the learning rate, for the noise scale goes as its inverse."
        ),
    ),
    Rule(
        code="BSA335",
        severity="note",
        title="No trend can be told",
        message="the noise scale cannot be told to grow or to fall: by {low} to {high} over these checkpoints",
        remedy="more checkpoints from early in the run to its end, or a smaller --precision with more time",
        explanation=(
            "The interval of the growth holds a factor of one. The noise scale of a single moment scatters, by more "
            "than its own interval says, because the gradient at that moment is in part made by the noise of "
            "the last steps. This scatter is estimated from the checkpoints themselves and widens the interval. A run "
            "whose noise scale has come to rest that way is one that larger batches late in it may still help."
        ),
    ),
    Rule(
        code="BSA336",
        severity="note",
        title="The noise scale falls",
        message="the noise scale falls over these checkpoints, to {growth} of what it was: no ramp",
        remedy="check that they are of one run, and in its order; else keep the batch size",
        explanation=(
            "In most runs the gradient shrinks faster than its noise. Where it does not, as early in a run, at a "
            "saddle, or after the learning rate was raised, larger batches later would be for nothing."
        ),
    ),
    Rule(
        code="BSA337",
        severity="info",
        title="The learning rate had changed",
        message="the run's learning rate went from {first:.3g} to {last:.3g}: a ramp would stand in place of that",
        remedy="keep the decay; or track a run with the learning rate held, to have a ramp instead",
        explanation=(
            "Growing the batch size does to the noise in the weights what decaying the learning rate does. A run that "
            "decays it already has that effect, and a ramp on top of it would mostly cost steps. The noise scale goes "
            "as the inverse of the learning rate, so part of its growth is the decay's doing."
        ),
    ),
    Rule(
        code="BSA338",
        severity="note",
        title="Not every checkpoint was measured",
        message="interrupted: {left} of the checkpoints were not measured",
        remedy="run it again: nothing of a track is kept",
        explanation="What was measured until Ctrl-C is reported; the last checkpoints, which say most, are missing.",
    ),
    Rule(
        code="BSA381",
        severity="error",
        title="Too many examples",
        message="B = {batch} takes {cost} times the fewest examples, and {allowed} are allowed",
        remedy="{advice}",
        explanation=(
            "The rule max_examples_over_minimum of `check`. A batch size takes 1 + B / B_crit times the fewest "
            "examples. It is broken only where that holds for the largest B_crit that the interval and the band "
            "of the prediction leave possible; at initial weights and at a saddle there is no such end."
        ),
    ),
    Rule(
        code="BSA382",
        severity="error",
        title="Too many steps",
        message="B = {batch} takes {cost} times the fewest steps, and {allowed} are allowed",
        remedy="{advice}",
        explanation=(
            "The rule max_steps_over_minimum of `check`. A batch size takes 1 + B_crit / B times the fewest "
            "steps. It is broken only where that holds for the smallest B_crit that the interval and the band "
            "of the prediction leave possible."
        ),
    ),
    Rule(
        code="BSA383",
        severity="error",
        title="Learning rate outside the advice",
        message="η = {rate} is {against}",
        remedy="{advice}",
        explanation=(
            "The rule learning_rate of `check`. `range`: the rule that fits the optimizer carries a learning rate "
            "that worked over to the batch size judged, at every end of the noise scale's interval and with the "
            "factor that holds 80 % of the rule's errors; above the stability limit the range is cut off. A learning "
            "rate is called wrong only beyond that, for the pair that it starts from may be badly tuned: by a factor of 3 "
            "where the best single step says so, too (good rates were 0.3 to 45 times that), and of 30 where it does "
            "not, both times the fourth root of the ratio of the batch sizes. With a trial the range is the measured "
            "one, at that batch size or beside it, and beyond 3.5 times of it a rate is wrong: "
            "nearer ones are left open, for many of them have trained well. `limit`: the stability limit alone, at "
            "the flattest curvature of its interval. A pair is never judged from itself: the advice starts from the checkpoint, constants, the report or a baseline."
        ),
    ),
    Rule(
        code="BSA384",
        severity="error",
        title="Too long at the saddle",
        message="leaving the saddle takes this pair {steps}, and {allowed} are allowed",
        remedy="{advice}",
        explanation=(
            "The rule escape_steps of `check`. It is broken only at a certified saddle, and where a tenth of the "
            "predicted steps is still too many: predictions have been off by a factor of ten."
        ),
    ),
    Rule(
        code="BSA385",
        severity="error",
        title="The batch does not fit",
        message="a batch of {batch} does not fit in memory",
        remedy="{advice}",
        explanation=(
            "The rule memory of `check`. A batch size is called fitting or not only if it ran; where nothing was "
            "measured on the hardware, the answer is that it is not known."
        ),
    ),
    Rule(
        code="BSA386",
        severity="error",
        title="The noise scale has drifted",
        message="the noise scale has changed by a factor of {factor} since the baseline, and {allowed} is allowed",
        remedy="the old advice no longer holds: choose a pair from the new report, and keep it as the baseline",
        explanation=(
            "The rule max_drift of `check`, judged with --baseline only: B_simple of the two reports, at those "
            "ends of their intervals that are nearest to each other."
        ),
    ),
    Rule(
        code="BSA391",
        severity="warning",
        title="The checkpoint has changed since",
        message="{file} is no longer the file that this report was made from",
        remedy="probe it again: the verdict is about the weights of then",
        explanation="The report holds the SHA-256 of its checkpoint; that of the file on disk is another one.",
    ),
    Rule(
        code="BSA392",
        severity="warning",
        title="The data has changed since",
        message="this report was made from other data: {what}",
        remedy="probe it again: the verdict is about the data of then",
        explanation=(
            "Told by the SHA-256 of a data file, and by the number of examples of a baseline. Of data that comes "
            "from Python code only the number of examples is known."
        ),
    ),
    Rule(
        code="BSA393",
        severity="warning",
        title="The report contradicts itself",
        message="the report was changed by hand, or damaged: {what}",
        remedy="probe again: a verdict from these numbers says nothing",
        explanation=(
            "A report holds the sums that its estimates were computed from, and rows that follow from its "
            "critical batch size. Here they do not agree."
        ),
    ),
    # --- 4xx: the saddle ---
    Rule(
        code="BSA401",
        severity="warning",
        title="At a saddle",
        message="these weights sit at a saddle that the pair in use does not leave soon",
        remedy="{advice}",
        explanation=(
            "A direction of negative curvature was found on some examples and certified at 99 % on others, or "
            "is one of the loss over all examples. A short run with the pair in use, taken back afterwards, "
            "hardly lowered the loss; the same run, or a longer one, lowered it by more once it had started from "
            "the lowest point along that direction. Both hold at 99 %. What "
            "leaves sooner depends on what starts the escape: gradient noise, of which a smaller batch has "
            "more, or the gradient itself, which a larger learning rate follows faster."
        ),
    ),
    Rule(
        code="BSA402",
        severity="note",
        title="Possibly at a saddle",
        message="these weights may sit at a saddle that the pair in use does not leave soon",
        remedy="{advice}",
        explanation=(
            "As BSA401, but the short run was not tried or holds for its estimates only, not for the "
            "pessimistic ends of their intervals: the run may leave by itself, or gain little by leaving."
        ),
    ),
    Rule(
        code="BSA403",
        severity="info",
        title="A saddle can be neither seen nor excluded",
        message="negative curvature along which the loss falls was found, but not certified on {examples:,} examples",
        remedy="{needed} examples would do, if the estimate holds; a later checkpoint may show it, too",
        explanation=(
            "The smallest eigenvalue of a sample is biased downwards, so a direction counts only when other "
            "examples certify it at 99 %. Here their mean agrees, but not surely."
        ),
    ),
    # --- 6xx: generalization ---
    Rule(
        code="BSA601",
        severity="warning",
        title="The held-out data is the training data",
        message="{share:.0%} of the held-out examples are training examples: {how}",
        remedy="let `heldout` give examples that training never sees; nothing was measured on these",
        explanation=(
            "Held-out examples say how the model does on what it was not trained on. Told by the data sets that "
            "both are made of, or by looking held-out examples up among the training examples, bit for bit. "
            "Examples that change each time they are drawn are not recognised. Data of few different values has "
            "twins by nature: only what exceeds the twins within the training data counts."
        ),
    ),
    Rule(
        code="BSA602",
        severity="warning",
        title="Some held-out examples are training examples",
        message="about {share:.1%} of the held-out examples are training examples: {how}",
        remedy="take them out of one of the two: until then the gap is larger than it looks",
        explanation=(
            "As BSA601, for a part of them. The gap between the losses is understated by that part; above a "
            "tenth, no verdict is given."
        ),
    ),
    Rule(
        code="BSA603",
        severity="note",
        title="Overfitting",
        message="the held-out loss is {gap:.2g} above the training loss, and no longer seen to follow it down",
        remedy="more data, augmentation, weight decay or an earlier stop; compare checkpoints by held-out loss",
        explanation=(
            "The gap between the two losses is certain. Neither growing all weights a little, as training to fit "
            "does, nor a step along the training gradient is seen to lower the held-out loss any more; nor would "
            "smaller weights lower it by much: it is near its lowest point. It concerns the loss: accuracy may still rise."
        ),
    ),
    Rule(
        code="BSA604",
        severity="warning",
        title="Memorization",
        message="the held-out loss is {gap:.2g} above the training loss, and what lowers the one raises the other",
        remedy=(
            "stop earlier, or add data or regularization; held-out loss may fall again later (double descent): "
            "one checkpoint cannot tell, `bsadvisor track` over several shows the curve"
        ),
        explanation=(
            "The gap between the two losses is certain, and so is this: growing all weights a little lowers the "
            "training loss, or raises it less, while it raises the held-out loss; and smaller weights would take "
            "close to one per cent or more off the held-out loss, which the noise of a run alone does not explain. "
            "The model is surer of what it has seen than unseen examples bear out, and training on makes it "
            "surer: the held-out loss is about to pass its lowest point, or has. With noisy labels and enough capacity it may fall a second time as training goes "
            "on (epoch-wise double descent). One checkpoint cannot see that; the losses of several can. Two more "
            "figures stand beside it: the alignment of the training gradient with the held-out one, and the "
            "share of the training gradient that each example owes to itself. Both are blurred by the noise "
            "that a run with a large learning rate carries, so neither makes this verdict. It concerns the "
            "loss: accuracy may still rise (Guo et al. 2017; Nakkiran et al. 2019)."
        ),
    ),
    Rule(
        code="BSA605",
        severity="info",
        title="Generalization cannot be told",
        message="{examples} are too few to tell a gap between the losses from none",
        remedy="give more held-out examples",
        explanation=(
            "The interval of the gap holds zero, and reaches beyond a quarter of the loss: neither a gap nor its "
            "absence is seen."
        ),
    ),
    Rule(
        code="BSA606",
        severity="note",
        title="Losses were measured in training mode",
        message="the loss cannot be had in evaluation mode: train and held-out losses are those of training mode",
        remedy="let loss(model, batch) work after model.eval(), too",
        explanation=(
            "Losses are compared in evaluation mode, without dropout and with the running statistics of BatchNorm. "
            "Some models return no loss there; both losses are then those of training mode."
        ),
    ),
    Rule(
        code="BSA607",
        severity="warning",
        title="Towards the large-batch gap",
        message=(
            "B = {batch_size:,} is {share:.0%} of the data set, at {temperature:.2g} of today's temperature η / B"
        ),
        remedy="compare held-out losses before you adopt it, at as many steps as today's pair takes",
        explanation=(
            "Batches of a tenth of the data set and more, with less noise per step (η / (B (1 - β)), the "
            "temperature of the run), have been seen to generalize worse (Keskar et al. 2017). Training for as "
            "many steps as the small batch, and a learning rate that keeps the temperature, closed most of that "
            "gap (Hoffer et al. 2017; Smith and Le 2018), and with tuned learning rates none was left (Shallue "
            "et al. 2019). No checkpoint can predict it, so it is only pointed out. Pairs on the linear line keep "
            "the temperature; pairs on the square-root line lower it as 1 / sqrt(B)."
        ),
    ),
    Rule(
        code="BSA651",
        severity="note",
        title="The held-out loss descended twice",
        message=(
            "the held-out loss fell to {valley:.3g} at step {valley_step:,}, rose to {peak:.3g} at step "
            "{peak_step:,} and fell again to {second:.3g} at step {second_step:,}"
        ),
        remedy="{advice}",
        explanation=(
            "An epoch-wise double descent: a model with room to fit its noise first learns what is general, then "
            "the noise, and then the rest. It takes label noise or unusual examples, and several checkpoints to see "
            "it. Rise and second fall are each beyond what the examples and the scatter from checkpoint to "
            "checkpoint would make by accident (99 %). What the noise of larger or smaller batches does to the peak "
            "was not tried here."
        ),
    ),
)

CATALOGUE: dict[str, Rule] = {rule.code: rule for rule in _RULES}
