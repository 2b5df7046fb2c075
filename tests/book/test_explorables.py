"""Charts with sliders: what Vega-Lite draws at a setting, against formulas in Python.

The charts are evaluated by `vl_convert`, which runs Vega's own scripts; pixels become data again by
the axes that the reader sees.
"""

import copy
import json
import subprocess
import sys
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from scipy import integrate, optimize
from scipy.special import beta as beta_function
from scipy.special import expit

from sympo.book import explorables, story
from sympo.studies import profiles

# two settings of every slider, the first of them not the one that it starts at
SETTINGS: dict[str, dict[str, tuple[Any, Any]]] = {
    "t2_tied_order": {"rate_pos": (0.05, 0.3), "rate_neg": (0.2, 0.45), "lam": (0.2, 0.75)},
    "t3_noisy_losses": {"rate": (0.0, 0.3)},
    "t5_beta_family": {"alpha": (0.5, 2)},
    "t7_four_actions": {"rate": (0.0, 0.2), "rare": (-2, 0), "loss": ("ramp", "logistic")},
    "t8_improvement": {"log_beta": (-0.5, 1.3), "share": (0.2, 0.9)},
    "mnist_policies": {"kl": (0.5, 2)},
    "t14_thermometer": {"rate": (0.05, 0.3), "more": (0.04, 0.08), "log_n": (2.5, 4)},
    "t10_votes": {"power": (1, 8), "rate": (0.05, 0.4)},
}

each_chart = pytest.mark.parametrize("name", SETTINGS)


def tabulate_digits() -> pd.DataFrame:
    """Two seeds of two losses, whose policies prefer large digits, one of them more."""
    rows = []
    for method, slope in (("logistic", 0.1), ("sigmoid", 0.3)):
        for kl in np.arange(0, 2.01, 0.5):
            for seed in (0, 1):
                weight = np.exp(slope * kl * np.arange(10) + seed * kl * (np.arange(10) == 3))
                columns = {"digit": range(10), "probability": weight / weight.sum()}
                rows.append(pd.DataFrame({"method": method, "kl": kl, "seed": seed, **columns}))
    return pd.concat(rows, ignore_index=True)


def make(name: str) -> explorables.Explorable:
    if name == "mnist_policies":
        return explorables.mnist_policies(tabulate_digits(), profile="laptop")
    return getattr(explorables, name)()


@cache
def specify(name: str) -> dict[str, Any]:
    return make(name).to_dict()


def draw(name: str, **values: Any) -> list[dict[str, Any]]:
    """The marks of a chart whose sliders stand at `values`, each with the items that it draws."""
    spec = copy.deepcopy(specify(name))
    for param in spec["params"]:
        param["value"] = values.pop(param["name"], param["value"])
    assert not values, "no such slider"
    graph = vl_convert.vegalite_to_scenegraph(spec, vl_version="5.20")
    return [*find_marks(graph["scenegraph"])]


def find_marks(node: dict[str, Any]) -> Any:
    if node.get("role") == "mark" and node["marktype"] != "group":
        yield node
    for item in node.get("items", []):
        yield from find_marks(item)


def lines(marks, *, width, height, x, y) -> list[np.ndarray]:
    """The points of every line, in data units of the domains `x` and `y`."""
    found = []
    for mark in marks:
        if mark["marktype"] == "line":
            points = np.array([(item["x"], item["y"]) for item in mark["items"]])
            across = x[0] + points[:, 0] / width * (x[1] - x[0])
            up = y[1] - points[:, 1] / height * (y[1] - y[0])
            found.append(np.column_stack([across, up]))
    return found


def texts(marks) -> list[str]:
    found = [item["text"] for mark in marks if mark["marktype"] == "text" for item in mark["items"]]
    return [text if isinstance(text, str) else "\n".join(text) for text in found]


def settings(name: str) -> list[dict[str, Any]]:
    """All sliders at their first value, and all at their second."""
    return [{key: pair[place] for key, pair in SETTINGS[name].items()} for place in (0, 1)]


# Every chart


@each_chart
def test_it_is_valid_vega_lite_of_version_5(name):
    explorable = make(name)
    validated = explorable.chart.to_dict()  # altair checks it against the schema
    assert validated == explorable.to_dict()
    assert "/vega-lite/v5" in validated["$schema"]


@each_chart
def test_two_calls_agree_after_other_charts(name):
    once = json.dumps(make(name).to_dict())
    make("t3_noisy_losses")
    make("t8_improvement")
    alt.Chart(pd.DataFrame({"x": [1]})).mark_point().add_params(alt.selection_point()).to_dict()
    assert json.dumps(make(name).to_dict()) == once
    # of mnist_policies this is little: notebook 07 has more losses and distances
    assert len(once.encode()) < 150_000


@each_chart
def test_it_needs_no_network(name):
    spec = json.dumps({**specify(name), "$schema": ""})
    assert "http" not in spec
    assert '"url"' not in spec


@each_chart
def test_it_speaks_without_being_seen(name):
    bundle = make(name)._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.vegalite.v5+json", "text/plain"}
    assert len(bundle["text/plain"].split()) > 20
    assert bundle["text/plain"].startswith("A chart with ")


def test_colab_gets_html(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    bundle = make("t3_noisy_losses")._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "vegaEmbed" in bundle["text/html"]


@each_chart
def test_every_slider_is_here_and_changes_the_drawing(name):
    params = {param["name"]: param for param in specify(name)["params"]}
    assert set(params) == set(SETTINGS[name])
    assert all(param["bind"]["name"].strip() for param in params.values())
    start = draw(name)
    for slider, (value, _) in SETTINGS[name].items():
        assert draw(name, **{slider: value}) != start, slider


@each_chart
@pytest.mark.parametrize("end", ["min", "max"])
def test_it_draws_numbers_at_both_ends_of_all_sliders(name, end):
    at = {
        param["name"]: param["bind"][end]
        for param in specify(name)["params"]
        if end in param["bind"]
    }
    marks = draw(name, **at)
    assert all(mark["items"] for mark in marks)
    points = [[item.get("x"), item.get("y")] for mark in marks for item in mark["items"]]
    # what is left out is 0, so that a missing number would be None
    assert all(np.isfinite(value) for point in points for value in point if value is not None)
    assert "NaN" not in json.dumps(marks)
    assert "undefined" not in " ".join(texts(marks))


def test_figures_do_not_load_altair():
    code = "import sys, sympo.book.figures; sys.exit('altair' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# T2


@pytest.mark.parametrize("at", settings("t2_tied_order"))
def test_t2_counts_who_is_named(at):
    marks = draw("t2_tied_order", **at)
    coin, tied = lines(marks, width=520, height=300, x=(0, 1), y=(0, 1))
    for line, first in ((coin, 0.5), (tied, at["lam"])):
        eta, seen = line.T
        longer = 0
        for wins, chance in ((True, eta), (False, 1 - eta)):
            for is_first, written in ((True, first), (False, 1 - first)):
                rate = at["rate_pos"] if wins == is_first else at["rate_neg"]
                longer += chance * written * (1 - rate if wins else rate)
        np.testing.assert_allclose(seen, longer, atol=1e-9)
    # the strip is where the majorities differ, and the dots are where they change
    (strip,) = [item for mark in marks if mark["marktype"] == "rect" for item in mark["items"]]
    ends = np.array([strip["x"], strip["x"] + strip["width"]]) / 520
    crossing = np.interp(0.5, tied[:, 1], tied[:, 0])
    np.testing.assert_allclose(sorted(ends), sorted([0.5, crossing]), atol=1e-9)
    (dots,) = [mark["items"] for mark in marks if mark["marktype"] == "symbol"]
    np.testing.assert_allclose([dot["x"] / 520 for dot in dots], [0.5, crossing], atol=1e-9)
    (words,) = texts(marks)
    assert f"{min(ends):.1%} to {max(ends):.1%}" in words


def test_t2_has_no_strip_where_a_coin_draws_the_order():
    marks = draw("t2_tied_order", lam=0.5)
    (strip,) = [item for mark in marks if mark["marktype"] == "rect" for item in mark["items"]]
    assert abs(strip.get("width", 0)) < 1e-9
    assert texts(marks) == ["No pair is ranked wrongly."]


# T3

LOSSES = {
    "logistic": lambda z: np.log1p(np.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(z)),
    "ramp": lambda z: np.clip((1 - z) / 2, 0, 1),
}


@pytest.mark.parametrize("rate", SETTINGS["t3_noisy_losses"]["rate"])
def test_t3_mixes_right_and_wrong_labels(rate):
    marks = draw("t3_noisy_losses", rate=rate)
    curves = lines(marks, width=520, height=300, x=(-3, 6), y=(0, 3.2))
    assert len(curves) == 6  # three without noise, then three with it
    for place, curve in enumerate(curves):
        z, value = curve.T
        loss = [*LOSSES.values()][place % 3]
        flips = 0 if place < 3 else rate
        np.testing.assert_allclose(value, (1 - flips) * loss(z) + flips * loss(-z), atol=1e-9)
    logistic, sigmoid = [item for m in marks if m["marktype"] == "symbol" for item in m["items"]]
    assert sigmoid["x"] == 520
    assert sigmoid["shape"] == "triangle-right"
    if rate == 0:
        assert logistic["shape"] == "triangle-right"
        return
    noisy = LOSSES["logistic"]
    least = optimize.minimize_scalar(lambda z: (1 - rate) * noisy(z) + rate * noisy(-z)).x
    assert logistic["shape"] == "circle"
    np.testing.assert_allclose(-3 + logistic["x"] / 520 * 9, least, atol=1e-5)
    assert f"logistic: least at z = {least:.2f}" in texts(marks)[0]


# T5


@pytest.mark.parametrize("a", SETTINGS["t5_beta_family"]["alpha"])
def test_t5_integrates_the_density_of_the_log_odds(a):
    size = {"width": 225, "height": 260, "x": (-8, 8)}
    marks = draw("t5_beta_family", alpha=a)
    one, chosen, *_ = lines(marks, **size, y=(0, 1))
    logs_one, logs = lines(marks, **size, y=(-4, 0))[2:]

    def density(z, a):
        return (expit(z) * expit(-z)) ** a / beta_function(a, a)

    for knob, loss, log in ((1, one, logs_one), (a, chosen, logs)):
        for z, value in loss[::8]:
            # the loss is how likely the log-odds are to exceed the margin
            tail = integrate.quad(density, z, np.inf, args=(knob,))[0]
            assert abs(value - tail) < 1e-4
        np.testing.assert_allclose(10 ** log[:, 1], density(log[:, 0], knob), rtol=2e-3)
    # what is symmetric stays so
    np.testing.assert_allclose(chosen[:, 1] + chosen[::-1, 1], 1, atol=2e-4)
    name = {0.5: "α = 0.5", 2: "α = 2:\nHölder-DPO + 1"}[a]
    assert texts(marks) == [name]


# T7


@pytest.mark.parametrize("at", settings("t7_four_actions"))
def test_t7_shows_the_reward_of_least_risk(at):
    loss = LOSSES[at["loss"]]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    often = np.array(
        [1 if pair in ((0, 1), (1, 2), (0, 3)) else 10 ** at["rare"] for pair in pairs]
    )
    truth = np.array([*story.REWARDS.values()])

    def risk(rewards):
        total = 0.0
        for weight, (better, worse) in zip(often / often.sum(), pairs, strict=True):
            eta = expit(truth[better] - truth[worse])
            noisy = (1 - at["rate"]) * eta + at["rate"] * (1 - eta)
            gap = rewards[better] - rewards[worse]
            total += weight * (noisy * loss(gap) + (1 - noisy) * loss(-gap))
        return total

    marks = draw("t7_four_actions", **at)
    drawn = lines(marks, width=520, height=320, x=(0, 1), y=(-2, 7))
    ends = np.array(drawn)[:, :, 1]
    np.testing.assert_allclose(ends[:, 0], truth, atol=1e-9)
    learned = ends[:, 1]
    # no reward nearby, and none of many others, has less
    other = np.random.default_rng(0).uniform(-3, 8, size=(2000, 4))
    nearby = learned + np.random.default_rng(1).normal(0, 0.05, size=(2000, 4))
    assert risk(learned) <= min(map(risk, [*other, *nearby])) + 1e-9
    verdict = "reversed" if learned[2] < learned[3] else "the order is right"
    assert any(f"{learned[2]:+.2f}".replace("-", "−") in t and verdict in t for t in texts(marks))


def test_t7_says_when_the_order_breaks():
    marks = {loss: draw("t7_four_actions", loss=loss) for loss in ("logistic", "ramp")}
    assert any("c and d are reversed" in text for text in texts(marks["logistic"]))
    assert any("the order is right" in text for text in texts(marks["ramp"]))
    clean = draw("t7_four_actions", rate=0)
    learned = np.array(lines(clean, width=520, height=320, x=(0, 1), y=(-2, 7)))[:, 1, 1]
    np.testing.assert_allclose(learned, [*story.REWARDS.values()], atol=1e-3)


def test_t7_never_reverses_another_pair_and_ramp_none():
    """The title says so of every position of the sliders."""
    rows = specify("t7_four_actions")["data"]["values"]
    for loss in ("logistic", "ramp"):
        a, b, c, d = (np.array(row["fits"][loss]) for row in rows)
        assert (a > b).all()
        assert (b > np.maximum(c, d)).all()
        assert (c > d).all() == (loss == "ramp")


# T8


@pytest.mark.parametrize("at", settings("t8_improvement"))
def test_t8_tilts_the_reference(at):
    marks = draw("t8_improvement", **at)
    reference = np.array([at["share"], *[(1 - at["share"]) / 3] * 3])
    truth = np.array([6.5, 3.5, 0.5, 0.0])
    rewards = {"reference": np.zeros(4), "r*": truth, "order": np.array([3.0, 2, 1, 0])}
    rewards["swapped"] = np.array([3.5, 6.5, 0.5, 0.0])
    bars = [mark["items"] for mark in marks if mark["name"].endswith("layer_0_marks")]
    words = texts(marks)
    for items, text, (name, reward) in zip(bars, words, rewards.items(), strict=True):
        policy = reference * np.exp(reward / 10 ** at["log_beta"])
        policy /= policy.sum()
        heights = [item["height"] / 240 * 1.18 for item in items]
        np.testing.assert_allclose(heights, policy, atol=1e-9)
        assert f"J = {policy @ truth:.2f}" in text
        gain = policy @ truth - reference @ truth
        shown = f"gain {gain:+.2f}".replace("-", "−")
        assert (shown in text) == (name != "reference")
        assert gain > -1e-9 or name == "swapped"


def test_t8_lets_the_wrong_order_lose():
    gains = [texts(draw("t8_improvement", log_beta=log_beta))[-1] for log_beta in (-1, 2)]
    assert ["gain −" in gain for gain in gains] == [True, False]


# MNIST


@pytest.mark.parametrize("kl", SETTINGS["mnist_policies"]["kl"])
def test_mnist_policies_averages_seeds(kl):
    table = tabulate_digits()
    marks = draw("mnist_policies", kl=kl)
    bars = [mark["items"] for mark in marks if mark["name"].endswith("layer_0_marks")]
    # symmetric losses come first, as in every figure
    means = [
        table[(table.method == method) & np.isclose(table.kl, kl)].groupby("digit").probability
        for method in ("sigmoid", "logistic")
    ]
    highest = table.groupby(["method", "kl", "digit"]).probability.mean().max()
    for items, text, mean in zip(bars, texts(marks), means, strict=True):
        probability = mean.mean().to_numpy()
        heights = [item["height"] / 220 * 1.25 * highest for item in items]
        np.testing.assert_allclose(heights, probability, atol=1e-4)
        assert f"\n{probability @ np.arange(10):.2f}" in text


def test_mnist_policies_wants_even_distances():
    table = tabulate_digits()
    with pytest.raises(ValueError, match="evenly spaced from 0"):
        explorables.mnist_policies(table[table.kl != 1], profile="laptop")
    with pytest.raises(ValueError, match="evenly spaced from 0"):
        explorables.mnist_policies(table[table.kl > 0], profile="laptop")


def test_mnist_policies_concludes_nothing_from_a_smoke_run():
    chart = explorables.mnist_policies(tabulate_digits(), profile="smoke").to_dict()
    assert profiles.caveat("smoke") in chart["title"]["subtitle"]


# T14


@pytest.mark.parametrize("at", settings("t14_thermometer"))
def test_t14_reads_expected_labels(at):
    marks = draw("t14_thermometer", **at)
    (line,) = lines(marks, width=520, height=300, x=(0.5, 4), y=(0, 1.3))
    gap, reading = line.T
    x = (1 - 2 * at["rate"]) * np.tanh(gap / 2)
    z = -(1 - 2 * (at["rate"] + at["more"])) * np.tanh(gap)
    np.testing.assert_allclose(reading, -(x**2) * z / (2 * x + z), atol=1e-9)
    (area,) = [mark["items"] for mark in marks if mark["marktype"] == "area"]
    half = np.array([item["y2"] - item["y"] for item in area]) / 300 * 1.3 / 2
    # drawn at three gaps: labels by binomials, and the reading of their means
    generator = np.random.default_rng(0)
    labels = round(10 ** at["log_n"])
    for place in (60, 100, 140):
        expected = np.array([x[place], x[place], z[place]])
        wins = generator.binomial(labels, (1 + expected) / 2, size=(40_000, 3))
        first, second, third = (2 * wins / labels - 1).T
        spread = np.std(-first * second * third / (first + second + third))
        # to first order only
        np.testing.assert_allclose(abs(half[place]), 1.96 * spread, rtol=0.12)


def test_t14_is_flat_where_the_rate_is_one():
    (line,) = lines(draw("t14_thermometer"), width=520, height=300, x=(0.5, 4), y=(0, 1.3))
    np.testing.assert_allclose(line[:, 1], 0.6**2, atol=1e-9)


# T10


@pytest.mark.parametrize("at", settings("t10_votes"))
def test_t10_counts_votes(at):
    n = 2 ** at["power"] - 1
    marks = draw("t10_votes", **at)
    curves = lines(marks, width=520, height=300, x=(0.5, 1), y=(0.5, 1))
    generator = np.random.default_rng(0)
    for curve, rate in zip(curves, (0, at["rate"]), strict=True):
        for eta, right in curve[::10]:
            # votes that are cast, label by label
            true = generator.random((4000, n)) < eta
            kept = generator.random((4000, n)) >= rate
            majority = ((true == kept).mean(axis=1) > 0.5).mean()
            assert abs(right - majority) < 4.5 * 0.5 / np.sqrt(4000)
    (words,) = texts(marks)
    assert f"{n:,} labels" in words
    assert f"= {n * (1 - 2 * at['rate']) ** 2:.1f}" in words


def test_t10_is_exact_where_the_sum_is_short():
    clean, noisy = lines(draw("t10_votes", power=2), width=520, height=300, x=(0.5, 1), y=(0.5, 1))
    for curve, rate in ((clean, 0), (noisy, 0.3)):
        p = curve[:, 0] * (1 - rate) + (1 - curve[:, 0]) * rate
        np.testing.assert_allclose(curve[:, 1], p**3 + 3 * p**2 * (1 - p), atol=6e-5)
