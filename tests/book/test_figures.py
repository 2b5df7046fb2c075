"""Looks, saved files, and what each figure draws."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.offsetbox import AnnotationBbox
from scipy import stats as scipy_stats

from sympo import losses
from sympo.book import figures
from sympo.book.figures.files import write_figure, write_table
from sympo.book.figures.style import (
    GREY_NOTE,
    describe_bands,
    name_end,
    note_sample,
    text_colour,
)
from sympo.studies import profiles

GRID = pd.MultiIndex.from_product
TANH = losses.Loss(
    "tanh",
    fn=lambda z: 1 - z.tanh(),
    formula=lambda sp, z: 1 - sp.tanh(z),
    constant=2,
    convex=False,
    source="made up",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    return tmp_path / "laptop" / "figures"


@pytest.fixture
def history():
    generator = np.random.default_rng(0)
    axes = {
        "method": ["sigmoid", "logistic"],
        "noise_rate": [0.0, 0.4],
        "seed": [0, 1, 2],
        "epoch": [1, 2, 3],
    }
    table = GRID(axes.values(), names=axes).to_frame(index=False)
    table["accuracy"] = generator.uniform(0.6, 0.9, len(table))
    table["chosen_accuracy"] = generator.uniform(0.7, 0.9, len(table))
    table["memorised"] = np.where(table.noise_rate > 0, generator.random(len(table)), np.nan)
    return table


@pytest.fixture
def noise_tables():
    generator = np.random.default_rng(0)
    axes = {
        "method": ["ramp", "logistic"],
        "noise_pair": ["0.1-0.3", "0.2-0.6"],
        "condition": ["asymmetric", "equivalent", "tied"],
        "seed": [0, 1],
        "epoch": [1, 2],
    }
    risks = GRID(axes.values(), names=axes).to_frame(index=False)
    risks["test_risk"] = generator.random(len(risks))
    axes = {"method": ["ramp", "logistic"], "comparison": ["same", "tied"], "seed": [0, 1]}
    rankings = GRID(axes.values(), names=axes).to_frame(index=False)
    return risks, rankings.assign(tau=generator.random(len(rankings)))


@pytest.fixture
def tanh(monkeypatch):
    """A loss in the registry that no figure knows."""
    monkeypatch.setitem(losses.LOSSES, "tanh", TANH)


def read_all(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_saving_again_gives_the_same_bytes(folder, history):
    final = history[history.epoch == 3]
    figures.save(figures.fig1_mnist_losses(final), "fig", final, profile="laptop")
    first = read_all(folder)
    assert first.keys() == {"fig.pdf", "fig.png", "data/fig.csv"}
    figures.save(figures.fig1_mnist_losses(final), "fig", final, profile="laptop")
    assert read_all(folder) == first


def test_saving_the_same_figure_again_moves_nothing(folder):
    with figures.style():
        # the layout of three narrow panels goes on moving at each drawing
        figure, axes = figures.subplots(1, 3)
        for axis in axes:
            axis.plot([0, 1], [0, 1e4])
    figures.save(figure, "fig", pd.DataFrame(), profile="laptop")
    first = read_all(folder)
    figures.save(figure, "fig", pd.DataFrame(), profile="laptop")
    assert read_all(folder) == first


def test_files_hold_no_date_no_program_and_editable_letters(folder, history):
    figure = figures.fig1_mnist_losses(history[history.epoch == 3])
    figures.save(figure, "fig", history, profile="laptop")
    files = read_all(folder)
    for word in (b"CreationDate", b"Producer", b"/Type3"):
        assert word not in files["fig.pdf"]
    assert b"/FontFile2" in files["fig.pdf"]
    assert b"Software" not in files["fig.png"]


def test_csv_has_six_digits_and_plain_line_ends(folder):
    table = pd.DataFrame({"x": [1 / 3, 1e-12], "name": ["a", "b"]})
    figures.save_table(table, "table", profile="laptop")
    assert (folder / "data" / "table.csv").read_bytes() == b"x,name\n0.333333,a\n1e-12,b\n"


def test_several_tables_go_to_several_files(folder, noise_tables):
    risks, rankings = noise_tables
    figure = figures.fig2_mnist_noise(risks, rankings)
    figures.save(figure, "fig2", {"risks": risks, "rankings": rankings}, profile="laptop")
    assert read_all(folder).keys() == {
        "fig2.pdf",
        "fig2.png",
        "data/fig2_risks.csv",
        "data/fig2_rankings.csv",
    }


def test_an_unknown_profile_is_refused_and_writes_nothing(tmp_path, folder):
    with pytest.raises(ValueError, match="unknown profile 'labtop'"):
        figures.save_table(pd.DataFrame({"x": [1]}), "table", profile="labtop")
    assert list(tmp_path.iterdir()) == []


def test_tables_are_readable_and_escaped(folder):
    table = pd.DataFrame({"loss_name": ["a|b", "50%"], "p": [0.00002, np.nan], "n": [3, 5]})
    assert figures.save_table(table, "table", profile="laptop") is table
    assert (folder / "table.md").read_text(encoding="utf-8").splitlines() == [
        "| loss_name | p | n |",
        "| --- | ---: | ---: |",
        r"| a\|b | 2.0e-05 | 3 |",
        "| 50% | – | 5 |",
    ]
    tex = (folder / "table.tex").read_text(encoding="utf-8")
    assert r"loss\_name & p & n \\" in tex
    assert r"50\% & – & 5 \\" in tex


CONTRASTS = pd.DataFrame({"method": ["ramp"], "estimate": [0.1], "verdict": ["reproduced"]})


class TestNoEvidence:
    """Smoke and exercises: each figure, table and verdict says it itself."""

    @pytest.fixture(params=["smoke", "exercise"])
    def saved(self, request, folder):
        """The profile, where its files go, and what they have to say."""
        if request.param == "smoke":
            return "smoke", folder.parents[1] / "smoke/figures", "smoke: these numbers mean nothing"
        profiles.study_config("mnist_losses", "laptop", epochs=1)
        return "laptop", folder.parent / "custom", "an exercise: no evidence"

    def test_a_figure_says_it_once_however_often_it_is_saved(self, saved, history):
        profile, folder, text = saved
        figure = figures.fig1_mnist_losses(history[history.epoch == 3])
        for _ in range(2):
            figures.save(figure, "fig", history, profile=profile)
        (shown,) = [each for each in figure.texts if each.get_text() == text]
        figure.draw_without_rendering()
        assert figure.bbox.x0 < shown.get_window_extent().x0
        assert shown.get_window_extent().x1 < figure.bbox.x1
        assert read_all(folder).keys() == {"fig.pdf", "fig.png", "data/fig.csv"}

    def test_a_table_says_it_in_place_of_its_verdicts(self, saved):
        profile, folder, text = saved
        shown = figures.save_table(CONTRASTS, "table", profile=profile)
        assert shown.verdict.tolist() == [text]
        assert shown.estimate.tolist() == [0.1]
        files = read_all(folder)
        assert files.keys() == {"table.md", "table.tex", "data/table.csv"}
        for name, content in files.items():
            assert content.decode().count(text) == (1 if name.endswith("csv") else 2)
            assert "reproduced" not in content.decode()

    def test_the_profiles_results_stay_as_they_were(self, saved, folder, history):
        profile, _, _ = saved
        figures.save_table(CONTRASTS, "table", profile=profile)
        figures.save_provenance("05", profile=profile)
        assert not folder.exists()

    def test_what_is_evidence_says_nothing(self, folder, history):
        profiles.study_config("mnist_losses", "smoke", epochs=1)
        profiles.study_config("mnist_losses", "laptop", epochs=1)
        # taken back, and read for another profile
        profiles.study_config("mnist_losses", "laptop")
        figure = figures.fig1_mnist_losses(history)
        figures.save(figure, "fig", history, profile="laptop")
        assert [text.get_text() for text in figure.texts] == ["band: 95% over 3 seeds"]
        assert figures.save_table(CONTRASTS, "table", profile="laptop") is CONTRASTS
        assert "evidence" not in (folder / "table.md").read_text()


def test_provenance_lists_what_trained_the_records_and_shows_no_times(folder):
    origins = [{"commit": "a", "gpu": gpu, "seconds": 1.26} for gpu in ("H100", None, "H100")]
    records = [{"provenance": origin} for origin in origins]
    shown = figures.save_provenance("05", records, profile="laptop", data="MNIST")
    written = json.loads((folder / "data" / "05.json").read_text(encoding="utf-8"))
    # what an origin does not know is left out
    assert written["trained_with"] == ["a", "a · H100"]
    assert written["training_seconds"] == 4
    assert (written["data"], shown.value["data"]) == ("MNIST", "MNIST")
    assert "training_seconds" not in shown.index


def test_every_loss_and_method_has_a_look_of_its_own():
    pairs = losses.pair_losses()
    for registry in (losses.LOSSES, pairs):
        # Hölder-DPO is SymPO with its loss
        looks = [tuple(figures.look(name).values()) for name in {*registry} - {"sympo_holder"}]
        assert len(set(looks)) == len(looks)
        for name, loss in registry.items():
            assert (figures.look(name)["linestyle"] == "-") == loss.symmetric
    for name in losses.LOSSES:
        if f"sympo_{name}" in pairs:
            assert figures.look(f"sympo_{name}") == figures.look(name)


def test_labels_are_those_of_the_registry():
    registry = {**losses.LOSSES, **losses.pair_losses()}
    assert {name: figures.label(name) for name in registry} == {
        name: loss.label for name, loss in registry.items()
    }
    # and no look is kept for what the registry has no more
    assert set(figures.METHODS) <= set(registry)


def test_an_unknown_name_is_refused():
    for refuse in (figures.look, figures.label, lambda name: figures.in_order(["ramp", name])):
        with pytest.raises(ValueError, match=r"unknown loss or method 'ram'. Did you mean 'ramp'"):
            refuse("ram")
    with pytest.raises(ValueError, match="unknown loss or method 'sympo_logistic'"):
        figures.look("sympo_logistic")


def test_losses_and_methods_that_meet_in_a_panel_have_colours_of_their_own():
    symmetric = [name for name, loss in losses.LOSSES.items() if loss.symmetric]
    others = [name for name, loss in losses.LOSSES.items() if not loss.symmetric]
    studied = [
        names
        for profile in ("laptop", "gpu")
        for section in profiles.read_profile(profile).values()
        if isinstance(section, dict)
        for key, names in section.items()
        if key in ("losses", "methods")
    ]
    assert len(studied) > 10
    for names in (symmetric, others, *studied):
        colours = [figures.look(name)["color"] for name in names]
        assert len({*colours}) == len(names), names


def measure_contrast(colour):
    """The contrast with white, as WCAG 2.2 defines it, channel by channel."""
    luminance = 0.0
    for share, channel in zip((0.2126, 0.7152, 0.0722), to_rgb(colour), strict=True):
        linear = channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        luminance += share * linear
    return 1.05 / (luminance + 0.05)


def test_words_can_be_read_on_white():
    assert measure_contrast("black") == pytest.approx(21)
    colours = {*figures.OKABE_ITO.values(), *(look.colour for look in figures.METHODS.values())}
    for colour in [*colours, "white", "0.62", "yellow"]:
        words = text_colour(colour)
        assert measure_contrast(words) >= 4.5
        # what is dark enough stays, and the rest becomes hardly darker than it must
        assert words == colour or measure_contrast(words) < 4.7
    assert measure_contrast(GREY_NOTE["color"]) >= 4.5


def test_lines_are_named_in_readable_words_behind_their_markers():
    with figures.style():
        figure, axes = figures.subplots()
        axes.plot([0, 1], [0.2, 0.8])
        figures.direct_labels(axes, [name_end("laplace", 0.8), (0.2, "plain", "k")])
    words = {text.get_text(): text for text in axes.texts}
    assert measure_contrast(words["Laplace"].get_color()) >= 4.5
    (box,) = [artist for artist in axes.artists if isinstance(artist, AnnotationBbox)]
    (marker,) = box.offsetbox.get_children()
    assert (marker.get_color(), marker.get_marker()) == (figures.look("laplace")["color"], "p")
    figure.draw_without_rendering()
    assert box.get_window_extent().x1 <= words["Laplace"].get_window_extent().x0
    # a line without a marker is no line of one point
    assert len(axes.lines) == 1
    assert name_end("laplace", 0.8, marked=False).marker == ""


def test_the_note_of_the_sample_has_a_line_of_its_own():
    table = pd.DataFrame({"seed": [0, 1, 2]})
    assert describe_bands(table, "bar") == "bar: 95% over 3 seeds"
    assert describe_bands(table[:2]) == "2 seeds, no intervals"
    assert describe_bands(table[:1]) == "1 seed, no intervals"
    with figures.style():
        figure, axes = figures.subplots()
        axes.set_xlabel("a label that goes on and on " * 3)
        note_sample(figure, "note of a figure")
        note_sample(axes, "note of axes")
    figure.draw_without_rendering()
    (below,), (inside,) = figure.texts, axes.texts
    assert below.get_window_extent().y1 <= axes.xaxis.label.get_window_extent().y0 + 1
    assert figure.bbox.x0 < below.get_window_extent().x0
    assert axes.bbox.contains(*inside.get_window_extent().min)
    assert axes.bbox.contains(*inside.get_window_extent().max)


HOSTILE = """
figure.dpi: 37
savefig.bbox: tight
savefig.dpi: 50
font.family: monospace
axes.grid: True
lines.linewidth: 7
text.usetex: True
pdf.compression: 0
figure.figsize: 1, 1
figure.constrained_layout.use: False
font.size: 40
font.sans-serif: no such font
mathtext.fontset: cm
axes.prop_cycle: cycler("color", ["ff0000"])
axes.unicode_minus: False
axes.formatter.use_locale: True
path.sketch: 5, 50, 5
"""
DRAW = """
import sys
from pathlib import Path
import pandas as pd
from sympo.book.figures import fig1_mnist_losses
from sympo.book.figures.files import write_figure, write_table
table = pd.read_csv(sys.argv[1])
write_figure(fig1_mnist_losses(table), "fig", Path(sys.argv[2]), caveat="no evidence")
"""


# matplotlib reads one in the working directory, where MATPLOTLIBRC points, or in the user's folder
@pytest.mark.parametrize(
    ("backend", "variable"),
    [
        ("agg", "MATPLOTLIBRC"),
        ("svg", "MPLCONFIGDIR"),
        ("module://matplotlib_inline.backend_inline", None),
    ],
)
def test_nothing_that_a_user_has_set_changes_a_byte(tmp_path, history, backend, variable):
    table = tmp_path / "fig.csv"
    history[history.epoch == 3].to_csv(table, index=False)
    write_figure(
        figures.fig1_mnist_losses(pd.read_csv(table)), "fig", tmp_path, caveat="no evidence"
    )
    (tmp_path / "matplotlibrc").write_text(HOSTILE, encoding="utf-8")
    settings = {"MPLBACKEND": backend, "PYTHONPATH": str(profiles.root())}
    if variable:
        settings[variable] = str(tmp_path)
    command = [sys.executable, "-c", DRAW, table, tmp_path / "other"]
    where = None if variable else tmp_path
    subprocess.run(command, check=True, env={**os.environ, **settings}, cwd=where)
    for name in ("fig.png", "fig.pdf"):
        assert (tmp_path / "other" / name).read_bytes() == (tmp_path / name).read_bytes()


class TestAnAddedLoss:
    def test_has_a_look_that_is_free_and_the_label_of_the_registry(self, tanh, monkeypatch):
        look = figures.look("tanh")
        assert look["linestyle"] == "-"
        assert figures.look("sympo_tanh") == look
        assert (figures.label("tanh"), figures.label("sympo_tanh")) == ("tanh", "SymPO tanh")
        taken = {(method.colour, method.marker) for method in figures.METHODS.values()}
        assert (look["color"], look["marker"]) not in taken

        tilted = replace(TANH, name="tilted", constant=None, label="Tilted")
        monkeypatch.setitem(losses.LOSSES, "tilted", tilted)
        assert figures.look("tilted")["linestyle"] == "--"
        assert figures.label("tilted") == "Tilted"
        assert figures.look("tilted")["marker"] != look["marker"]
        # what came first looks as before
        assert figures.look("tanh") == look

    def test_comes_after_the_papers(self, tanh):
        names = ["sympo_tanh", "tanh", "dpo", "ramp", "tanh"]
        assert figures.in_order(names) == ["ramp", "dpo", "tanh", "sympo_tanh"]

    def test_is_drawn(self, tanh, history):
        final = history[history.epoch == 3].replace({"method": {"logistic": "tanh"}})
        axes = figures.fig1_mnist_losses(final).axes[-1]
        colours = {line.get_color() for line in axes.lines}
        assert figures.look("tanh")["color"] in colours
        assert {"sigmoid", "tanh", "chance"} == {text.get_text() for text in axes.texts}


def test_names_stand_apart_inside_the_axes_and_in_order():
    with figures.style():
        figure, axes = figures.subplots(height=2)
        axes.set_ylim(0, 1)
        figures.direct_labels(
            axes,
            [(0.99, "c", "k"), (0.99, "b", "k"), (0.5, "a", "k"), (np.nan, "gone", "k")],
            points=9,
        )
    figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert boxes.keys() == {"a", "b", "c"}
    middles = {name: (box.y0 + box.y1) / 2 for name, box in boxes.items()}
    assert (middles["c"] - middles["b"]) * 72 / figure.dpi == pytest.approx(9, abs=1)
    assert middles["a"] == pytest.approx(axes.transData.transform((0, 0.5))[1], abs=2)
    assert middles["c"] <= axes.bbox.y1 + 1


def test_figures_are_pure(history, noise_tables):
    before = history.copy()
    settings = dict(mpl.rcParams)
    open_figures = plt.get_fignums()
    figures.fig1_mnist_losses(history[history.epoch == 3])
    figures.fig1_learning_curves(history)
    figures.fig2_mnist_noise(*noise_tables)
    pd.testing.assert_frame_equal(history, before)
    assert dict(mpl.rcParams) == settings
    assert plt.get_fignums() == open_figures


def compute_interval(values):
    """Mean and 95% t interval, by scipy."""
    mean = np.mean(values)
    return mean, *scipy_stats.t.interval(0.95, len(values) - 1, mean, scipy_stats.sem(values))


def colour_of(artist):
    colour = artist.get_color() if hasattr(artist, "get_color") else artist.get_facecolor()
    return to_hex(colour[0] if np.ndim(colour) == 2 else colour).upper()


def test_figure_1_draws_means_with_t_bands(history):
    final = history[history.epoch == 3]
    last, chosen = figures.fig1_mnist_losses(final).axes
    colour = figures.look("sigmoid")["color"]
    values = final[final.method == "sigmoid"]
    for axes, column in ((last, "accuracy"), (chosen, "chosen_accuracy")):
        lines = {colour_of(line): line for line in axes.lines}
        means = values.groupby("noise_rate")[column].mean()
        assert lines[colour].get_ydata() == pytest.approx(means.to_numpy())
        _, low, high = compute_interval(values[column][values.noise_rate == 0.4])
        (band,) = [band for band in axes.collections if colour_of(band) == colour]
        edge = [y for x, y in band.get_paths()[0].vertices if x == 0.4]
        assert (min(edge), max(edge)) == pytest.approx((max(low, 0), min(high, 1)))
    # the methods are named once, beside the last panel
    assert {"sigmoid", "logistic", "chance"} == {text.get_text() for text in chosen.texts}


def test_one_seed_draws_lines_without_bands(history, recwarn):
    one = history[history.seed == 0]
    figures.fig1_mnist_losses(one[one.epoch == 3]).draw_without_rendering()
    figures.fig1_learning_curves(one).draw_without_rendering()
    # earlier tests leave clients of kernels to the garbage collector, which may come by in this one
    assert not [warning for warning in recwarn if not issubclass(warning.category, ResourceWarning)]


def test_learning_curves_say_where_nothing_is_flipped(history):
    (_, _), (clean, noisy) = np.reshape(figures.fig1_learning_curves(history).axes, (2, 2))
    assert [text.get_text() for text in clean.texts] == ["no label\nis flipped"]
    noisy_logistic = history[(history.noise_rate == 0.4) & (history.method == "logistic")]
    expected = noisy_logistic.groupby("epoch").memorised.mean()
    assert any(np.allclose(line.get_ydata(), expected) for line in noisy.lines)


def test_figure_2_draws_a_mean_per_kind_of_noise_and_a_point_per_seed(noise_tables):
    risks, rankings = noise_tables
    first, second, *_, below = figures.fig2_mnist_noise(risks, rankings).axes
    # ramp comes before logistic in every figure
    rows = risks[(risks.method == "ramp") & (risks.noise_pair == "0.1-0.3")]
    expected = rows.groupby(["condition", "epoch"]).test_risk.mean().unstack()
    drawn = sorted(tuple(line.get_ydata()) for line in first.lines)
    assert np.array(drawn) == pytest.approx(np.array(sorted(map(tuple, expected.to_numpy()))))
    assert {"asymmetric", "equivalent", "tied"} == {text.get_text() for text in second.texts}
    points = [line for line in below.lines if line.get_marker() == "."]
    drawn = sorted(tau for line in points for tau in line.get_xdata())
    assert drawn == pytest.approx(sorted(rankings.tau))
    assert {"same", "tied", "ramp", "logistic"} == {text.get_text() for text in below.texts}


def test_figure_2_averages_tau_over_the_pairs_of_rates_of_a_seed(noise_tables):
    risks, rankings = noise_tables
    more = rankings.assign(noise_pair="0.2-0.6", tau=rankings.tau + 1)
    both = pd.concat([rankings.assign(noise_pair="0.1-0.3"), more])
    below = figures.fig2_mnist_noise(risks, both).axes[-1]
    points = [line for line in below.lines if line.get_marker() == "."]
    drawn = sorted(tau for line in points for tau in line.get_xdata())
    assert drawn == pytest.approx(sorted(rankings.tau + 0.5))


@pytest.fixture
def judged():
    generator = np.random.default_rng(0)
    axes = {"method": ["sympo_ramp", "dpo"], "noise_rate": [0.0, 0.3, 0.4], "seed": [0, 1, 2]}
    table = GRID(axes.values(), names=axes).to_frame(index=False)
    for name in ("win_rate", "win_rate_chosen", "accuracy"):
        table[name] = generator.uniform(0.5, 0.7, len(table))
    return table.assign(judge_accuracy=0.6 + 0.01 * table.seed, sft_chosen=0.3 + 0.01 * table.seed)


@pytest.mark.parametrize("draw", [figures.fig5_hh_win_rate, figures.fig6_ultrafeedback_win_rate])
def test_figures_5_and_6_draw_the_means_over_seeds_of_every_measure(draw, judged):
    before = judged.copy()
    top, middle, bottom = draw(judged).axes
    pd.testing.assert_frame_equal(judged, before)
    for axes, value in (
        (top, "win_rate"),
        (middle, "win_rate_chosen"),
        (bottom, "accuracy"),
    ):
        # moved apart, so that both can be seen
        for method, aside in (("dpo", -0.003), ("sympo_ramp", 0.003)):
            check_method(axes, judged[judged.method == method], value, aside=aside)
    heights = {text.get_text(): text.xy[1] for text in bottom.texts}
    assert heights["the judge"] == pytest.approx(0.61)
    assert {"SymPO ramp", "DPO", "chance", "the judge"} == set(heights)
    assert {"SymPO ramp", "DPO", "the SFT model"} == {text.get_text() for text in top.texts}
    heights = {text.get_text(): text.xy[1] for text in middle.texts}
    assert heights["SFT model"] == pytest.approx(0.31)
    assert {"SymPO ramp", "DPO", "the chosen answers", "SFT model"} == set(heights)


def check_method(axes, rows, value, *, aside):
    """The line, the points and the bars of one method are those of its rows."""
    colour = figures.look(rows.method.iloc[0])["color"]
    own = [line for line in axes.lines if colour_of(line) == colour]
    line, points = sorted(own, key=lambda line: line.get_markersize(), reverse=True)
    by_rate = {rate: compute_interval(part[value]) for rate, part in rows.groupby("noise_rate")}
    assert line.get_xdata() == pytest.approx(np.array(list(by_rate)) + aside)
    assert line.get_ydata() == pytest.approx([mean for mean, _, _ in by_rate.values()])
    assert sorted(points.get_ydata()) == sorted(rows[value])
    (bars,) = [bar.get_segments() for bar in axes.collections if colour_of(bar) == colour]
    for (bottom, top), (_, low, high) in zip(bars, by_rate.values(), strict=True):
        assert (bottom[1], top[1]) == pytest.approx((low, high))


def test_two_seeds_are_drawn_without_bars(judged, recwarn):
    figure = figures.fig5_hh_win_rate(judged[judged.seed < 2])
    figure.draw_without_rendering()
    assert not [bar for axes in figure.axes for bar in axes.collections if bar.get_segments()]
    assert not recwarn


def test_the_interval_of_a_share_stays_in_0_to_1_and_needs_three_seeds():
    cells = {"a": [0.99, 0.9, 1.0], "b": [0.4, 0.6], "c": [0.4, 0.5, 0.6], "d": [0.5]}
    rows = [(name, value) for name, values in cells.items() for value in values]
    table = pd.DataFrame(rows, columns=["method", "accuracy"])
    options = {"by": "method", "value": "accuracy"}
    share = figures.interval_table(table, **options, proportion=True).set_index("method")
    number = figures.interval_table(table, **options).set_index("method")
    assert share.n.to_list() == [3, 2, 3, 1]
    assert share.estimate.to_list() == pytest.approx([np.mean(values) for values in cells.values()])
    assert share.loc[["b", "d"], ["low", "high"]].isna().all(axis=None)
    for name in ("a", "c"):
        _, low, high = compute_interval(cells[name])
        assert number.loc[name, ["low", "high"]].to_list() == pytest.approx([low, high])
        assert share.loc[name, ["low", "high"]].to_list() == pytest.approx([low, min(high, 1)])
    assert number.high["a"] > 1
    with pytest.raises(ValueError, match="no proportion"):
        figures.interval_table(table.assign(accuracy=2.0), **options, proportion=True)


def test_bars_end_at_1_where_a_share_cannot_go_further():
    rows = [("dpo", rate, seed, 0.9 + 0.05 * seed) for rate in (0.0, 0.4) for seed in range(3)]
    table = pd.DataFrame(rows, columns=["method", "noise_rate", "seed", "win_rate"])
    axes = figures.fig3_gold_win_rate(table.assign(regime="fresh")).axes[0]
    _, low, high = compute_interval([0.9, 0.95, 1.0])
    assert high > 1
    for bars in (bar.get_segments() for bar in axes.collections):
        for (_, bottom), (_, top) in bars:
            assert (bottom, top) == pytest.approx((low, 1))


def test_drawing_needs_no_torch():
    lines = (
        "import sys",
        "from sympo.book import figures, verify",
        "figures.in_order(['sympo_ramp', 'dpo'])",
        "print(figures.label('sympo_ramp'), 'torch' in sys.modules)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "SymPO ramp False\n"


def test_a_table_in_markdown_holds_text_alone(tmp_path):
    hostile = "<script>a()</script>\n`b` $x$ | c"
    table = pd.DataFrame({hostile: [hostile]})
    write_table(table, "table", tmp_path, caveat="")
    head, _, row = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert head == row == r"| \<script>a()\</script> \`b\` \$x\$ \| c |"
