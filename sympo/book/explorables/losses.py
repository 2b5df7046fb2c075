"""Losses under noise, and a family of symmetric ones (notebooks 02 and 03)."""

from typing import Any

import altair as alt
import numpy as np
from scipy.special import betainc, expit, gammaln

from sympo.book.explorables import parts
from sympo.book.figures.style import METHODS, OKABE_ITO

_SHOWN = ("logistic", "sigmoid", "ramp")
_LEFT = -3.0
_RIGHT = 6.0
# ℓ of a margin, in Vega's language
_LOSS = {
    "logistic": "log(1 + exp(-({z})))",
    "sigmoid": "1 / (1 + exp({z}))",
    "ramp": "clamp((1 - ({z})) / 2, 0, 1)",
}
_DASHED = [6, 3]

# of the slider of T5
_KNOBS = np.arange(1, 25) / 4
_MARGINS = np.arange(-40, 41) / 5


def t3_noisy_losses() -> parts.Explorable:
    """The noisy loss (1−ε)·ℓ(z) + ε·ℓ(−z) of logistic, sigmoid and ramp, with its minima.

    The reader finds out that noise draws the minimum of logistic from infinity towards 0, and that
    those of the two symmetric losses stay where they are while their curves only become flatter.

    Source: theory T3. Check: tests/book/test_explorables.py.
    """
    rate = parts.slider("rate", 0.1, 0, 0.49, 0.01, label="ε, noise rate")
    look = {name: METHODS[name].colour for name in _SHOWN}
    dash = {name: [1, 0] if METHODS[name].linestyle == "-" else _DASHED for name in _SHOWN}
    across = parts.x("z", "margin z = r(winner) − r(loser)", (_LEFT, _RIGHT))
    up = parts.y("value", "average loss of a pair", (0, 3.2))
    colour = parts.colours("loss", look)
    curves = {name: _add_noise(name, "datum.z") for name in _SHOWN}
    grid = alt.Chart(alt.sequence(_LEFT, _RIGHT + 0.025, 0.05, as_="z"))
    folded = grid.transform_calculate(**curves).transform_fold([*curves], as_=["loss", "value"])
    lines = folded.mark_line(strokeWidth=2.5).encode(across, up, colour, parts.dashes("loss", dash))
    clean = {name: _LOSS[name].format(z="datum.z") for name in _SHOWN}
    pale = grid.transform_calculate(**clean).transform_fold([*clean], as_=["loss", "value"])
    pale = pale.mark_line(strokeWidth=1, opacity=0.45).encode(across, up, colour)
    # every margin from 1 on is a minimum of ramp
    flat = _add_noise("ramp", "1")
    window = parts.once(z=1, end=_RIGHT).transform_calculate(value=flat)
    window = window.mark_rule(strokeWidth=7, opacity=0.35, color=look["ramp"])
    window = window.encode(across, up, alt.X2("end"))
    marks = [_mark_minimum(name, look[name], across, up) for name in ("logistic", "sigmoid")]
    words = (
        "(rate == 0 ? 'logistic: falls for ever' : 'logistic: least at z = ' + "
        "format(log((1 - rate) / rate), '.2f')) + '\\nsigmoid: falls for ever, at any ε < ½'"
        " + '\\nramp: least from z = 1 on, at any ε < ½'"
    )
    text = parts.write(words, left=260, top=8, size=12)
    chart = alt.layer(pale, window, lines, *marks, text).add_params(rate)
    return parts.finish(
        chart.properties(width=parts.WIDTH, height=300),
        title="Raise ε: only the minimum of the logistic loss moves",
        subtitle="Thick: with noise. Thin: without. Dot: the minimum. A triangle at the edge\n"
        "points to one farther right. Pale band: every margin from 1 on is a minimum of ramp.",
        description=(
            "A chart with a slider for the noise rate. Three curves show what a pair costs on "
            "average under the logistic, the sigmoid and the ramp loss, against its margin. With "
            "rising noise the minimum of the logistic curve moves in towards 0; the sigmoid curve "
            "still falls for ever and the ramp curve is still least from 1 on, both only flatter."
        ),
    )


def _add_noise(loss: str, z: str) -> str:
    right, wrong = (_LOSS[loss].format(z=side) for side in (z, f"-({z})"))
    return f"(1 - rate) * ({right}) + rate * ({wrong})"


def _mark_minimum(loss: str, colour: str, across: alt.X, up: alt.Y) -> Any:
    """A dot at the minimum, or a triangle at the right edge where it lies beyond."""
    least = "rate == 0 ? 1e9 : log((1 - rate) / rate)" if loss == "logistic" else "1e9"
    row = parts.once(loss=loss).transform_calculate(least=least)
    row = row.transform_calculate(z=f"min(datum.least, {_RIGHT})")
    row = row.transform_calculate(value=_add_noise(loss, "datum.z"))
    beyond = alt.ExprRef(f"(datum.least > {_RIGHT}) ? 'triangle-right' : 'circle'")
    marks = row.mark_point(filled=True, size=130, opacity=1, color=colour, shape=beyond)
    return marks.encode(across, up)


def t5_beta_family() -> parts.Explorable:
    """The symmetric loss ℓ_α(z) = P(B ≤ σ(−z)), B of the law Beta(α, α), and its weight −ℓ′(z).

    The reader finds out that one knob leads from heavy tails to light ones, past sigmoid at α = 1
    and Hölder-DPO at α = 2, and that the loss stays symmetric and its weight even on the way.

    Source: theory T5. Check: tests/book/test_explorables.py.
    """
    label = "α: small for heavy tails, large for light ones"
    knob = parts.slider("alpha", 3, float(_KNOBS[0]), float(_KNOBS[-1]), 0.25, label=label)
    chosen = "round(alpha * 4) - 1"
    data = alt.Chart().transform_calculate(loss=f"datum.losses[{chosen}]", one="datum.losses[3]")
    # in logarithms they are small numbers, on which no digits are lost
    weights = {"weight": f"exp(datum.logs[{chosen}])", "weight_one": "exp(datum.logs[3])"}
    data = data.transform_calculate(**weights)
    across = parts.x("z", "margin z", (-8, 8))
    up = parts.y("loss", "loss ℓ(z)", (0, 1))
    weight = parts.y("weight", "weight −ℓ′(z), log scale", (1e-4, 1), type="log")
    line = {"strokeWidth": 2.5, "color": OKABE_ITO["vermillion"], "clip": True}
    thin = {"strokeWidth": 1.5, "color": OKABE_ITO["blue"], "strokeDash": [2, 2], "clip": True}
    name = "alpha == 1 ? ':\\nsigmoid' : alpha == 2 ? ':\\nHölder-DPO + 1' : ''"
    words = parts.write(f"'α = ' + alpha + ({name})", left=125, top=8)
    left = alt.layer(
        data.mark_line(**thin).encode(across, parts.y("one", "loss ℓ(z)", (0, 1))),
        data.mark_line(**line).encode(across, up),
        words,
    ).properties(width=225, height=260)
    decimals = alt.Axis(values=[1e-4, 1e-3, 1e-2, 1e-1, 1], format="~g")
    right = alt.layer(
        data.mark_line(**thin).encode(across, alt.Y("weight_one:Q", axis=decimals)),
        data.mark_line(**line).encode(across, weight),
    ).properties(width=225, height=260)
    return parts.finish(
        alt.hconcat(left, right, data=alt.Data(values=_tabulate_family())).add_params(knob),
        title="Turn α down: the weight of pairs far from 0 falls more and more slowly",
        subtitle="Solid: the chosen α. Dotted: α = 1, the sigmoid loss. Far out the weight falls\n"
        "as e^(−α·|z|), a straight line on the log scale, equally on both sides of 0.",
        description=(
            "A chart with a slider for the knob alpha of the Beta family. The left panel has the "
            "loss against the margin, which falls from 1 to 0 and is steeper the larger alpha is; "
            "the right panel its weight on a log scale, which is even in the margin, with heavier "
            "tails the smaller alpha is. A dotted line is the sigmoid loss, alpha = 1."
        ),
    )


def _tabulate_family() -> list[dict[str, Any]]:
    """A row per margin: the loss, and the logarithm of its weight, at each position of the knob."""
    z = _MARGINS[:, None]
    loss = betainc(_KNOBS, _KNOBS, expit(-z)).round(4)
    # the density (s(1−s))^α / B(α, α) of the log-odds, with log s(1−s) = −z − 2·log(1 + e^(−z))
    log_beta = 2 * gammaln(_KNOBS) - gammaln(2 * _KNOBS)
    logs = (_KNOBS * (-z - 2 * np.logaddexp(0, -z)) - log_beta).round(3)
    columns = zip(_MARGINS.tolist(), loss.tolist(), logs.tolist(), strict=True)
    return [{"z": z, "losses": row, "logs": of_weights} for z, row, of_weights in columns]
