"""T6 and T14 with one thing changed: the check cells notice it."""

import matplotlib as mpl
import mutants
import numpy as np
import pytest
import sympy
from pages import load_functions

from sympo.studies import profiles

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A place for figures that nobody looks at."""
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "agg"}):
        folder = tmp_path_factory.mktemp("build")
        patch.setattr(profiles, "build_folder", lambda profile: folder / profile)
        yield


def has_part(source, tags, claims, functions):
    """Whether a cell checks one of `claims`, or is one of those that they need."""
    needed = "parameters" in tags or "import numpy as np" in source
    defined = any(f"def {name}(" in source for name in functions)
    return needed or defined or not {*claims}.isdisjoint(tags)


@pytest.fixture(scope="module")
def magnitudes(build):
    """T6 in notebook 03, with what it takes from T5."""
    find_limits = load_functions("03_symmetric_losses").find_limits
    claims = ("claim-calibration", "claim-no-magnitudes")
    functions = ("measure_calibration", "find_minimisers", "tabulate_minimisers")
    return mutants.Page(
        "03_symmetric_losses",
        keep=lambda source, tags: has_part(source, tags, claims, functions),
        find_limits=find_limits,
        half=sympy.Rational(1, 2),
        generator=np.random.default_rng(0),
        profile="smoke",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        # the conditional risk, (2η−1)·ℓ(z) + (1−η)·K: its constant, its sign
        ("value + (1 - eta) * K\n", "value + eta * K\n"),
        ("formula = (2 * eta - 1)", "formula = (1 - 2 * eta)"),
        # calibrated: where the infimum lies; a loss that is symmetric and calibrated is not useless
        ("assert right < expr.subs(z, 0)", "assert right < expr.subs(z, sympy.oo)"),
        ("wave = half - sympy.sin(z) / 2", "wave = half - z / (1 + z**2)"),
        # the theorem: a > 0 on one side alone; symmetric losses alone; the limit at +∞
        ("a = (2 * other - 1)", "a = (1 - 2 * other)"),
        ("other_side = {eta: sympy.Rational(3, 5), other: sympy.Rational(2, 5)}",
         "other_side = {eta: sympy.Rational(3, 5), other: sympy.Rational(4, 5)}"),
        ("lowest, _ = find_limits", "_, lowest = find_limits"),
        ("all(equal[name] for name, loss in losses.LOSSES.items() if loss.symmetric)",
         "all(equal[name] for name, loss in losses.LOSSES.items() if loss.calibrated)"),
        # one pair: what has the same data
        ("count_labels(0.6, 0.1, 100)", "count_labels(0.6, 0.2, 100)"),
        ("(1 - 2 * rate) * eta + rate - seen", "(1 - rate) * eta + rate - seen"),
        # the box: noise scales the weights; another loss is moved by it
        ("((1 - 2 * flips) * clear + flips", "((1 - flips) * clear + flips"),
        ('fn = losses.get("sigmoid").fn\nlearned', 'fn = losses.get("logistic").fn\nlearned'),
        # the logistic minimiser under noise
        ("seen = (1 - 2 * rate) * p + rate", "seen = (1 - rate) * p + rate"),
    ],
)  # fmt: skip
def test_a_wrong_statement_of_t6_is_noticed(magnitudes, old, new):
    assert magnitudes.notices(old, new)


@pytest.fixture(scope="module")
def thermometer(build):
    """T14 in notebook 13."""
    claims = ("claim-thermometer", "claim-re-rating", "claim-magnitudes-of-several-pairs")
    functions = ("rate_twice",)
    return mutants.Page(
        "13_noise_patterns",
        keep=lambda source, tags: has_part(source, tags, claims, functions),
        profile="smoke",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        # the formula: its sign, its parts, k² and not k
        ("return -m_1 * m_2 * m_3", "return m_1 * m_2 * m_3"),
        ("m_2 * m_3 / (m_1 + m_2 + m_3)\n", "m_2 * m_3 / (m_1 + m_2 - m_3)\n"),
        ("read_thermometer(*sides) - kept**2", "read_thermometer(*sides) - kept"),
        # its conditions: distinct rewards, rates of their own
        ("part.subs(lower, 0)", "part.subs(lower, 1)"),
        ("own[2]: 0.8", "own[2]: 1"),
        # labels: a flip turns them; ±1 and not shares
        ("generator.binomial(true, 1 - rate)", "generator.binomial(true, 1 - rate / 2)"),
        ("read_thermometer(*counted.mean(axis=0))",
         "read_thermometer(*(2 * counted - 1).mean(axis=0))"),
        # what a reading is worth: the first order, the power, dε = d(k²)/4k
        ("slope**2 * (1 - side**2)", "slope**2 * (1 - side)"),
        ("e**6 * find_variance", "e**4 * find_variance"),
        ("(4 * true_kept * 0.02)", "(2 * true_kept * 0.02)"),
        # false thermometers
        ("Cauchy\": cauchy.cdf", "Cauchy\": laplace.cdf"),
        ("[0.15, 0.15, 0.3]", "[0.2, 0.2, 0.2]"),
        ("[0, -0.2, 0.2]", "[0, 0, 0]"),
        # re-rating: its two formulas, and the label that is the same both times
        ("(both, False, (1 - true_rate) ** 2 + true_rate**2)",
         "(both, False, (1 - true_rate) ** 2)"),
        ("0.5 + square / 2", "0.5 + square"),
        ("((0, 0), True,", "((0, 0), False,"),
        # many triangles: another rate in the data, a link that is right
        ("draw_prompts(prompts, ratings, true_rate, heat)",
         "draw_prompts(prompts, ratings, true_rate + 0.1, heat)"),
        ("heat, cauchy.cdf)", "heat, expit)"),
        # what the interval hangs on
        ("heat, spread=spread)", "heat)"),
        # magnitudes: a rate that is wrong, and one that is not
        ('"ε told": true_rate', '"ε told": true_rate - 0.1'),
        ('"ε = 0 assumed": 0.0', '"ε = 0 assumed": true_rate'),
    ],
)  # fmt: skip
def test_a_wrong_statement_of_t14_is_noticed(thermometer, old, new):
    assert thermometer.notices(old, new)
