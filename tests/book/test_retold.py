"""What 00 and 16 repeat of other notebooks: every number, from tables made up or committed."""

import numpy as np
import pandas as pd
import pytest

from sympo.book import retold
from sympo.studies import profiles


def policies(clean, noisy):
    """Win rates at ε = 0 and 0.4, by method, in one regime, with a seed above and one below."""
    rows = [
        ("fresh", method, rate, rates[method] + shift)
        for rate, rates in ((0.0, clean), (0.4, noisy))
        for method in rates
        for shift in (-0.01, 0.01)
    ]
    return pd.DataFrame(rows, columns=["regime", "method", "noise_rate", "win_rate"])


def test_who_starts_higher_may_fall_farther_in_points_and_keep_more():
    clean = {"dpo": 0.7, "sympo_ramp": 0.9}
    more = retold.describe_kept(policies(clean, {"dpo": 0.6, "sympo_ramp": 0.74}))
    assert "SymPO keeps 60% to 60% of its gain over ½, DPO 50% to 50%" in more
    assert more.endswith("SymPO keeps as much as DPO, or more.")
    less = retold.describe_kept(policies(clean, {"dpo": 0.6, "sympo_ramp": 0.66}))
    assert "SymPO keeps 40% to 40%" in less
    assert less.endswith("SymPO keeps not always as much.")


def count(left):
    cells = {"regime": "fresh", "noise_rate": 0.4, "count": 10}
    return pd.DataFrame([{"method": name, "left": n, **cells} for name, n in left.items()])


@pytest.mark.parametrize(("ramp", "told"), [(5, True), (3, False), (2, False)])
def test_a_lead_is_partly_text_only_if_sympo_left_the_grammar_more_often(ramp, told):
    text = retold.describe_left(count({"dpo": 3, "sympo_ramp": ramp}))
    assert f"DPO 3 of 10, SymPO ramp {ramp} of 10" in text
    assert ("text that nobody would write" in text) == told


def test_what_is_committed_of_09_is_told_again():
    text = retold.retell_known_reward("laptop")
    folder = profiles.committed_figures("laptop") / "data"
    counted = pd.read_csv(folder / "table_gold_answers.csv").query("beta == 0.1")
    for method, name in {"dpo": "DPO", "sympo_sigmoid": "SymPO sigmoid"}.items():
        rows = counted[counted.method == method]
        assert f"{name} {rows.left.sum()} of {rows['count'].sum()}" in text
    runs = pd.read_csv(folder / "fig3_gold_win_rate.csv").query("method == 'dpo'")
    gain = runs.groupby(["regime", "noise_rate"]).win_rate.mean().unstack() - 0.5
    kept = gain[0.4] / gain[0.0]
    assert f"DPO {kept.min():.0%} to {kept.max():.0%};" in text


def test_nothing_is_told_of_what_was_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    assert retold.retell_known_reward("laptop") == ""


def read_gpu(stem):
    return pd.read_csv(profiles.committed_figures("gpu") / "data" / f"{stem}.csv")


def test_the_full_grid_is_told_with_its_numbers():
    text = retold.retell_full_grid()
    contrasts = read_gpu("table1_mnist_contrasts")
    for epoch, words in {"final": "at the last epoch", "chosen": "at the epoch that"}.items():
        rows = contrasts[contrasts.epoch == epoch]
        assert f"{(rows.verdict == 'reproduced').sum()} of {len(rows)} " in text
        assert words in text
        for rate in (0.4, 0.45):
            assert f"{rows[rows.noise_rate == rate].estimate.mean():+.3f}" in text
    assert "**At the paper’s 100 epochs** (profile gpu, trained on" in text
    models, wins = read_gpu("fig1_mnist_losses"), read_gpu("fig10_mnist_policy")
    wins = wins[wins.epoch == "final"]
    for table, value in ((models, "accuracy"), (wins, "equal_kl")):
        means = table[table.noise_rate == 0.4].groupby("method")[value].mean()
        ours = means[["truncated_hinge", "sigmoid", "ramp"]]
        assert "{:.3f} against {:.3f} and {:.3f}".format(*ours) in text
        assert np.argmax(ours) == 0


def test_truncated_hinge_is_told_of_only_if_it_leads(monkeypatch):
    def read(notebook, *stems):
        tables = [read_gpu(stem) for stem in stems]
        behind = tables[0].method == "truncated_hinge"
        return [tables[0].assign(accuracy=0.5, equal_kl=0.5 - behind), *tables[1:]], "somewhere"

    monkeypatch.setattr(retold, "read_full_grid", read)
    text = retold.retell_full_grid()
    assert "(somewhere)" in text
    assert "runcated hinge" not in text


def test_equal_kl_is_told_with_the_verdicts_of_both_worlds(monkeypatch):
    rows = [
        ("policy-kl-1-ramp-logistic-0.4-final", "reproduced"),
        ("policy-kl-2-ramp-logistic-0.4-final", "contradicted"),
        ("policy-beta-1-ramp-logistic-0.4-final", "reproduced"),
        ("gold-equal-kl-fresh-sympo_ramp-dpo-0.4", "not measured"),
    ]
    verdicts = pd.DataFrame(rows, columns=["id", "verdict"])
    monkeypatch.setattr(retold.claims, "judge_claims", lambda profile: verdicts)
    text = retold.retell_equal_kl("laptop")
    assert "(07), 2 claims: 1 reproduced, 1 contradicted;" in text
    assert text.endswith("(09), 1 claim: 1 not measured.")
