"""The figures of notebook 02, against numbers worked out by hand, and whether they can be read."""

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from sympo.book import figures
from sympo.book.figures.files import draw_from
from sympo.book.figures.style import OKABE_ITO, contrast_on_white, text_colour
from sympo.studies import profiles

# in which the words are written
BLUE, RED = (text_colour(OKABE_ITO[name]).lower() for name in ("blue", "vermillion"))


def make_tree(prior: float, rate_pos: float, rate_neg: float) -> pd.DataFrame:
    rows = [
        (1, 1, prior * (1 - rate_pos)),
        (1, -1, prior * rate_pos),
        (-1, -1, (1 - prior) * (1 - rate_neg)),
        (-1, 1, (1 - prior) * rate_neg),
    ]
    table = pd.DataFrame(rows, columns=["label", "noisy", "probability"])
    return table.assign(winner="b", loser="c")


def draw(stem: str):
    if stem == "fig_t2_tree":
        return figures.fig_t2_tree(make_tree(0.3, 0.1, 0.4))
    return draw_from(stem, [profiles.root() / f"figures/laptop/data/{stem}.csv"])


def find_texts(figure) -> list:
    figure.draw_without_rendering()
    return [
        text
        for axes in figure.axes
        for text in axes.findobj(lambda artist: hasattr(artist, "get_text"))
        if text.get_text() and text.get_visible()
    ]


def read_words(figure) -> dict[str, str]:
    """Every text of the figure and its colour."""
    return {text.get_text(): to_hex(text.get_color()) for text in find_texts(figure)}


each_figure = pytest.mark.parametrize(
    "stem",
    ["fig_t2_tree", "fig_t2_tied_order", "fig_t3_logistic_penalty", "fig_t4_wrong_rate"],
)


@each_figure
def test_words_can_be_read(stem):
    texts = find_texts(draw(stem))
    assert len(texts) > 5
    assert min(text.get_fontsize() for text in texts) >= 7
    assert min(contrast_on_white(text.get_color()) for text in texts) >= 4.5


@each_figure
def test_words_do_not_overlap(stem):
    figure = draw(stem)
    texts = [text for text in find_texts(figure) if text.axes is not None]
    boxes = {text.get_text(): text.get_window_extent() for text in texts}
    inside = figure.bbox
    # matplotlib makes room for what belongs to axes, and the tick labels of shared axes are hidden
    shown = {
        words: box
        for words, box in boxes.items()
        if box.width > 1 and not re.fullmatch(r"[−\d.]+", words)
    }
    for box in shown.values():
        assert inside.x0 - 1 <= box.x0
        assert box.x1 <= inside.x1 + 1
    for (one, first), (other, second) in itertools.combinations(shown.items(), 2):
        assert not first.overlaps(second), (one, other)


@each_figure
def test_the_caption_can_stand_alone(stem):
    text = getattr(figures, stem).__doc__
    caption = " ".join(text.partition("\n\n")[0].split())
    alt = caption.partition(". ")[0]
    assert 30 < len(alt) < 110
    assert len(caption.split()) > 50
    assert "Args" not in caption


def test_the_tree_adds_up_what_is_flipped():
    words = read_words(draw("fig_t2_tree"))
    # 0.3·0.1 + 0.7·0.4
    assert words[r"$-z$:  $\varepsilon$ = 0.31"] == RED
    assert words[r"$z$:  $1-\varepsilon$ = 0.69"] == BLUE


def test_the_tree_has_four_ends():
    words = read_words(draw("fig_t2_tree"))
    ends = {text: colour for text, colour in words.items() if "(1-\\pi)" in text or "$\\pi" in text}
    products = {
        text.rsplit(" = ")[-1]: colour for text, colour in ends.items() if "epsilon" in text
    }
    assert products == {
        "0.27": BLUE,
        "0.03": RED,
        "0.42": BLUE,
        "0.28": RED,
    }
    assert "written (b, c)\n$y = +1$" in words
    assert "written (c, b)\n$y = -1$" in words


def test_the_tree_of_a_fixed_order_has_no_rates_where_nothing_happens():
    words = read_words(figures.fig_t2_tree(make_tree(1.0, 0.1, 0.4)))
    assert r"$\varepsilon_p$ = 0.1" in words
    assert r"$\varepsilon_n$" in words
    assert r"$-z$:  $\varepsilon$ = 0.1" in words


def make_lines(rates: tuple[float, float]) -> pd.DataFrame:
    """η̃ of the order drawn by a coin at 0.25, and of the tied one at `rates` (ε₊, ε₋)."""
    eta = np.linspace(0, 1, 101)
    lines = {"drawn before annotation": (0.25, 0.25), "longer first": rates}
    parts = [
        pd.DataFrame(
            {"eta": eta, "order": order, "noisy_eta": eta * (1 - plus) + (1 - eta) * minus}
        )
        for order, (plus, minus) in lines.items()
    ]
    return pd.concat(parts)


def test_dots_are_where_the_majority_changes_sides():
    (axes,) = figures.fig_t2_tied_order(make_lines((0.13, 0.37))).axes
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    # (½ − ε₋) / (1 − ε₊ − ε₋)
    assert dots == [pytest.approx((0.5, 0.5)), pytest.approx((0.26, 0.5))]


@pytest.mark.parametrize(("rates", "strip"), [((0.13, 0.37), (0.26, 0.5)), ((0.25, 0.25), None)])
def test_what_is_shaded_is_ranked_wrongly(rates, strip):
    (axes,) = figures.fig_t2_tied_order(make_lines(rates)).axes
    paths = [path for shade in axes.collections for path in shade.get_paths() if len(path.vertices)]
    spans = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in paths]
    # of a grid with steps of 0.01
    assert spans == ([pytest.approx(strip, abs=0.011)] if strip else [])
    assert ("ranked\nwrongly" in read_words(axes.figure)) == bool(strip)


def test_the_noisy_loss_is_the_sum_of_its_parts():
    left, middle, _ = draw("fig_t3_logistic_penalty").axes
    for axes in (left, middle):
        clean, penalty, total = (line.get_ydata() for line in axes.lines)
        np.testing.assert_allclose(clean + penalty, total, atol=1e-5)
    assert np.ptp(left.lines[1].get_ydata()) > 1
    assert np.ptp(middle.lines[1].get_ydata()) < 1e-5


def test_the_minima_move_towards_0():
    right = draw("fig_t3_logistic_penalty").axes[2]
    dots = [line.get_xdata()[0] for line in right.lines if line.get_marker() == "o"]
    rates = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(dots, np.log((1 - rates) / rates), atol=0.011)


def test_no_two_lines_of_the_orders_look_alike():
    right = draw("fig_t4_wrong_rate").axes[1]
    looks = [(line.get_color(), line.get_marker()) for line in right.lines[:3]]
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 3
