"""T11 with one thing changed: the check cells of notebook 13 notice it."""

import matplotlib as mpl
import mutants
import pytest

from sympo.studies import profiles

CLAIMS = {"claim-instance-dependent-noise", "claim-item-dependent-noise"}
DEFINED = ("import sympy", "def best_orders", "def find_excess", "fig_t11_band(")

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def theory(tmp_path_factory):
    """The two parts of T11: no cell that trains, and none of T14."""
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "agg"}):
        folder = tmp_path_factory.mktemp("build")
        patch.setattr(profiles, "build_folder", lambda profile: folder / profile)
        yield mutants.Page(
            "13_noise_patterns",
            keep=lambda source, tags: bool(
                CLAIMS & {*tags} or "parameters" in tags or any(text in source for text in DEFINED)
            ),
            profile="smoke",
        )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # (a): the weight, the rest, and what a flip is
        ("rest = noisy - (1 - 2 * eps) * clean", "rest = noisy - (1 - eps) * clean"),
        ("(1 - eps) * ell(margin) + eps * ell(-margin)", "ell(margin) + eps * ell(-margin)"),
        ("left = with_flips - (1 - 2 * rates)", "left = with_flips - (1 - rates)"),
        # its conditions: ½ for neighbours, more than ½ for others, and what the ramp then prefers
        ("generator.uniform(0, 0.49, worlds", "generator.uniform(0.51, 0.9, worlds"),
        ("silent & (abs(theory.compute_gaps(ranks)) > 1)", "silent"),
        ("] = 0.5\nseen", "] = 0.9\nseen"),
        ('"ε_ac = .9": [0, 0.9, 0]', '"ε_ac = .9": [0, 0.45, 0]'),
        ('"ε_ab = ½": [0.5, 0, 0]', '"ε_ab = ½": [0.45, 0, 0]'),
        ("seen = np.array(rates) + (1 - 2", "seen = np.array(rates) + (1 - 1"),
        # the bound: its ratio, its direction, and how near a class comes
        ("bound = (1 - 2 * flip_rates.min((1, 2)))", "bound = (1 - 2 * flip_rates.max((1, 2)))"),
        ("assert 0.999 < learned / best / 4 < 1", "assert 0.999 < learned / best / 5 < 1"),
        ("np.array([[[0.1, 0.6]]])", "np.array([[[0.1, 0.4]]])"),
        # (b): the lean, its edge, and that equal rates are needed
        ("(1 - plus - minus) - (minus - plus)) == 0", "(1 - plus - minus) - (plus - minus)) == 0"),
        ("(2 * eta - 1) * (1 - plus - minus)", "(2 * eta - 1) * (1 - plus)"),
        ("(plus - minus) / (2 * (1 - plus", "(plus - minus) / ((1 - plus"),
        ("(plus - minus) / (2 * (1 - plus", "(minus - plus) / (2 * (1 - plus"),
        ("lean.subs(eta, half) - (minus - plus)", "lean.subs(eta, half) - (plus - minus)"),
        ("tilde = grid * (1 - first)", "tilde = grid * (1 - second)"),
        ("0.5 + (first - second) / (2 *", "0.5 + (first - second) / (1 *"),
        ("assert wrong.any() == (first != second)", "assert wrong.any() == (first > second)"),
        ("(2 * (1 - first - second)), 9)", "(2 * (1 - first - second)), 9).clip(0, 1)"),
        ("[second > 0.5, first > 0.5]", "[False, False]"),
        # a pair inside and one outside, and the same rates by position
        ("turn, *two_rates, generator)", "turn, *two_rates[::-1], generator)"),
        ('turn = written if kind == "position" else 1', "turn = 1"),
        ("(1 - 2 * 0.2) * (2 * win - 1)", "(1 - 0.2) * (2 * win - 1)"),
        # a whole ranking, and Bradley–Terry
        ("([0.8, 0.4, 0.0], False)", "([1.6, 0.8, 0.0], False)"),
        ("by_item = truly * (1 - 0.3) + (1 - truly) * 0.1", "by_item = truly * 0.8 + 0.1"),
        ("best_orders(truly, (0.3 + 0.1) / 2)", "best_orders(truly, 0.3 + 0.3)"),
        ("close_rate = sigma.subs(gap, -gap)", "close_rate = sigma"),
        ("expit(-abs(deltas))", "expit(-2 * abs(deltas))"),
    ],
)
def test_a_wrong_statement_of_t11_is_noticed(theory, old, new):
    assert theory.notices(old, new)
