"""What the figures of notebook 04 draw, compared with their tables."""

import numpy as np
import pandas as pd
import pytest

from sympo.book import figures
from sympo.book.figures.style import contrast_on_white

ANSWERS = [*"abcd"]


@pytest.fixture
def wrong_orders():
    """Made-up shares; the rows of the two rates are apart, as the notebook's are for sigmoid."""
    cases = [("sigmoid", 3, 0.0), ("ramp", np.nan, 0.0), ("sigmoid", 3, 0.4), ("ramp", np.nan, 0.4)]
    table = pd.DataFrame(cases, columns=["loss", "clip", "noise_rate"])
    table = table.assign(reversed=[0.1, 0.0, 0.2, 0.0], tied=[0.3, 0.0, 0.3, 0.0], problems=50)
    table["wrong"] = table["reversed"] + table["tied"]
    return pd.concat([table.assign(sampling=name) for name in ("uneven", "even")])


def test_both_rates_of_a_loss_stand_below_one_another(wrong_orders):
    figure = figures.fig_t7_wrong_orders(wrong_orders)
    names = [tick.get_text().split() for tick in figure.axes[0].get_yticklabels()]
    assert [words[0] for words in names] == ["sigmoid,", "ε", "ramp", "ε"]
    assert [words[-1] for words in names] == ["0", "0.4", "0", "0.4"]
    # top down, and losses further apart than the rates of one
    top, second, third, _ = figure.axes[0].get_yticks()
    assert figure.axes[0].yaxis_inverted()
    assert 0 < second - top < third - second


def test_shares_are_written_and_none_is_a_word(wrong_orders):
    figure = figures.fig_t7_wrong_orders(wrong_orders)
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["40.0%", "none", "50.0%", "none"]
    assert any("50 random problems" in text.get_text() for text in figure.texts)


def draw_four(learned):
    """The panels right of the graph, for one learned reward."""
    pairs = pd.DataFrame({"better": ["a"], "worse": ["b"], "wish": [3.0], "sampling": [1.0]})
    fits = pd.DataFrame({"true reward": [6.5, 3.5, 0.5, 0.0], "some loss, ε = 0.01": learned})
    fits.index = pd.Index(ANSWERS, name="action")
    rewards = fits.reset_index().melt("action", None, "series", "reward")
    return figures.fig_t7_four_actions(pairs, rewards).axes[1]


@pytest.mark.parametrize(
    ("learned", "verdict"),
    [
        ([4.5, 1.7, -1.1, 0], "c and d reversed"),
        ([3, 2, 1, 0], "order kept"),
        ([1, 2, 1.5, 3], "a and b, a and c, a and d, b and d, c and d reversed"),
    ],
)
def test_the_title_says_which_pairs_are_reversed(learned, verdict):
    assert draw_four(learned).get_title().endswith(f":\n{verdict}")


def test_reversed_answers_are_drawn_thicker():
    widths = [line.get_linewidth() for line in draw_four([4.5, 1.7, -1.1, 0]).lines]
    assert widths[0] == widths[1] < widths[2] == widths[3]


@pytest.fixture
def policies():
    shares = {"reference": [0.7, 0.1, 0.1, 0.1], "good": [0.9, 0.1, 0, 0], "bad": [0.1, 0.9, 0, 0]}
    true = [6.5, 3.5, 0.5, 0.0]
    return pd.concat(
        pd.DataFrame(
            {"policy": name, "answer": ANSWERS, "probability": each, "value": np.dot(each, true)}
        )
        for name, each in shares.items()
    )


def test_policies_are_bars_with_the_reference_around_them(policies):
    figure = figures.fig_t8_policies(policies)
    shares = policies.probability.to_numpy().reshape(3, 4)
    for place, axes in enumerate(figure.axes):
        heights = np.array([bar.get_height() for bar in axes.patches]).reshape(-1, 4)
        expected = shares[:1] if place == 0 else shares[[place, 0]]
        np.testing.assert_allclose(heights, expected)
        assert [text.get_text() for text in axes.texts] == [f"{each:.2f}" for each in shares[place]]


def test_policies_say_what_they_gain(policies):
    titles = [axes.get_title() for axes in figures.fig_t8_policies(policies).axes]
    assert titles == ["reference\nJ = 4.95", "good\nJ = 6.20 (+1.25)", "bad\nJ = 3.80 (−1.15)"]


@pytest.fixture
def gains():
    betas = np.logspace(-1, 4, 11)
    rewards = {"r*": 1.5, "4 r*": 2.0, "a and b swapped": -1.0, "c and d swapped": 1.4}
    return pd.concat(
        pd.DataFrame({"reward": name, "beta": betas, "gain": most / (1 + betas)}).assign(
            objective=objective, keeps_order="swapped" not in name
        )
        for objective in ("J = E r*", "J − β·KL")
        for name, most in rewards.items()
        if objective == "J = E r*" or "swapped" not in name
    )


def test_lines_of_the_gain_are_named_beside_them(gains):
    figure = figures.fig_t8_improvement(gains)
    assert not figure.legends
    left, right = (
        {text.get_text().replace("\n", " ") for text in axes.texts} - {""} for axes in figure.axes
    )
    assert left == {*gains.reward}
    assert right == {"r*", "4 r*"}
    solid = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert solid["4 r*"] == "-" != solid["a and b swapped"]


def test_other_rewards_are_named_in_a_legend(gains):
    figure = figures.fig_t8_improvement(gains.replace("4 r*", "another"))
    (legend,) = figure.legends
    assert "another" in {text.get_text() for text in legend.get_texts()}


@pytest.fixture
def gradients():
    margins = np.linspace(-6, 6, 121)
    s = 1 / (1 + np.exp(-margins))
    curves = {
        "dpo": ("pulls", 2 * (1 - s)),
        "repo": ("faded", np.exp(-((margins + 1) ** 2)) / np.exp(-1)),
        "drdpo": ("faded", 4 * s * (1 - s)),
        "sympo_sigmoid": ("faded", 4 * s * (1 - s)),
        "sympo_ramp": ("faded", np.where(np.abs(margins) < 1, 1.0, 0.0)),
    }
    columns = ("group", "relative")
    return pd.concat(
        pd.DataFrame({"method": name, "margin": margins, **dict(zip(columns, each, strict=True))})
        for name, each in curves.items()
    )


def curves_of(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


def test_even_weights_have_a_panel_of_their_own_and_equal_ones_one_line(gradients):
    pulls, faded, even = figures.fig_t9_gradients(gradients).axes
    assert [len(curves_of(axes)) for axes in (pulls, faded, even)] == [1, 1, 2]
    names = {text.get_text() for text in even.texts}
    assert {"Dr.DPO, SymPO sigmoid", "SymPO ramp"} <= names
    # the symmetric loss is the one that is drawn
    assert curves_of(even)[0].get_linestyle() == "-"
    assert {"DPO"} <= {text.get_text() for text in pulls.texts}


def test_no_two_curves_of_a_panel_share_a_colour_and_names_can_be_read(gradients):
    for axes in figures.fig_t9_gradients(gradients).axes:
        colours = [line.get_color() for line in curves_of(axes)]
        assert len(set(colours)) == len(colours)
        for text in axes.texts:
            if text.get_text():
                assert contrast_on_white(text.get_color()) >= 4.5
                assert text.get_fontsize() >= 7


def test_gradients_without_even_weights_have_one_row(gradients):
    figure = figures.fig_t9_gradients(gradients[gradients.method.isin(["dpo", "repo"])])
    assert len(figure.axes) == 2
