"""What notebooks 05, 07 and 09 found, in sentences that 00 and 16 repeat: computed, not copied."""

import pandas as pd

from sympo.book import claims, paper
from sympo.book.figures.style import label
from sympo.book.full_grid import read_full_grid
from sympo.studies import profiles

SYMPO = ("sigmoid", "ramp")
HIGH = 0.4  # the noise rate of the headline


def share_kept(policies: pd.DataFrame) -> pd.DataFrame:
    """Which share of its gain over ½ each method keeps from the lowest noise rate to the highest.

    Everything falls towards ½, so that in points of win rate whoever starts higher falls farther. A
    share is that of mean gains over the seeds.

    Args:
        policies: columns regime, method, noise_rate and win_rate, a row per policy at one β.
    Returns:
        a row per regime, a column per method.
    Check: tests/book/test_retold.py.
    """
    gains = policies.assign(gain=policies.win_rate - 0.5)
    gains = gains.pivot_table("gain", ["regime", "method"], "noise_rate")
    rates = gains.columns
    return (gains[rates.max()] / gains[rates.min()]).unstack("method")


def describe_kept(policies: pd.DataFrame) -> str:
    """`share_kept` of DPO and of SymPO losses, as a sentence."""
    kept = share_kept(policies)
    ours = kept.drop(columns="dpo")
    less = ours.lt(kept.dpo, axis=0).any(axis=None)
    rates = policies.noise_rate
    return (
        "In points of win rate whoever starts higher falls farther. From "
        f"ε = {rates.min():g} to {rates.max():g} SymPO keeps {ours.min(axis=None):.0%} to "
        f"{ours.max(axis=None):.0%} of its gain over ½, DPO {kept.dpo.min():.0%} to "
        f"{kept.dpo.max():.0%}; in each regime SymPO keeps "
        f"{'not always as much' if less else 'as much as DPO, or more'}."
    )


def describe_left(counted: pd.DataFrame) -> str:
    """How many policies of each method left the grammar, and where most did.

    Args:
        counted: columns regime, noise_rate, method, left and count, of policies at one β.
    Check: tests/book/test_retold.py.
    """
    totals = counted.groupby("method")[["left", "count"]].sum()
    listed = ", ".join(
        f"{label(method)} {left} of {count}" for method, left, count in totals.itertuples()
    )
    most = counted.loc[counted.left.idxmax()]
    text = (
        "Policies that left the grammar at the paper’s β, where fewer than half as many answers "
        f"are reviews as before: {listed}; most at ε = {most.noise_rate:g} with {most.regime} "
        f"pairs, {label(most.method)} {most.left} of {most['count']}."
    )
    if (totals.left.drop("dpo") > totals.left.dpo).all():
        text += (
            " So part of what SymPO wins with at the paper’s β is text that nobody would write, "
            "and more of it than of DPO’s."
        )
    return text


def retell_known_reward(profile: str) -> str:
    """`describe_left` and `describe_kept` of the saved results of notebook 09.

    Returns:
        "" without such results, and where they are no evidence.
    Check: tests/book/test_retold.py.
    """
    stems = ("table_gold_answers", "fig3_gold_win_rate")
    paths = [profiles.find_result(profile, f"data/{stem}.csv") for stem in stems]
    if None in paths or profiles.caveat(profile):
        return ""
    counted, policies = (pd.read_csv(path) for path in paths if path)
    at_paper = counted[counted.beta == policies.beta.iloc[0]]
    several = policies.groupby("method").noise_rate.transform("nunique") > 1
    return f"{describe_left(at_paper)} {describe_kept(policies[several])}"


def retell_full_grid() -> str:
    """What the paper's whole grid of MNIST, at its own number of epochs, says in profile gpu.

    Raises:
        FileNotFoundError: there are no such results.
    Check: tests/book/test_retold.py.
    """
    stems = ("fig1_mnist_losses", "table1_mnist_contrasts", "fig1_learning_curves")
    (models, contrasts, curves), origin = read_full_grid("05_mnist_losses", *stems)
    (policies,), _ = read_full_grid("07_mnist_policy", "fig10_mnist_policy")
    won = (contrasts.verdict == "reproduced").groupby(contrasts.epoch)
    won = {epoch: f"{each.sum()} of {len(each)}" for epoch, each in won}
    high = contrasts[contrasts.noise_rate >= HIGH]
    leads = high.groupby(["noise_rate", "epoch"]).estimate.mean().unstack()
    listed = "; ".join(
        f"at ε = {rate:g} by {lead.final:+.3f} and {lead.chosen:+.3f} on average"
        for rate, lead in leads.iterrows()
    )
    accuracy = models[models.noise_rate == HIGH].groupby("method").accuracy.mean()
    last = policies[(policies.noise_rate == HIGH) & (policies.epoch == "final")]
    win_rate = last.groupby("method").equal_kl.mean()
    text = (
        f"**At the paper’s {curves.epoch.max()} epochs** ({origin}) sigmoid and ramp are shown to "
        f"be above logistic and hinge in {won['final']} comparisons at the last epoch, and in "
        f"{won['chosen']} at the epoch that noisy pairs choose; {listed}."
    )
    free = "truncated_hinge"
    if min(values[free] - values[[*SYMPO]].max() for values in (accuracy, win_rate)) > 0:
        shown = [
            f"{values[free]:.3f} against {' and '.join(f'{values[name]:.3f}' for name in SYMPO)}"
            for values in (accuracy, win_rate)
        ]
        text += (
            f" Truncated hinge, which is not symmetric, leads at the last epoch: at ε = {HIGH:g} "
            f"an accuracy of {shown[0]} of sigmoid and ramp, a win rate at KL = 1 of {shown[1]}. "
            "So symmetry is not needed for it: in a long training what decides is how hard a loss "
            "pulls at labels that contradict the model."
        )
    return text


def retell_equal_kl(profile: str) -> str:
    """What the claims about win rates at equal KL came to, in notebooks 07 and 09.

    Check: tests/book/test_retold.py.
    """
    verdicts = claims.judge_claims(profile)
    on_mnist, in_words = (
        paper.summarise(verdicts.verdict[verdicts.id.str.match(pattern)])
        for pattern in (r"policy-kl-\d", "gold-equal-kl")
    )
    return (
        "That a symmetric loss wins more often than another at equal KL: exact policies of rewards "
        f"learned on MNIST (07), {on_mnist}; small language models whose reward is known (09), "
        f"{in_words}."
    )
