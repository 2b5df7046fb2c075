"""What notebooks 10 and 11 share, against hand-made pairs, records and tables."""

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, concatenate_datasets
from loopback import longer_wins
from scipy.stats import spearmanr
from statsmodels.stats.proportion import proportion_confint

from sympo.book import offline
from sympo.judge import EndpointJudge
from sympo.preferences import Report, Split
from sympo.studies import profiles, sources
from sympo.studies.alignment import judging
from sympo.studies.alignment.config import PROBE_SEED

METHODS = ("dpo", "sympo_sigmoid", "sympo_ramp")


def messages(role, text):
    return [{"role": role, "content": text}]


def pairs(*rows):
    """Pairs of (question, chosen, rejected)."""
    return Dataset.from_list(
        [
            {
                "prompt": messages("user", question),
                "chosen": messages("assistant", chosen),
                "rejected": messages("assistant", rejected),
            }
            for question, chosen, rejected in rows
        ]
    )


@pytest.fixture
def split():
    test = pairs(("how tall?", "very", "no"), ("rye bread?", "with " * 90 + "caraway", "a cake"))
    return Split(pairs(("how old?", "ten", "so so")), test, Report(), Report(), 3)


@pytest.fixture
def config():
    # as many seeds as the records below
    return profiles.study_config("hh", "smoke").model_copy(update={"headline_seeds": 3})


@pytest.fixture
def table():
    """Three seeds and two rates; sympo_ramp has a higher win rate than the others for each seed."""
    rows = [
        {
            "method": method,
            "noise_rate": noise_rate,
            "seed": seed,
            "win_rate": 0.5 + 0.01 * seed + (0.2 + 0.001 * seed) * (method == "sympo_ramp"),
            "accuracy": 0.6 + 0.01 * seed * (-1) ** len(method),
            "fit_flipped": 0.5 if method == "dpo" else 0.45,
            "kl": 1.0 + seed,
            "length": 20.0 - seed,
            "margin": 0.1,
            "reward": 0.0,
            "reward_sft": 0.0,
            "judge_accuracy": 0.65,
            "win_rate_chosen": 0.3 + 0.01 * seed,
            "sft_chosen": 0.25,
        }
        for method in METHODS
        for noise_rate in (0.0, 0.4)
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def record(method, seed, *, noise_rate=0.4, learning_rate=1e-3, beta=0.1, **metrics):
    setting = {"learning_rate": learning_rate, "beta": beta, "model": "tiny"}
    steps = [{"step": step, "loss": 0.5 / step, "margin_true": seed + step} for step in (1, 2)]
    return {
        "config": {"method": method, "noise_rate": noise_rate, "seed": seed, **setting},
        "metrics": metrics,
        "history": steps,
    }


# The pairs


def test_pairs_come_with_an_account_of_every_row(config, split, monkeypatch):
    reports = {"train_report": Report(rows=5, kept=4), "test_report": Report(rows=2, kept=2)}
    split = split._replace(**reports)
    monkeypatch.setattr(offline, "load_split", lambda config: split)
    loaded, text = offline.load_pairs(config)
    assert loaded is split
    assert [line.rsplit(maxsplit=1)[-1] for line in text.splitlines()] == ["kept.", "kept.", "3."]
    assert "4 of 5 rows" in text
    assert "2 of 2 rows" in text


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_missing_data_is_an_error_only_where_results_are_made(profile, monkeypatch):
    def fail(*names):
        raise sources.AssetError("hh could not be had:\nSet SYMPO_DATA to a folder")

    monkeypatch.setattr(offline, "load_split", fail)
    config = profiles.study_config("hh", profile)
    if profile in ("gpu", "paper"):
        with pytest.raises(sources.AssetError):
            offline.load_pairs(config)
    else:
        loaded, text = offline.load_pairs(config)
        assert loaded is None
        assert text.startswith("**Anthropic HH is not at hand")
        assert text.endswith("Set SYMPO_DATA to a folder")


def test_the_pair_that_is_shown_is_about_the_word(split):
    shown = offline.show_pair(split, about="bread", width=30)
    assert shown.who.tolist() == ["user", "answer", "answer"]
    assert shown.text.tolist() == ["rye bread?", "with with with with with …", "a cake"]
    assert shown.label.tolist() == ["", "chosen", "rejected"]
    assert shown["after a flip"].tolist() == ["", "rejected", "chosen"]
    assert offline.show_pair(split, about="owls", width=30).text[0] == "how tall?"
    assert offline.show_pair(None, about="bread", width=30).empty


def test_of_the_pairs_about_the_word_a_short_one_is_shown(split):
    short = pairs(("white bread?", "yes", "no"))
    both = split._replace(test=concatenate_datasets([split.test, short]))
    assert offline.show_pair(both, about="bread", width=30).text[0] == "white bread?"


def test_a_shared_prompt_is_seen_and_so_is_an_empty_part():
    one, two = pairs(("a?", "b", "c")), pairs(("d?", "b", "c"), ("e?", "b", "c"))
    both = pairs(("f?", "b", "c"), ("d?", "x", "y"))
    assert offline.share_no_prompt(one, two)
    assert not offline.share_no_prompt(one, two, both)
    assert not offline.share_no_prompt(one, two.select([]))


def test_characters_are_those_of_the_answers(split):
    assert offline.count_characters(split.test).tolist() == [[4, 457], [2, 6]]


# Training


def test_first_steps_are_those_of_two_methods_and_one_seed(config):
    # of the same methods and seed, but in another setting
    others = [record("dpo", 0, learning_rate=3e-3), record("dpo", 0, beta=1.0)]
    runs = others + [
        record(method, seed, noise_rate=noise_rate)
        for method in METHODS
        for seed in (0, 1)
        for noise_rate in (0.0, 0.4)
    ]
    steps = offline.tabulate_first_steps(runs, config)
    assert steps.method.tolist() == ["dpo", "dpo", "sympo_sigmoid", "sympo_sigmoid"]
    assert steps.step.tolist() == [1, 2, 1, 2]
    assert steps.margin_true.tolist() == [1, 2, 1, 2]
    assert steps.flipped_fit.isna().all()
    assert offline.tabulate_first_steps([], config).empty


# Results


@pytest.mark.parametrize("profile", ["smoke", "gpu", "paper"])
def test_results_are_those_of_the_runs(profile):
    config = profiles.study_config("hh", profile)
    shared = {"learning_rate": config.learning_rate, "beta": config.beta}
    runs = [
        record("dpo", 1, accuracy=0.7, **shared),
        # what belongs to the probe and to the other settings is no row of the figure
        record("dpo", PROBE_SEED, accuracy=0.8, **shared),
        record("dpo", 1, accuracy=0.9, **{**shared, "beta": 1.0}),
        record("dpo", 1, accuracy=0.9, **{**shared, "learning_rate": 1.0}),
    ]
    results = offline.collect_results(runs, config, stem="fig5")
    assert results.profile == profile
    assert results.table.columns.tolist() == offline.RESULTS
    assert results.table.accuracy.tolist() == [0.7]


@pytest.mark.parametrize("committed", [True, False])
def test_a_laptop_shows_the_committed_results_of_a_gpu(committed, table, tmp_path, monkeypatch):
    config = profiles.study_config("hh", "laptop")
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    path = tmp_path / "figures" / "gpu" / "data" / "fig5.csv"
    path.parent.mkdir(parents=True)
    if committed:
        table.to_csv(path, index=False)
    results = offline.collect_results([record("dpo", 1, accuracy=0.7)], config, stem="fig5")
    assert results.profile == "gpu"
    assert results.table.win_rate.tolist() == (table.win_rate.tolist() if committed else [])
    told = offline.not_measured(results.profile)
    assert "no gpu records" in told
    assert "neither supports nor contradicts Section 5.2" in told


def test_metrics_are_means_over_seeds_with_an_interval_of_the_win_rate(table):
    metrics = offline.tabulate_metrics(table).set_index(["method", "noise_rate"])
    assert len(metrics) == len(METHODS) * 2
    cell = metrics.loc["sympo_ramp", 0.4]
    assert cell.estimate == pytest.approx((0.7 + 0.711 + 0.722) / 3)
    # t(0.975, 2) = 4.30265; the standard deviation of 0, 0.011, 0.022 is 0.011
    assert cell.high - cell.estimate == pytest.approx(4.30265 * 0.011 / np.sqrt(3), rel=1e-5)
    assert (cell.n, cell.kl, cell.length) == (3, 2.0, 19.0)
    assert (cell.win_rate_chosen, cell.sft_chosen) == pytest.approx((0.31, 0.25))


def test_a_seed_whose_policies_started_in_different_worlds_is_seen(table):
    assert offline.describe_policies(table, "gpu") == "Shown: 18 policies of profile gpu."
    # a second process built the world of seed 1 once more
    rebuilt = (table.seed == 1) & (table.method == "dpo")
    table.loc[rebuilt, "judge_accuracy"] = 0.653
    sentence = offline.describe_policies(table, "gpu")
    assert "judge were built more than once: 1 of 3." in sentence
    assert sentence.endswith("labels differs by up to 0.3%.")
    # and a judge may be as accurate and give other rewards
    table["judge_accuracy"] = 0.65
    table.loc[rebuilt, "reward_sft"] = 1e-3
    assert sentence.replace("0.3%", "0.0%") == offline.describe_policies(table, "gpu")


def test_nothing_measured_is_nothing_claimed(table):
    nothing = table.iloc[:0]
    assert offline.tabulate_metrics(nothing).empty
    assert offline.tabulate_fits(nothing).empty


def test_what_is_fitted_beyond_the_errors_is_memorised(table):
    fits = offline.tabulate_fits(table)
    # accuracy 0.6 ± 0.01·seed: the length of "dpo" is odd, that of "sympo_ramp" even
    assert fits["beyond 1 − accuracy"].to_dict() == pytest.approx(
        {"dpo": 0.5 - 0.41, "sympo_ramp": 0.45 - 0.39, "sympo_sigmoid": 0.45 - 0.41}
    )


def test_win_rates_are_correlated_by_rank(table):
    ranks = offline.correlate_win_rate(table)
    for column in ("accuracy", "kl", "length"):
        expected = spearmanr(table.win_rate, table[column]).statistic
        assert ranks[column] == pytest.approx(expected)


# Other settings

# the learning rate that is best for each method on noisy validation pairs
OWN = {"dpo": 1e-3, "sympo_sigmoid": 3e-3}


def run_everything():
    """A probe, and win rates by setting: SymPO is ahead by .1 at its own rate, behind at β = 1."""
    runs = [
        record(method, PROBE_SEED, noise_rate=rate, learning_rate=tried, validation=validation)
        for method, own in OWN.items()
        for rate in (0.0, 0.4)
        for tried in (1e-3, 3e-3)
        for validation in [0.6 if tried == own else 0.55]
    ]
    for seed in range(3):
        for method, own in OWN.items():
            ours = method != "dpo"
            common = {"accuracy": 0.6, "kl": 2.0 + 4 * ours}
            for rate in (0.0, 0.4):
                win_rate = 0.6 + 0.01 * seed
                for tried in {1e-3, own}:
                    lead = 0.1 + 0.001 * seed if tried == own and ours else 0.0
                    setting = {"noise_rate": rate, "learning_rate": tried}
                    runs.append(record(method, seed, win_rate=win_rate + lead, **setting, **common))
            lead = -0.2 - 0.001 * seed if ours else 0.0
            runs.append(record(method, seed, beta=1.0, win_rate=win_rate + lead, **common))
    return runs


def test_the_probe_is_shown_with_what_it_chose():
    probe = offline.tabulate_probe(run_everything()).set_index("method")
    assert probe.chosen.to_dict() == OWN
    assert probe.loc["dpo", 1e-3] == pytest.approx(0.6)
    assert probe.loc["dpo", 3e-3] == pytest.approx(0.55)
    assert offline.tabulate_probe([record("dpo", 0)]).empty


def test_other_settings_are_contrasted_apart_with_the_kl_of_both(config):
    table = offline.contrast_settings(run_everything(), config)
    win_rates = table[table.value == "win_rate"].set_index(["setting", "noise_rate"])
    assert win_rates.index.tolist() == [
        ("own learning rate", 0.0),
        ("own learning rate", 0.4),
        ("β = 1", 0.4),
    ]
    assert win_rates.estimate.tolist() == pytest.approx([0.101, 0.101, -0.201])
    assert (win_rates.n == 3).all()
    assert win_rates.verdict.tolist() == ["reproduced", "reproduced", "contradicted"]
    assert (table.kl_method == 6).all()
    assert (table.kl_baseline == 2).all()
    lines = offline.describe_settings(table).splitlines()
    assert len(lines) == 4
    assert "β = 1, win rate of SymPO sigmoid − DPO = -0.201" in "".join(lines)
    assert "at a KL of 6.0 against 2.0 nats" in lines[0]


def test_a_setting_whose_methods_lack_seeds_is_seen(config):
    runs = run_everything()
    settings = offline.contrast_settings(runs, config)
    assert (settings.n == settings.setting.map(offline.count_seeds(runs, config))).all()
    dropped = [run for run in runs if (run["config"]["beta"], run["config"]["seed"]) != (1.0, 2)]
    one_left = next(run for run in runs if run not in dropped)
    few = offline.contrast_settings([*dropped, one_left], config)
    seeds = offline.count_seeds([*dropped, one_left], config)
    assert seeds == {"own learning rate": 3, "β = 1": 3}
    assert set(few[few.n != few.setting.map(seeds)].setting) == {"β = 1"}


def test_a_seed_beyond_the_headlines_is_not_of_the_own_learning_rate(config):
    fewer = config.model_copy(update={"headline_seeds": 2})
    settings = offline.contrast_settings(run_everything(), fewer)
    own = settings.setting == "own learning rate"
    assert (settings.n[own] == 2).all()
    assert (settings.n[~own] == 3).all()


def test_sizes_are_those_of_the_profiles():
    table = offline.tabulate_sizes("hh")
    for name in ("gpu", "paper"):
        config = profiles.study_config("hh", name)
        assert table.loc["training pairs", f"profile {name}"] == str(config.pairs)
        assert table.loc["passes over them", f"profile {name}"] == str(config.epochs)
    # what a policy says is drawn as in the paper
    drawn = table.loc[["temperature", "top-p", "tokens of an answer, at most"]]
    assert drawn["profile paper"].tolist() == drawn["the authors' released code"].tolist()


def test_without_other_settings_there_is_nothing_to_say(config):
    runs = [record("dpo", 0), record("sympo_sigmoid", 0)]
    assert offline.contrast_settings(runs, config).empty
    assert offline.describe_settings(offline.contrast_settings(runs, config)) == ""


def test_a_laptop_reads_the_committed_table_and_others_their_own(tmp_path, monkeypatch):
    own = pd.DataFrame({"x": [1]})
    assert offline.read_results(profiles.study_config("hh", "gpu"), "table", own) is own
    laptop = profiles.study_config("hh", "laptop")
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    assert offline.read_results(laptop, "table", own).empty
    path = tmp_path / "figures" / "gpu" / "data" / "table.csv"
    path.parent.mkdir(parents=True)
    path.write_text("x\n2\n")
    assert offline.read_results(laptop, "table", own).x.tolist() == [2]


# Language models that judge


def answered(method, seed, *, prompts=4):
    """The record of a policy whose answers are longer than the chosen ones but for `seed` of them.

    SymPO's are all longer.
    """
    losses = seed * (method == "dpo")
    rows = [
        {
            "dialogue": messages("user", f"{method}, {seed}, {i}?"),
            "policy": "short" if i < losses else "a longer answer",
            "chosen": "an answer",
        }
        for i in range(prompts)
    ]
    found = record(method, seed, generations=rows)
    found["config"].update(study="hh", noise="symmetric-0.4", beta=0.1, learning_rate=1e-3)
    return {**found, "version": 1}


@pytest.fixture
def ask(tmp_path, monkeypatch, endpoint):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    server = endpoint(longer_wins)

    def ask(runs, limit=None, options=None, behave=longer_wins):
        server.behave = behave
        examiner = EndpointJudge("m", retries=0, give_up=99, options=options or {})
        folder = judging.judged_folder("smoke")
        for contest in judging.list_contests(runs, "chosen", examiner, folder):
            judging.judge_policy(contest, examiner, limit)

    return ask


def test_verdicts_are_a_row_for_each_policy_with_as_many_as_the_others(config, ask):
    runs = [answered(method, seed) for method in ("dpo", "sympo_sigmoid") for seed in range(3)]
    assert offline.tabulate_judged(runs, config).empty
    ask(runs[:5])
    ask(runs[5:], limit=2)
    table = offline.tabulate_judged(runs, config)
    assert table.columns.tolist() == offline.JUDGED
    assert table.seed.tolist() == [0, 1, 2, 0, 1]
    assert table.win_rate.tolist() == [1, 0.75, 0.5, 1, 1]
    assert (table.judged == 4).all()
    assert set(table.judge) == {"m"}
    # a policy of another setting is not of this table
    runs[0]["config"]["beta"] = 1.0
    assert len(offline.tabulate_judged(runs, config)) == 4


def test_verdicts_on_other_prompts_and_replies_that_never_came_do_not_compare(config, ask):
    def answer_some(question, tries):
        mute = ("dpo, 0, 3?", "sympo_sigmoid, 0, 0?", "dpo, 1,")
        silent = any(f"user: {start}" in question for start in mute)
        return (503, {}, b"{}") if silent else longer_wins(question)

    runs = [answered(method, seed) for method in ("dpo", "sympo_sigmoid") for seed in range(2)]
    ask(runs[:3], behave=answer_some)
    # three replies on either policy of seed 0, but not on the same prompts
    table = offline.tabulate_judged(runs, config)
    assert table[["method", "seed", "judged"]].to_numpy().tolist() == [["dpo", 0, 3]]
    # asked about, and nothing came
    assert offline.tabulate_judged(runs[1:2], config).empty


def test_one_model_asked_in_two_ways_is_two_judges(config, ask):
    runs = [answered(method, seed) for method in ("dpo", "sympo_sigmoid") for seed in range(3)]
    ask(runs)
    ask(runs, limit=3, options={"temperature": 1})
    table = offline.tabulate_judged(runs, config)
    assert table.groupby("files").judged.unique().map(list).tolist() in ([[3], [4]], [[4], [3]])
    parts = offline.describe_judged(table, config).split("**m, against chosen**: 6 policies, ")
    assert {part[:7] for part in parts[1:]} == {"3 pairs", "4 pairs"}
    assert all(f"`*-{files}.jsonl`" in "".join(parts) for files in table.files)


def test_verdicts_are_contrasted_by_seed(config, ask):
    nothing = offline.tabulate_judged([], config)
    command = "`python -m sympo judge hh --profile smoke`"
    assert command in offline.describe_judged(nothing, config)
    # a laptop shows the results of a GPU
    laptop = profiles.study_config("hh", "laptop")
    assert "judge hh --profile gpu`" in offline.describe_judged(nothing, laptop)
    runs = [answered(method, seed) for method in ("dpo", "sympo_sigmoid") for seed in range(3)]
    ask(runs)
    text = offline.describe_judged(offline.tabulate_judged(runs, config), config)
    assert text.startswith(
        "**m, against chosen**: 6 policies, 4 pairs each; without a verdict 0.0%"
    )
    assert "- At ε = 0.4, win rate of SymPO sigmoid − DPO = +0.250" in text
    assert command not in text


# The judge


@pytest.mark.parametrize("right", [0.45, 0.5, 0.52, 0.54, 0.6])
@pytest.mark.parametrize("pairs", [8, 400, 4000])
def test_a_judge_at_chance_takes_win_rates_their_meaning(config, table, right, pairs):
    config = config.model_copy(update={"test_pairs": pairs})
    # seeds differ, and each counts once, however many policies it has
    judged = table.assign(judge_accuracy=right + 0.01 * (table.seed - 1))
    judged = pd.concat([judged, judged[judged.seed == 0]])
    warning = offline.warn_of_judge(judged, config, config.profile)
    low, high = proportion_confint(right * pairs, pairs, method="wilson")
    if low > 0.5:
        assert warning == ""
    else:
        assert warning.startswith("**Win rates by the judge mean nothing here.**")
        assert f"{right:.1%} of the labels of {pairs} held-out pairs" in warning
        assert f"[{low:.1%}, {high:.1%}]" in warning
    assert offline.warn_of_judge(judged.iloc[:0], config, config.profile) == ""


def test_the_pairs_of_a_judge_are_those_of_the_profile_that_trained(config, table):
    shown = table.assign(judge_accuracy=0.56)
    few = offline.warn_of_judge(shown, config, config.profile)
    assert f"of {config.test_pairs} held-out pairs" in few
    assert profiles.study_config("hh", "gpu").test_pairs > 500
    assert offline.warn_of_judge(shown, config, "gpu") == ""
