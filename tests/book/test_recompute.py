"""Every committed contrast, computed again from the committed runs with numpy and scipy alone.

The runs are committed with six digits, so a difference of two is known to a millionth: far finer
than the three decimals that are printed.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from scipy import stats as scipy_stats

from sympo.studies import profiles

# of MNIST there are results from a GPU as well
MNIST_PROFILES = pytest.mark.parametrize("profile", ["laptop", "gpu"])
MARGIN = 0.02
NOT_SEEN = "not seen at this scale"


def read(stem, profile="laptop"):
    return pd.read_csv(profiles.committed_figures(profile) / "data" / f"{stem}.csv")


def compare(a, b):
    """n, mean difference, 95% interval, p and detectable difference; NaN for one or two pairs."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    difference = a - b
    n = len(difference)
    result = {"n": n, "estimate": difference.mean()}
    if n < 3:
        return {**result, **dict.fromkeys(["low", "high", "p", "detectable"], np.nan)}
    error = difference.std(ddof=1) / np.sqrt(n)
    half = scipy_stats.t.ppf(0.975, n - 1) * error
    p = 2 * scipy_stats.t.sf(abs(difference.mean()) / error, n - 1)
    # by a search over the power of the two-sided test, in units of the error
    critical = scipy_stats.t.ppf(0.975, n - 1)

    def power(shift):
        return scipy_stats.nct.sf(critical, n - 1, shift) + scipy_stats.nct.sf(
            critical, n - 1, -shift
        )

    shift = optimize.bisect(lambda shift: power(shift) - 0.8, 0, 50)
    low, high = difference.mean() - half, difference.mean() + half
    return {**result, "low": low, "high": high, "p": p, "detectable": shift * error}


def correct(p_values):
    """Holm: the k-th least of m is multiplied by m − k + 1, and none falls below the one before."""
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    floor = 0.0
    for rank, index in enumerate(sorted(tested, key=lambda index: p_values[index])):
        floor = max(floor, min(1.0, p_values[index] * (len(tested) - rank)))
        adjusted[index] = floor
    return adjusted


def judge(row, p, *, expected=1):
    if np.isnan(p):
        return NOT_SEEN
    if max(abs(row["low"]), abs(row["high"])) <= MARGIN:
        return "no difference larger than 0.02"
    if p >= 0.05:
        return NOT_SEEN
    return "reproduced" if row["estimate"] * expected > 0 else "contradicted"


def check_row(printed, expected):
    """A printed row against the numbers computed here."""
    assert printed["n"] == expected["n"]
    for name in ("estimate", "low", "high", "detectable"):
        # rounded inputs move a mean by a millionth, its interval by a few
        assert printed[name] == pytest.approx(expected[name], abs=1e-5, nan_ok=True), name
    for name in ("p", "p_holm"):
        if name in printed and name in expected:
            assert printed[name] == pytest.approx(expected[name], rel=0.02, nan_ok=True), name


def check_contrasts(table, pairs, *, expected=1):
    """All rows of one family of Holm, whose values `pairs` gives by method and baseline."""
    computed = [compare(*pairs(row.method, row.baseline)) for row in table.itertuples()]
    adjusted = correct(np.array([each["p"] for each in computed]))
    for (_, printed), each, p_holm in zip(table.iterrows(), computed, adjusted, strict=True):
        check_row(printed, {**each, "p_holm": p_holm})
        if "verdict" in printed:
            assert printed["verdict"] == judge(each, p_holm, expected=expected)


def by_seed(runs, value):
    """The values of a method and a baseline, seed by seed, where both have run."""
    wide = runs.pivot(index="seed", columns="method", values=value)

    def pairs(method, baseline):
        both = wide[[method, baseline]].dropna()
        return both[method], both[baseline]

    return pairs


@MNIST_PROFILES
def test_mnist_contrasts(profile):
    runs = read("fig1_mnist_losses", profile)
    table = read("table1_mnist_contrasts", profile)
    values = {"final": "accuracy", "chosen": "chosen_accuracy"}
    assert set(table.epoch) == set(values)
    for (rate, epoch), family in table.groupby(["noise_rate", "epoch"]):
        cells = set(zip(family.method, family.baseline, strict=True))
        assert cells == {(a, b) for a in ("sigmoid", "ramp") for b in ("logistic", "hinge")}
        check_contrasts(family, by_seed(runs[runs.noise_rate == rate], values[epoch]))
    assert set(table.noise_rate) >= {0.3, 0.4, 0.45}


@MNIST_PROFILES
def test_mnist_contrasts_without_noise(profile):
    runs = read("fig1_mnist_losses", profile)
    table = read("table1_mnist_clean", profile)
    assert {"sigmoid", "ramp"} == set(table.method)
    columns = {"final": "accuracy", "chosen": "chosen_accuracy"}
    assert {*columns} == {*table.epoch}
    for epoch, rows in table.groupby("epoch"):
        clean = by_seed(runs[runs.noise_rate == 0], columns[epoch])
        # a claim of the other sign: harder to optimise
        check_contrasts(rows.drop(columns="verdict"), clean)


@MNIST_PROFILES
@pytest.mark.parametrize("policy", ["KL = 1", "β = 1"])
def test_mnist_policy_contrasts(policy, profile):
    runs = read("fig10_mnist_policy", profile)
    value = {"KL = 1": "equal_kl", "β = 1": "equal_beta"}[policy]
    table = read("table7_mnist_policy_contrasts", profile)
    table = table[table.policy == policy]
    assert {*table.epoch} == {*runs.epoch}
    for (rate, epoch), family in table.groupby(["noise_rate", "epoch"]):
        cells = set(zip(family.method, family.baseline, strict=True))
        assert cells == {(a, b) for a in ("sigmoid", "ramp") for b in ("logistic", "hinge")}
        here = runs[(runs.noise_rate == rate) & (runs.epoch == epoch)]
        check_contrasts(family, by_seed(here, value))
    assert set(table.noise_rate) >= {0.3, 0.4, 0.45}


@MNIST_PROFILES
@pytest.mark.parametrize("policy", ["KL = 1", "β = 1"])
def test_mnist_policy_without_noise(policy, profile):
    runs = read("fig10_mnist_policy", profile)
    value = {"KL = 1": "equal_kl", "β = 1": "equal_beta"}[policy]
    table = read("table7_mnist_policy_clean", profile)
    table = table[table.policy == policy]
    assert {*table.epoch} == {*runs.epoch}
    for epoch, family in table.groupby("epoch"):
        clean = runs[(runs.noise_rate == 0) & (runs.epoch == epoch)]
        # a claim of the other sign: that symmetric losses pay a price
        check_contrasts(family, by_seed(clean, value), expected=-1)


@MNIST_PROFILES
def test_the_gain_of_trained_models_follows_their_wrong_pairs(profile):
    models = read("fig12_broken_order_learned", profile)
    models = models[models.method != "unhinged"]
    assert np.corrcoef(models.violated, models.gain)[0, 1] ** 2 > 0.9


@MNIST_PROFILES
def test_the_same_order_gains_or_loses_with_its_values(profile):
    made = read("fig12_broken_order_made", profile).set_index("case")
    far, evenly = made.loc["bad far above"].iloc[1:], made.loc["bad evenly spaced"].iloc[1:]
    assert far.violated.tolist() == evenly.violated.tolist()
    assert (far.gain < 0).all()
    assert (evenly.gain > 0).all()


@MNIST_PROFILES
def test_mnist_noise_differences_are_means_within_seeds_first(profile):
    risks = read("fig2_mnist_noise_risks", profile)
    final = risks[risks.epoch == risks.epoch.max()]
    accuracy = final.groupby(["seed", "condition"]).accuracy.mean().unstack()
    rankings = read("fig2_mnist_noise_rankings", profile)
    tau = rankings.groupby(["seed", "comparison"]).tau.mean().unstack()
    # the last of two seeds has no yardstick
    tau = tau.dropna(subset="equivalent, other data")
    pairs = {
        "asymmetric − equivalent": (accuracy.asymmetric, accuracy.equivalent),
        "tied − equivalent": (accuracy.tied, accuracy.equivalent),
        "τ(asymmetric, equivalent) − yardstick": (
            tau["asymmetric, equivalent"],
            tau["equivalent, other data"],
        ),
    }
    table = read("table2_mnist_noise", profile).set_index("difference")
    assert set(pairs) <= set(table.index)
    for name, (one, other) in pairs.items():
        check_row(table.loc[name], compare(one, other))
    tied = compare(*pairs["tied − equivalent"])
    assert table.verdict["tied − equivalent"] == judge(tied, tied["p"], expected=-1)
    same = compare(*pairs["asymmetric − equivalent"])
    # learned: both far above chance, which is ½
    assert accuracy[["asymmetric", "equivalent"]].mean().min() > 0.6
    inside = max(abs(same["low"]), abs(same["high"])) <= MARGIN
    outside = same["low"] > MARGIN or same["high"] < -MARGIN
    verdict = "reproduced" if inside else "contradicted" if outside else NOT_SEEN
    assert table.verdict["asymmetric − equivalent"] == verdict


def buy(rows, seed, budget=0.25):
    """A seed's win rate at a KL, along the roots of the KL; NaN beyond its policies."""
    rows = rows[rows.seed == seed]
    points = sorted(zip(rows.kl, rows.win_rate, strict=True))
    for (low, before), (high, after) in pairwise(points):
        if low <= budget <= high:
            share = (budget**0.5 - low**0.5) / (high**0.5 - low**0.5)
            return before + share * (after - before)
    return np.nan


def choose(rows, seed, value):
    """The value of a seed at the β that does best on the validation labels of the others."""
    betas = sorted(set(rows.beta))
    means = [rows[(rows.beta == beta) & (rows.seed != seed)].validation.mean() for beta in betas]
    best = betas[int(np.argmax(means))]
    (row,) = rows[(rows.beta == best) & (rows.seed == seed)].itertuples()
    return getattr(row, value)


def test_gold_contrasts():
    at_paper = read("fig3_gold_win_rate")
    runs = read("fig4_gold_frontier")
    table = read("table_gold_contrasts")
    lowest = at_paper.noise_rate.min()
    keys = ["comparison", "regime", "noise_rate", "value"]
    for (comparison, regime, rate, value), family in table.groupby(keys):
        beside = "other methods" in comparison
        if comparison.startswith("the paper's β"):
            here = at_paper[(at_paper.regime == regime) & (at_paper.noise_rate == rate)]
            pairs = by_seed(here, value)
        else:
            assert rate > lowest
            here = runs[(runs.regime == regime) & (runs.noise_rate == rate)]
            own = comparison == "its own β"
            cells = [
                {
                    "method": method,
                    "seed": seed,
                    value: choose(rows, seed, value) if own else buy(rows, seed),
                }
                for method, rows in here.groupby("method")
                for seed in set(rows.seed)
            ]
            pairs = by_seed(pd.DataFrame(cells), value)
        # those beside DPO are a family of their own
        baselines = {"cdpo", "rdpo", "ropo"} & set(here.method) if beside else {"dpo"}
        ours = ("sympo_sigmoid", "sympo_ramp")
        assert set(zip(family.method, family.baseline, strict=True)) == {
            (a, b) for a in ours for b in baselines
        }
        # a budget that most seeds have no policies around is not measured
        reached = [len(pairs(row.method, row.baseline)[0]) for row in family.itertuples()]
        few = 2 * np.array(reached) < here.seed.nunique()
        few &= comparison == "equal KL"
        assert few.tolist() == (family.verdict == "not measured").tolist()
        assert family.n.tolist() == reached
        assert family[few][["estimate", "low", "high", "p", "p_holm"]].isna().all(axis=None)
        check_contrasts(family[~few], pairs)
    # accuracy is not defined at a KL between two policies
    rates = at_paper.noise_rate.nunique()
    assert table.groupby(keys).ngroups == 2 * (2 * rates + 2 + (2 + 1) * (rates - 1))


def test_who_loses_less_in_the_gold_world():
    runs = read("fig3_gold_win_rate")
    table = read("table_gold_falls")
    for regime, family in table.groupby("regime"):
        wins = runs[runs.regime == regime].pivot_table("win_rate", ["method", "seed"], "noise_rate")
        falls = (wins[wins.columns.max()] - wins[wins.columns.min()]).rename("fall").dropna()
        check_contrasts(family, by_seed(falls.reset_index(), "fall"))
    assert len(table) == 4


def test_what_noise_costs_in_the_gold_world():
    runs = read("fig3_gold_win_rate")
    table = read("table_gold_noise")
    runs = runs[runs.groupby("method").noise_rate.transform("nunique") > 1]
    assert (table.noise_rate == runs.noise_rate.max()).all()
    assert (table.against == runs.noise_rate.min()).all()
    rows = table.set_index(["regime", "method"])
    for key, cells in runs.groupby(["regime", "method"]):
        wide = cells.pivot(index="seed", columns="noise_rate", values="win_rate")
        cost = compare(wide[wide.columns.max()], wide[wide.columns.min()])
        check_row(rows.loc[key], {**cost, "p_holm": cost["p"]})
    assert len(rows) == runs.groupby(["regime", "method"]).ngroups
