"""Figures T5 and T6, against distribution functions from scipy and what a reader has to see."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from pages import load_functions

from sympo.book import figures, theory
from sympo.losses import LOSSES, Loss

page = load_functions("03_symmetric_losses")

LAWS = {
    "ramp": ("uniform", scipy.stats.uniform(-1, 2)),
    "sigmoid": ("logistic", scipy.stats.logistic()),
    "cauchy": ("Cauchy", scipy.stats.cauchy()),
}
WIDTHS = (0.25, 1.0)


def blur():
    """The table that notebook 03 draws, here from scipy's laws alone."""
    margin = np.linspace(-5, 5, 401)
    tables = []
    for loss, (law, tremor) in LAWS.items():
        for width in WIDTHS:
            columns = {
                "law": law,
                "loss": loss,
                "width": width,
                "margin": margin,
                "value": tremor.cdf(-margin / width),
                "density": tremor.pdf(margin / width) / width,
            }
            tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def minimisers():
    return page.tabulate_minimisers(
        ["ramp", "sigmoid", "logistic", "square"],
        noise_rates=[0, 0.4],
        etas=np.arange(4, 97, 4) / 100,
        margins=np.linspace(-4, 4, 161),
    )


@pytest.fixture(scope="module")
def drawn():
    """The three figures, by the names of their functions."""
    losses = theory.tabulate_losses(LOSSES, np.linspace(-8, 8, 161))
    return {
        "blur": figures.fig_t5_blur(blur()),
        "losses": figures.fig_t5_losses(losses),
        "minimisers": figures.fig_t6_minimisers(minimisers()),
    }


def read(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("at", [0.5, 0.7])
def test_shaded_share_and_height_of_the_dot_are_the_probability_of_the_wrong_side(at):
    figure = figures.fig_t5_blur(blur(), at)
    above, below = figure.axes[:3], figure.axes[3:]
    for top, bottom, (_, tremor) in zip(above, below, LAWS.values(), strict=True):
        wrong = tremor.cdf(-at)
        # integrated from the density, and read off the loss
        assert f"{wrong:.2f}" in read(top)
        assert f"{wrong:.2f}" in read(bottom)
        (dot,) = [line for line in bottom.lines if len(line.get_xdata()) == 1]
        assert (dot.get_xdata()[0], dot.get_ydata()[0]) == (at, pytest.approx(wrong, abs=1e-3))


def test_only_the_wrong_side_of_zero_is_shaded():
    for axes in figures.fig_t5_blur(blur()).axes[:3]:
        (shade,) = axes.collections
        edges = shade.get_paths()[0].vertices[:, 0]
        assert edges.max() == pytest.approx(0, abs=1e-9)
        assert edges.min() < -0.4


def test_a_narrower_tremor_is_closer_to_the_step():
    for axes in figures.fig_t5_blur(blur()).axes[3:]:
        step, narrow, wide = axes.lines[:3]
        assert list(step.get_ydata()) == [1, 1, 0]
        left = narrow.get_xdata() < 0
        ideal = np.where(left, 1, 0)
        gaps = [np.abs(line.get_ydata() - ideal).mean() for line in (narrow, wide)]
        assert gaps[0] < gaps[1] / 2


def test_every_loss_is_named_once_it_can_be_told_apart(drawn):
    figure = drawn["losses"]
    words = [text.get_text() for text in figure.findobj(Text)]
    for name in LOSSES:
        assert any(figures.label(name) in text for text in words), name
    left, right = (axes.get_legend() for axes in figure.axes[:2])
    assert [text.get_text() for text in left.get_texts()] == ["sigmoid", "ramp", "Cauchy"]
    assert [text.get_text() for text in right.get_texts()] == ["logistic", "hinge", "Savage"]


def test_each_flat_line_bears_its_constant(drawn):
    assert sorted(read(drawn["losses"].axes[2])) == [
        "K = 1: all the others",
        "K = 2: unhinged",
        "K = −1: Hölder",
    ]


def test_followed_losses_differ_in_colour_and_marker_and_the_rest_is_one_grey(drawn):
    for axes in drawn["losses"].axes:
        marked = [line for line in axes.lines if line.get_marker() != "None"]
        looks = {(line.get_color(), line.get_marker()) for line in marked}
        assert len(marked) == len(looks) == len({colour for colour, _ in looks}) == 3
        grey = {line.get_color() for line in axes.lines if line not in marked}
        assert len(grey) == 1
        assert grey.isdisjoint({colour for colour, _ in looks})


def test_a_loss_that_is_new_to_the_registry_is_drawn_and_named(monkeypatch):
    tanh = Loss(
        "tanh",
        fn=lambda z: (1 - torch.tanh(z)) / 2,
        formula=lambda sp, z: (1 - sp.tanh(z)) / 2,
        constant=1,
        convex=False,
        source="made up for this test",
    )
    monkeypatch.setitem(LOSSES, "tanh", tanh)
    table = theory.tabulate_losses(["sigmoid", "tanh", "logistic"], np.linspace(-5, 5, 101))
    figure = figures.fig_t5_losses(table)
    assert len(figure.axes[0].lines) == 2
    assert "grey bells:\ntanh" in read(figure.axes[4])


def test_steps_are_equal_in_both_panels_and_curves_are_crushed(drawn):
    clean, noisy = drawn["minimisers"].axes
    # in the order of the table, and after them the guides
    heights = [
        [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines[:4]]
        for axes in (clean, noisy)
    ]
    for before, after in list(zip(*heights, strict=True))[:2]:
        np.testing.assert_array_equal(before, after)
    for before, after in list(zip(*heights, strict=True))[2:]:
        assert np.nanmax(np.abs(after)) < np.nanmax(np.abs(before)) / 3
    assert [axes.get_title() for axes in (clean, noisy)] == ["clean labels", "flips at ε = 0.4"]
    colours = [line.get_color() for line in clean.lines[:4]]
    assert len(set(colours)) == 4


def luminance(colour):
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


@pytest.mark.parametrize("name", ["blur", "losses", "minimisers"])
def test_words_are_large_and_dark_enough_to_read(drawn, name):
    words = [text for text in drawn[name].findobj(Text) if text.get_text().strip()]
    assert words
    assert min(text.get_fontsize() for text in words) >= 7
    for text in words:
        contrast = 1.05 / (luminance(text.get_color()) + 0.05)
        assert contrast >= 4.5, text.get_text()


@pytest.mark.parametrize("name", ["blur", "losses", "minimisers"])
def test_names_inside_the_axes_do_not_overlap(drawn, name):
    figure = drawn[name]
    figure.draw_without_rendering()
    for axes in figure.axes:
        # the box without the line that may lead to the curve
        boxes = [Text.get_window_extent(text) for text in axes.texts if text.get_text()]
        for number, box in enumerate(boxes):
            assert not [other for other in boxes[:number] if box.overlaps(other)]
