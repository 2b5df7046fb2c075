"""What noise does to the order of answers (notebooks 02 and 04)."""

from typing import Any

import altair as alt
import numpy as np

from sympo.book import story, theory
from sympo.book.explorables import parts
from sympo.book.figures.style import OKABE_ITO, text_colour

_COIN = "order drawn by a coin"
_TIED = "longer answer first, as often as λ says"
_ORDERS = {_COIN: OKABE_ITO["blue"], _TIED: OKABE_ITO["vermillion"]}

# of the sliders of T7
_RATES = np.arange(46) / 100
_SHARES = -3 + np.arange(13) / 4  # log₁₀
_FITTED = ("logistic", "ramp")
_ANSWERS = dict(
    zip(
        story.REWARDS,
        (OKABE_ITO[name] for name in ("black", "blue", "vermillion", "purple")),
        strict=True,
    )
)


def t2_tied_order() -> parts.Explorable:
    """How often noisy labels are for the longer answer, against how often it truly wins.

    The reader finds out that favouring a position only flattens the line as long as a coin draws
    the order, and shifts it where the longer answer stands first more often than not: the majority
    is then for the wrong answer within a strip, whose width the sliders change.

    Source: theory T2 (b). Check: tests/book/test_explorables.py.
    """
    sliders = [
        parts.slider("rate_pos", 0.1, 0, 0.49, 0.01, label="ε_p, errors when the first is better"),
        parts.slider("rate_neg", 0.4, 0, 0.49, 0.01, label="ε_n, errors when the second is better"),
        parts.slider("lam", 0.9, 0, 1, 0.05, label="λ, share of pairs with the longer first"),
    ]
    across = parts.x("eta", "η: how often the longer answer truly wins", (0, 1))
    up = parts.y("noisy", "how often the noisy labels say so", (0, 1))
    # ε₊ and ε₋: the flips where the longer answer wins and where it loses
    plus = "(lam * rate_pos + (1 - lam) * rate_neg)"
    minus = "(lam * rate_neg + (1 - lam) * rate_pos)"
    mean = "(rate_pos + rate_neg) / 2"
    seen = {
        _COIN: f"datum.eta * (1 - {mean}) + (1 - datum.eta) * {mean}",
        _TIED: f"datum.eta * (1 - {plus}) + (1 - datum.eta) * {minus}",
    }
    grid = alt.Chart(alt.sequence(0, 1.005, 0.01, as_="eta"))
    lines = (
        grid.transform_calculate(**seen)
        .transform_fold([*seen], as_=["order", "noisy"])
        .mark_line(strokeWidth=2.5)
        .encode(across, up, parts.colours("order", _ORDERS))
    )
    # where the tied line crosses ½
    crossing = f"(0.5 - {minus}) / (1 - {plus} - {minus})"
    half = parts.once(half=0.5)
    strip = (
        half.transform_calculate(crossing=crossing)
        .mark_rect(color=_ORDERS[_TIED], opacity=0.18)
        .encode(alt.X("half:Q"), alt.X2("crossing"))
    )
    dots = parts.once(half=0.5).transform_calculate(**{_COIN: "0.5", _TIED: crossing})
    dots = (
        dots.transform_fold([*_ORDERS], as_=["order", "eta"])
        .mark_point(filled=True, size=80, opacity=1)
        .encode(across, alt.Y("half:Q"), parts.colours("order", _ORDERS))
    )
    words = (
        f"abs({crossing} - 0.5) < 0.0005 ? 'No pair is ranked wrongly.' : "
        f"'Ranked wrongly: every pair whose longer answer\\ntruly wins ' + "
        f"format(min(0.5, {crossing}), '.1%') + ' to ' + "
        f"format(max(0.5, {crossing}), '.1%') + ' of the time.'"
    )
    guides = [half.mark_rule(**parts.GUIDE).encode(alt.Y("half:Q"))]
    guides.append(half.mark_rule(**parts.GUIDE).encode(alt.X("half:Q")))
    text = parts.write(words, left=10, top=8)
    chart = alt.layer(strip, *guides, lines, dots, text).add_params(*sliders)
    return parts.finish(
        chart.properties(width=parts.WIDTH, height=300),
        title="Move λ to ½: the shaded strip closes, whatever the two error rates are",
        subtitle="Shaded: the noisy majority is for the worse answer. Dots: where a line is at ½.",
        description=(
            "A chart with three sliders: the annotator's two error rates, and how often the longer "
            "answer is written first. Two straight lines show how often noisy labels say that the "
            "longer answer wins, against how often it truly wins. With the order drawn by a coin "
            "the line crosses one half at one half; with the longer answer mostly first it crosses "
            "too early, and the pairs between are ranked wrongly."
        ),
    )


def t7_four_actions() -> parts.Explorable:
    """The rewards that logistic or ramp learns of the four answers, beside the true ones.

    The reader finds out at which noise rate logistic reverses the answers c and d, that it does so
    only while the other pairs are rare, and that ramp keeps the order throughout. The fits are
    those of `theory.fit_reward`, one for every position of the sliders.

    Source: theory T7. Check: tests/book/test_explorables.py.
    """
    label = "log₁₀ of comparisons of a rare pair per one of a frequent pair"
    radio = alt.binding_radio(options=[*_FITTED], name="loss ")
    controls = [
        parts.slider("rate", 0.01, 0, float(_RATES[-1]), 0.01, label="ε, noise rate"),
        parts.slider("rare", -3, float(_SHARES[0]), float(_SHARES[-1]), 0.25, label=label),
        alt.param(name="loss", value="logistic", bind=radio),
    ]
    rows = _tabulate_fits()
    learned = "datum.fits[loss][round((rare + 3) * 4)][round(rate * 100)]"
    ends: list[Any] = ["true reward", "learned reward"]
    calculated = alt.Chart().transform_calculate(**{ends[1]: learned})
    folded = calculated.transform_fold(ends, as_=["side", "reward"])
    sides = alt.Axis(labelAngle=0, title=None, labelFontSize=13, grid=True)
    across = alt.X("side:N", sort=ends, axis=sides, scale=alt.Scale(padding=0.35))
    up = parts.y("reward", "reward, with answer d at 0", (-2, 7))
    colour = parts.colours("answer", _ANSWERS, legend=False)
    lines = folded.mark_line(strokeWidth=2.5, point={"size": 70}).encode(across, up, colour)
    # d stands in a column of its own, for c comes close to it
    words = {answer: text_colour(shade) for answer, shade in _ANSWERS.items()}
    names = [
        folded.transform_filter(f"datum.side == '{end}' && datum.answer == '{answer}'")
        .mark_text(
            dx=sign * (32 if answer == "d" else 16),
            fontSize=14,
            fontWeight="bold",
            color=words[answer],
        )
        .encode(across, up, text="answer:N")
        for end, sign in zip(ends, (-1, 1), strict=True)
        for answer in _ANSWERS
    ]
    gap = f"({learned})"
    verdict = (
        f"'learned: c − d = ' + format({gap}, '+.2f') + ({gap} < -0.005 ? "
        f"', c and d are reversed' : {gap} < 0.005 ? ', c and d are tied' : "
        f"', the order is right')"
    )
    of_c = alt.Chart().transform_filter("datum.answer == 'c'").transform_calculate(words=verdict)
    text = of_c.mark_text(x=150, y=8, align="left", fontSize=13).encode(text="words:N")
    chart = alt.layer(lines, *names, text, data=alt.Data(values=rows)).add_params(*controls)
    return parts.finish(
        chart.properties(width=parts.WIDTH, height=320),
        title="Raise ε from 0: the lines of c and d cross under logistic, and never under ramp",
        subtitle="Frequent pairs: a–b, b–c, a–d. The other three are rare, until the second\n"
        "slider is at 0: then all six are compared equally often. Labels are infinitely many.",
        description=(
            "A chart with two sliders, the noise rate and how often the rare pairs are compared, "
            "and a choice of the loss. Lines lead from the true rewards of the answers a, b, c and "
            "d to the learned ones. Under the logistic loss the lines of c and d cross at a noise "
            "rate of one per cent; under the ramp loss they never do."
        ),
    )


def _tabulate_fits() -> list[dict[str, Any]]:
    """A row per answer: its learned reward by loss, share of the rare pairs and noise rate."""
    reward = np.array([*story.REWARDS.values()])
    gaps = theory.compute_gaps(reward)
    # in the order ab, ac, ad, bc, bd, cd
    often = np.array([1, 0, 1, 1, 0, 0])
    sampling = often + (1 - often) * 10 ** _SHARES[:, None]
    sampling /= sampling.sum(axis=1, keepdims=True)
    eta = 1 / (1 + np.exp(-gaps))
    noisy = eta + _RATES[:, None] * (1 - 2 * eta)
    # every share with every rate
    problems = np.repeat(sampling, len(_RATES), axis=0)
    probability = np.tile(noisy, (len(_SHARES), 1))
    fits = {}
    for loss in _FITTED:
        learned = theory.fit_reward(loss, problems, probability)
        grid = (learned - learned[:, -1:]).reshape(len(_SHARES), len(_RATES), -1)
        # −0.0 would be another text than 0.0
        fits[loss] = grid.round(3) + 0.0
    return [
        {
            "answer": answer,
            "true reward": story.REWARDS[answer],
            "fits": {loss: grid[:, :, place].tolist() for loss, grid in fits.items()},
        }
        for place, answer in enumerate(story.REWARDS)
    ]
