"""T10 with one thing changed: the check cells of notebook 14 notice it."""

import matplotlib as mpl
import mutants
import pytest

from sympo.studies import profiles

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def theory(tmp_path_factory):
    """The theory of notebook 14: no cell that trains, or that needs what was trained."""
    trained = ("run_study", "final", "collapse.", "prices", "provenance")
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "agg"}):
        folder = tmp_path_factory.mktemp("build")
        patch.setattr(profiles, "build_folder", lambda profile: folder / profile)
        yield mutants.Page(
            "14_finite_sample",
            keep=lambda source, tags: not any(name in source for name in trained),
            profile="smoke",
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        # labels: flips turn them, and only them
        ("counts - true, noise_rate)", "counts - true, 1 - noise_rate)"),
        # (a): noise is a factor; both constants, and the noise rate, of the bound
        ("(1 - 2 * rate) * excess", "(1 - rate) * excess"),
        ("return 2 * 0.5 * complexity", "return 0.5 * complexity"),
        ("return 2 * 0.5 * complexity", "return 4 * 0.5 * complexity"),
        ("np.log(2 / delta) / (2 * n)", "np.log(2 / delta) / (4 * n)"),
        ("np.log(2 / delta) / (2 * n)", "np.log(2 / delta) / n"),
        # the whole of it: no part, factor or constant may go
        ("2 * allowance) / (1 - 2 * noise_rate)", "2 * allowance) / (1 - noise_rate)"),
        ("2 * allowance) / (1 - 2 * noise_rate)", "2 * allowance) * (1 - 2 * noise_rate)"),
        ("2 * allowance) / (1 - 2 * noise_rate)", "2 * allowance)"),
        ("2 * allowance) / (1 - 2 * noise_rate)", "2 * allowance) / (1 - 2 * noise_rate) ** 2"),
        ("(mean + 2 * allowance)", "(2 * allowance)"),
        ("(mean + 2 * allowance)", "(mean + allowance)"),
        ("(mean + 2 * allowance)", "(mean + 2 * allowance) / 11"),
        ("(mean + 2 * allowance)", "(mean + 2 * allowance) * 1.1"),
        ("generator.binomial(counts, 0.5) - counts", "generator.binomial(counts, 0.6) - counts"),
        # (b): K/2 − inf ℓ, and the symmetry
        ("excess.sum(axis=1) / 0.5", "excess.sum(axis=1) / 1"),
        ("excess.sum(axis=1) / 0.5", "excess.sum(axis=1) / 0.25"),
        ("(1 - eta_) * (K - ell)", "(1 - eta_) * (K + ell)"),
        # (c): the exponent, the margin, the number that suffices, strict majorities of neighbours
        ("** (labels / 2)).sum()", "** labels).sum()"),
        ("return (1 - 2 * noise_rate) * (2 * expit", "return (1 - noise_rate) * (2 * expit"),
        ("enough = 2 * np.log", "enough = 0.5 * np.log"),
        ("enough = 2 * np.log", "enough = 8 * np.log"),
        ("np.where(neighbours, labels", "np.where(~neighbours, labels"),
        ("assert not (wrong & condition)", "assert not (wrong & ~condition)"),
        ("np.log(references) + learned", "np.log(references) - learned"),
        ("exchanged = np.diff(learned) > 0", "exchanged = np.diff(learned) > 1"),
        # (d): the ratio of exponents, the simple form, ¼, the mirror, what is necessary and enough
        ("upper = -sympy.log(1 - m**2) / 2", "upper = -sympy.log(1 - m**2)"),
        ("slack = 2 * m / (1 - m**2)", "slack = m / (1 - m**2)"),
        ("(vote >= floor / 4)", "(vote >= floor)"),
        ("rules @ chance[::-1]", "rules @ chance"),
        ("/ (2 * margin**2)", "/ (margin**2 / 4)"),
        ("sufficient = 2 * np.log", "sufficient = 0.5 * np.log"),
        # (e): the axes
        ("np.log(1 - margin**2)\n", "np.log(1 + margin**2)\n"),
        ("clt = labels * margin**2 / (1 - margin**2)", "clt = labels * margin**2"),
        ("factor = -np.log(1 - cleanest**2) / cleanest**2", "factor = -np.log(1 - cleanest**2)"),
        ('["effective", "effective", "clt"]', '["effective", "effective", "effective"]'),
    ],
)
def test_a_wrong_statement_of_t10_is_noticed(theory, old, new):
    assert theory.notices(old, new)
