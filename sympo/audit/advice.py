"""What to do about a file of preferences, by its audit.

What is said of losses is what this companion's own notebooks found, in words that hold for each of
them (figures/*/table0_claims.md); where it found nothing, that is said.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sympo.audit.biases import Bias
from sympo.audit.rates import CLOSE_PAIRS, Rate
from sympo.rating import pairs_needed
from sympo.stats import Interval

if TYPE_CHECKING:
    from sympo.audit.core import Audit

__all__ = ["advise", "believe", "believed_rate"]

# ours: by the studies, where the losses' order on MNIST was seen from .2 on, and not at 0
_LOW = 0.1
_HIGH = 0.2
_HALF_WIDTH = 0.05  # of the interval that a sample for rating is sized for
_VAGUE = 0.3  # ours: an interval this wide holds rates that ask for different losses
_TELLING = 0.05  # ours: a rule that is right this much more often than chance


def believed_rate(audit: "Audit") -> Rate | None:
    """The estimate with the narrowest interval, by ratings, repeats or triangles; None without one.

    What the data contradict is not believed, nor an interval wider than .3, nor what simulated
    ratings say, nor a classifier's estimate, whose premise no single labels can show.
    """
    believed = believe(audit.rates, simulated=audit.simulated)
    return believed[0] if believed else None


def believe(rates: Iterable[Rate], *, simulated: bool) -> list[Rate]:
    """The estimates that `believed_rate` chooses from, the narrowest interval first."""
    # Of the two readings of ratings one alone: their widths say nothing of which premise holds.
    ratings = () if simulated else ("ratings, if the raters make no errors",)
    routes = ("repeated comparisons", "triangles", *ratings)
    usable = [
        (rate.interval.high - rate.interval.low, rate)
        for rate in rates
        if rate.kind == "estimate" and rate.interval and rate.route.startswith(routes)
    ]
    believed = [(width, rate) for width, rate in usable if width <= _VAGUE and not rate.refuted]
    return [rate for _, rate in sorted(believed, key=lambda pair: pair[0])]


def advise(audit: "Audit") -> tuple[str, ...]:
    """What to do, in the order in which to do it."""
    if not audit.findings.rows:
        return ("No row is a pair of answers: see why rows were refused, and convert the file.",)
    exchanged = _find_exchanged(audit)
    if exchanged:
        return (*_clean_rows(audit), *exchanged, *_mind_biases(audit))
    rate = believed_rate(audit)
    return (
        *_clean_rows(audit),
        *_mind_biases(audit),
        *(_measure_first(audit) if rate is None else _choose_loss(rate, audit)),
        *_rate_more(audit, rate),
        "Hold out pairs by prompt (preferences.hold_out), stop early on them and choose settings "
        "by them: noisy held-out accuracy ranks models as clean accuracy does in expectation, if "
        "flips do not depend on the pair (theory T13).",
    )


def _clean_rows(audit: "Audit") -> list[str]:
    findings = audit.findings
    advice = []
    if findings.shared or findings.near_shared:
        count = (findings.shared or 0) + (findings.near_shared or 0)
        advice.append(
            f"Take the {_rows(count)} whose prompt is also tested on out of training: "
            "preferences.drop_overlap does so for equal prompts, and near-equal ones need your eye."
        )
    if findings.contradictions:
        advice.append(
            f"Decide the {_pairs(findings.contradictions)} with rows for either winner, by a "
            "majority or by rating again, or drop them: kept, they are noise that is known."
        )
    if findings.repeats:
        advice.append(
            f"Keep the {_rows(findings.repeats)} repeating another one if they are second ratings, "
            "and drop them if they are copies."
        )
    if findings.invisible:
        advice.append(f"Drop the {_rows(findings.invisible)} with an answer that cannot be seen.")
    return advice


def _find_exchanged(audit: "Audit") -> list[str]:
    """What to check first where more than half of the labels are called wrong."""
    asked = {"declared flips": "the column is_flipped says the opposite"}
    if not audit.simulated:
        name = "ratings, if the raters make no errors"
        asked[name] = "the raters were given the wrong answer as the label's"
    return [
        f"More than half of the labels are wrong ({_show(rate.interval)}, by {rate.route}): the "
        f"columns chosen and rejected look exchanged, or {asked[rate.route]}. Read some rows, "
        "mend that, and audit again: no loss is advised before."
        for rate in audit.rates
        if rate.route in asked and rate.interval is not None and rate.interval.low > 0.5
    ]


def _mind_biases(audit: "Audit") -> list[str]:
    advice = [
        f"Flips depend on which answer wins ({dependence.source}: {dependence.longer.estimate:.2f} "
        f"where the longer answer is the better one, {dependence.shorter.estimate:.2f} where the "
        "shorter one is). No symmetric loss repairs that (theory T11): correct or drop those rows "
        "first."
        for dependence in audit.dependence
        if dependence.differs
    ]
    telling = [_describe(bias) for bias in audit.biases if _tells(bias)]
    if telling:
        looks = "; ".join(telling)
        advice.append(
            f"{looks[0].upper()}{looks[1:]}. Labels cannot say whether that is taste or bias. A "
            "bias is learned by every loss, since flips then depend on which answer wins (theory "
            "T11): rate pairs where the rule is wrong, and compare models on answers of equal "
            "length."
        )
    return advice


def _tells(bias: Bias) -> bool:
    interval = bias.interval
    return interval is not None and bias.predicts and abs(interval.estimate - 0.5) >= _TELLING


def _describe(bias: Bias) -> str:
    assert bias.interval is not None
    share = bias.interval.estimate
    way = "chosen" if share > 0.5 else "rejected"
    return f"{bias.rule} is {way} in {max(share, 1 - share):.0%} of the pairs"


def _choose_loss(rate: Rate, audit: "Audit") -> list[str]:
    interval = rate.interval
    assert interval is not None
    told = f"{_show(interval)}, by {rate.route}{_premise(rate)}"
    if interval.high <= _LOW:
        choice = (
            f"The noise rate is low ({told}): take the loss that you know, such "
            "as DPO. On clean labels the companion found no loss of reward models better than "
            "another by more than .02."
        )
    elif interval.low >= _HIGH:
        choice = (
            f"The noise rate is high ({told}): try a symmetric loss, loss_type="
            '"sympo_sigmoid" or "sympo_ramp", beside DPO, and keep what does better on held-out '
            "pairs. In the companion symmetric losses ordered more MNIST pairs rightly at rates "
            "of .2 to .4 when trained to the last epoch; the lead was smaller, or not seen, where "
            "the epoch was chosen on noisy held-out pairs. On answers in words they beat the "
            "logistic loss on some data sets and not on others. Small language models trained with "
            "SymPO won a little more often than with DPO at the paper's β; most lay too far from "
            "the reference to be compared at equal KL."
        )
    else:
        choice = (
            f"The noise rate is neither clearly low nor clearly high ({told}): "
            'train DPO and loss_type="sympo_sigmoid", and keep what does better on held-out '
            "pairs. The companion's gains are at rates of .2 and more, and small where training "
            "stops early."
        )
    return [choice, _price(interval, audit.findings.rows)]


def _premise(rate: Rate) -> str:
    """What the data leave open about an estimate."""
    if rate.route != "repeated comparisons":
        return ""
    same = ", and right answers are the same each time" if CLOSE_PAIRS in rate.warnings else ""
    return f" if rows that repeat are second ratings and no copies{same}"


def _price(interval: Interval, rows: int) -> str:
    worth = (1 - 2 * interval.estimate) ** 2
    if worth < 1e-3:
        return "Labels like these tell next to nothing: a rate near ½ is a coin's."
    return (
        f"At that rate it takes (1−2ε)⁻² = {1 / worth:.1f} times as many pairs, whatever the loss: "
        f"these {rows:,} tell as much as about {round(rows * worth):,} without noise."
    )


def _measure_first(audit: "Audit") -> list[str]:
    bounds = [
        rate.interval.high
        for rate in audit.rates
        if rate.kind == "upper bound" and rate.interval is not None and not rate.refuted
    ]
    doubt = ", which what predicts the winner puts in doubt" if audit.words else ""
    known = (
        f"Nothing here reads the noise rate well; it is at most {min(bounds):.3f} if flips do not "
        f"depend on the answers' words{doubt}."
        if bounds and min(bounds) < 0.5 - _HALF_WIDTH
        else "Nothing here reads the noise rate well, or bounds it."
    )
    return [
        f"{known} Single labels cannot tell noise from close pairs (theory T6): measure it before "
        "you choose a loss by it. Until then take the loss that you know, and compare it on "
        'held-out pairs with loss_type="sympo_sigmoid".'
    ]


def _rate_more(audit: "Audit", rate: Rate | None) -> list[str]:
    expected = 0.25 if rate is None or rate.interval is None else min(rate.interval.estimate, 0.45)
    if rate is not None and rate.interval is not None:
        half = (rate.interval.high - rate.interval.low) / 2
        if half <= _HALF_WIDTH:
            return []
    count = pairs_needed(_HALF_WIDTH, noise_rate=expected)
    if count > audit.findings.rows:
        return []
    return [
        f"Rate {count:,} pairs drawn at random again, blind to their labels (sympo.rating): if "
        f"raters make no errors and the rate is about {expected:.2f}, that gives ±{_HALF_WIDTH}."
    ]


def _show(interval: Interval) -> str:
    return f"{interval.estimate:.2f}, {interval.low:.2f} to {interval.high:.2f}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _pairs(count: int) -> str:
    return f"{count:,} pair{' of answers' if count == 1 else 's of answers'}"
