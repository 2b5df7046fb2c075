"""What a policy makes of a reward (notebooks 04 and 07)."""

from typing import Any

import altair as alt
import pandas as pd

from sympo.book import story
from sympo.book.explorables import parts
from sympo.book.figures.style import METHODS, OKABE_ITO, in_order, label
from sympo.studies import profiles

# what stands above each panel → its rewards of the answers a to d, its colour
_REWARDS: dict[str, tuple[list[float], str]] = {
    "reference": ([0, 0, 0, 0], "#777777"),
    "true rewards r*": ([*story.REWARDS.values()], OKABE_ITO["black"]),
    "only the order": ([3, 2, 1, 0], OKABE_ITO["blue"]),
    "a and b swapped": ([3.5, 6.5, 0.5, 0], OKABE_ITO["vermillion"]),
}


def t8_improvement() -> parts.Explorable:
    """The policies π ∝ π_ref·e^(r/β) of three rewards for the four answers, and what they gain.

    The reader finds out that any reward in the right order gains, at every β and from every
    reference; and that with the best two answers swapped a policy loses where the reference is good
    already and β is small.

    Source: theory T8. Check: tests/book/test_explorables.py.
    """
    label_of_share = "share of answer a in the reference; the others share the rest"
    sliders = [
        parts.slider("log_beta", 0, -1, 2, 0.1, label="log₁₀ β: small trusts the reward"),
        parts.slider("share", 0.7, 0.1, 0.95, 0.05, label=label_of_share),
    ]
    rows: list[dict[str, Any]] = [
        {"policy": policy, "answer": answer, "true": story.REWARDS[answer], "reward": reward}
        for policy, (rewards, _) in _REWARDS.items()
        for answer, reward in zip(story.REWARDS, rewards, strict=True)
    ]
    # no exponential overflows when the largest is e⁰
    top = {policy: max(rewards) for policy, (rewards, _) in _REWARDS.items()}
    data = alt.Data(values=[row | {"top": top[row["policy"]]} for row in rows])
    tilted = "datum.reference * exp((datum.reward - datum.top) / pow(10, log_beta))"
    base = (
        alt.Chart()
        .transform_calculate(reference="datum.answer == 'a' ? share : (1 - share) / 3")
        .transform_calculate(weight=tilted, before="datum.reference * datum.true")
        .transform_joinaggregate(total="sum(weight)", start="sum(before)", groupby=["policy"])
        .transform_calculate(probability="datum.weight / datum.total")
        .transform_calculate(after="datum.probability * datum.true")
        .transform_joinaggregate(expected="sum(after)", groupby=["policy"])
    )
    answers = alt.X("answer:N", title=None, axis=alt.Axis(labelAngle=0, labelFontSize=13))
    up = parts.y("probability", "probability of the answer", (0, 1.18))
    colour = {policy: look for policy, (_, look) in _REWARDS.items()}
    bars = base.mark_bar().encode(answers, up, parts.colours("policy", colour, legend=False))
    ticks = base.mark_tick(color="black", thickness=2, width=20)
    ticks = ticks.encode(answers, alt.Y("reference:Q"))
    gained = "format(datum.expected - datum.start, '+.2f')"
    words = (
        "datum.policy == 'reference' ? 'J = ' + format(datum.expected, '.2f') + '\\nβ = ' + "
        f"format(pow(10, log_beta), '.2f') : 'J = ' + format(datum.expected, '.2f') + "
        f"'\\ngain ' + {gained}"
    )
    # once a panel, and not once an answer
    first = base.transform_filter("datum.answer == 'a'").transform_calculate(words=words)
    text = first.mark_text(x=8, y=4, align="left", baseline="top", fontSize=13, lineBreak="\n")
    panels = alt.layer(bars, ticks, text.encode(text="words:N")).properties(width=115, height=240)
    columns = alt.Column("policy:N", sort=[*_REWARDS], title=None)
    chart = panels.facet(column=columns, data=data).add_params(*sliders)
    return parts.finish(
        chart,
        title="Move both sliders: can you make a reward in the right order lose?",
        subtitle="Bars: the policy. Black ticks: the reference. J: its expected true reward,\n"
        "the true rewards of a, b, c and d being 6.5, 3.5, 0.5 and 0.",
        description=(
            "A chart with two sliders, beta and the reference's share of the best answer. Four "
            "panels show the probabilities of the answers a to d under the reference and under the "
            "policies of three rewards, with the expected true reward. The true rewards and a "
            "reward that has only their order gain at every setting; the one that swaps a and b "
            "loses where beta is small and the reference already prefers a."
        ),
    )


def mnist_policies(table: pd.DataFrame, *, profile: str) -> parts.Explorable:
    """The digits that the policies of each loss show, at a KL that the reader chooses.

    The reader finds out how far each loss leads away from the reference, in which every image is as
    likely as any other: the same KL buys larger digits where more pairs are in the right order.

    Args:
        table: columns method, kl (nats, evenly spaced from 0, where the policy is the reference),
            digit, probability; rows that differ in nothing else, such as seeds, are averaged.
    Raises:
        ValueError: values of kl that are not evenly spaced from 0, or no such profile.
    Source: notebook 07. Check: tests/book/test_explorables.py.
    """
    kls = sorted(table.kl.unique().tolist())
    step = kls[-1] / max(1, len(kls) - 1)
    if any(abs(kl - place * step) > 1e-9 for place, kl in enumerate(kls)):
        raise ValueError(f"kl = {kls}: give values that are evenly spaced from 0")
    start = kls[min(len(kls) - 1, round(1 / step))]
    slider = parts.slider("kl", start, 0, kls[-1], step, label="KL from the reference, nats")
    methods = in_order(table.method)
    means = table.groupby(["method", "digit", "kl"]).probability.mean().unstack()
    rows: list[dict[str, Any]] = [
        {"loss": label(method), "digit": int(digit), "by_kl": shares.round(4).tolist()}
        for (method, digit), shares in means.iterrows()
    ]
    base = (
        alt.Chart()
        .transform_calculate(
            probability=f"datum.by_kl[round(kl / {step:g})]", reference="datum.by_kl[0]"
        )
        .transform_calculate(product="datum.probability * datum.digit")
        .transform_joinaggregate(expected="sum(product)", groupby=["loss"])
    )
    most = min(1.0, 1.25 * float(means.max(axis=None)))
    across = alt.X("digit:O", title="digit", axis=alt.Axis(labelAngle=0))
    up = parts.y("probability", "probability", (0, most))
    colour = {METHODS[method].label: METHODS[method].colour for method in methods}
    bars = base.mark_bar().encode(across, up, parts.colours("loss", colour, legend=False))
    ticks = base.mark_tick(color="#777", thickness=2, width=9)
    ticks = ticks.encode(across, alt.Y("reference:Q"))
    words = "'expected digit\\n' + format(datum.expected, '.2f')"
    first = base.transform_filter("datum.digit == 0").transform_calculate(words=words)
    text = first.mark_text(x=6, y=4, align="left", baseline="top", fontSize=12, lineBreak="\n")
    # two digits stand close to each other in a narrow panel
    panels = alt.layer(bars, ticks, text.encode(text="words:N"))
    panels = panels.properties(width=parts.WIDTH // len(methods) - 14, height=220)
    # of a smoke run it says so, as every figure does
    caveat = profiles.caveat(profiles.resolve_profile(profile))
    notes = [
        "Bars: the mean policy over seeds. Grey ticks: the reference, all images alike.",
        caveat,
    ]
    order = [METHODS[method].label for method in methods]
    columns = alt.Column("loss:N", sort=order, title=None)
    chart = panels.facet(column=columns, data=alt.Data(values=rows)).add_params(slider)
    return parts.finish(
        chart,
        title="Go farther from the reference: which loss turns the distance into larger digits?",
        subtitle="\n".join(filter(None, notes)),
        description=(
            "A chart with a slider for the KL from the reference. A panel per loss shows how "
            "likely each digit is under its tilted policy, with the expected digit. As the KL "
            "grows, probability moves to the digits that the learned reward holds to be large."
        ),
    )
