"""What notebooks 10 and 11 share: their pairs, first steps and results.

The two studies differ in their data and in what there is to say about them. How pairs are checked,
and how policies are measured, is the same, and is written here once.
"""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from numpy.typing import NDArray

from sympo import preferences, stats
from sympo.book import contrasts as compared
from sympo.book import figures
from sympo.book.figures.tables import name as heading
from sympo.studies import profiles, records, sources
from sympo.studies.alignment import judging
from sympo.studies.alignment.config import PROBE_SEED, choose_learning_rates
from sympo.studies.alignment.offline import OfflineConfig, load_split, select_shared

# as a reader knows them
DATA_SETS = {"hh": "Anthropic HH", "ultrafeedback": "UltraFeedback"}

# A cell of the results is a method at a noise rate; seeds are its repetitions.
CELL = ["method", "noise_rate"]
AVERAGED = [
    *("win_rate_chosen", "sft_chosen", "accuracy", "margin", "fit_flipped"),
    *("reward", "reward_sft", "kl", "length"),
]
WIN_RATE = ["win_rate", "win_rate_low", "win_rate_high"]
CHOSEN = ["win_rate_chosen_low", "win_rate_chosen_high"]
# The columns of the csv behind Figures 5 and 6, and their order.
RESULTS = [*CELL, "seed", "model", "pairs", *WIN_RATE, *CHOSEN, *AVERAGED, "judge_accuracy"]

# What a language model says of a policy.
JUDGED = [
    *("judge", "opponent", "files", *CELL, "seed", *WIN_RATE, "win_rate_second"),
    *("judged", "unparsed", "swayed", "position_bias"),
]

# Field → its name for a reader, and what the authors' released code has.
RELEASED = {
    "model": ("model", "Llama-3.2-3B-Instruct"),
    "pairs": ("training pairs", "20,000 at first, later all"),
    "epochs": ("passes over them", "1"),
    "batch": ("pairs per step", "32 at first, later 64"),
    "learning_rate": ("learning rate", "5e-06"),
    "prompts": ("held-out prompts", "1,024, drawn anew for each of ten sampling seeds"),
    "samples": ("answers to each", "1"),
    "temperature": ("temperature", "0.7"),
    "top_p": ("top-p", "0.95"),
    "max_new_tokens": ("tokens of an answer, at most", "512"),
}

# What a trainer logs per step. The last three tell true labels from flips, which the loss cannot.
LOGGED = ["loss", "grad_norm", "accuracy_true", "margin_true", "flipped_fit"]


# The pairs


def load_pairs(config: OfflineConfig) -> tuple[preferences.Split | None, str]:
    """The pairs of a study, and a text that says what became of the rows of its files.

    Profiles smoke and laptop report no result of their own, so there a missing data set is no
    error: the pairs are None, and the text says where to get them.

    Raises:
        AssetError: the data cannot be had, in profile gpu or paper.
    Check: tests/book/test_offline_results.py.
    """
    try:
        split = load_split(config)
    except sources.AssetError as error:
        if config.profile not in ("smoke", "laptop"):
            raise
        remedy = str(error).splitlines()[-1]
        data_set = DATA_SETS[config.study]
        return None, (
            f"**{data_set} is not at hand, so no pair is shown and nothing is trained below.** "
            f"{remedy}"
        )
    lines = [
        f"- Training files: {split.train_report}.",
        f"- Test files: {split.test_report}.",
        f"- Training pairs dropped because their prompt is also a test prompt: {split.overlap}.",
    ]
    return split, "\n".join(lines)


def show_pair(split: preferences.Split | None, *, about: str, width: int) -> pd.DataFrame:
    """The first test pair about a word, as a person saw it, and what a flip would make of it.

    Picked by a rule and not by hand: the last question mentions the word, and no text is longer
    than `width`; else it mentions it; else it is the first pair of all.

    Args:
        about: the word.
        width: characters at which each turn is cut.
    Returns:
        the columns of `tabulate_pair`; empty without pairs.
    """
    if split is None:
        # without pairs, so that the notebook goes on
        return pd.DataFrame(columns=["who", "text", "label", "after a flip"])
    sides = zip(*(split.test[side] for side in ("prompt", "chosen", "rejected")), strict=True)
    texts = [[*prompt, *chosen, *rejected] for prompt, chosen, rejected in sides]
    # of a pair's turns the last but two is the question
    mentioned = [i for i, turns in enumerate(texts) if about in turns[-3]["content"]]
    short = [i for i in mentioned if all(len(turn["content"]) <= width for turn in texts[i])]
    return tabulate_pair(split.test[[*short, *mentioned, 0][0]], width=width)


def tabulate_pair(row: dict[str, Any], *, width: int) -> pd.DataFrame:
    """A pair as a table: its turns, shortened, with the label as it is and as a flip leaves it.

    Returns:
        columns who, text, label and "after a flip"; a row per turn of the prompt, then one for each
        answer.
    """
    turns = [(turn["role"], turn["content"], "", "") for turn in row["prompt"]]
    turns.append(("answer", row["chosen"][-1]["content"], "chosen", "rejected"))
    turns.append(("answer", row["rejected"][-1]["content"], "rejected", "chosen"))
    rows = [
        (who, textwrap.shorten(text, width, placeholder=" …"), *labels)
        for who, text, *labels in turns
    ]
    return pd.DataFrame(rows, columns=["who", "text", "label", "after a flip"])


def share_no_prompt(*parts: Dataset) -> bool:
    """Whether each part has prompts and none of these is in another part."""
    prompts = [set(preferences.prompt_keys(part)) for part in parts]
    # an empty part shares nothing, but then something else went wrong
    return all(prompts) and sum(map(len, prompts)) == len(set.union(*prompts))


def count_characters(pairs: Dataset) -> NDArray[np.int64]:
    """Lengths of the chosen and of the rejected answers, `(2, pairs)`, in characters."""
    sides = [pairs[side] for side in ("chosen", "rejected")]
    return np.array([[len(answer[0]["content"]) for answer in side] for side in sides])


# Training


def tabulate_first_steps(runs: Sequence[records.Record], config: OfflineConfig) -> pd.DataFrame:
    """How DPO and SymPO sigmoid train at the highest noise rate: what seed 0 logs, step by step.

    Returns:
        columns method, step and `LOGGED`; empty without records.
    """
    # one symmetric loss and one that is not, of which ℓ(0) is known: ½ and log 2
    history = records.history_table(select_shared(runs, config))
    steps = history.reindex(columns=[*CELL, "seed", "step", *LOGGED])
    shown = (steps.seed == 0) & (steps.noise_rate == max(config.noise_rates))
    shown &= steps.method.isin(["dpo", "sympo_sigmoid"])
    return steps.loc[shown, ["method", "step", *LOGGED]]


# Results


class Results(NamedTuple):
    """A row per policy, and the profile that trained them."""

    table: pd.DataFrame
    profile: str


def collect_results(runs: Sequence[records.Record], config: OfflineConfig, *, stem: str) -> Results:
    """The policies that a notebook reports, which in profile laptop are those of profile gpu.

    The few steps of profile laptop are no result. It shows the csv of profile gpu, if the
    repository holds one.

    Args:
        stem: of the figure whose csv holds the committed results.
    Returns:
        a table with the columns `RESULTS`; empty where nothing was measured.
    """
    # without records the columns are there all the same, and every table below is empty
    table = _tabulate_runs(select_shared(runs, config))[RESULTS]
    if config.profile != "laptop":
        return Results(table, config.profile)
    recorded = read_results(config, stem, table)
    return Results(table.iloc[:0] if recorded.empty else recorded, "gpu")


def _tabulate_runs(runs: Sequence[records.Record]) -> pd.DataFrame:
    columns = [*RESULTS, "learning_rate", "beta", "validation"]
    return records.metrics_table(runs).reindex(columns=columns)


def tabulate_probe(runs: Sequence[records.Record]) -> pd.DataFrame:
    """What the learning-rate probe found: mean agreement with noisy validation labels.

    Returns:
        a row per method and a column per learning rate, and the rate that is chosen; empty without
        a probe.
    """
    probe = [record for record in runs if record["config"]["seed"] >= PROBE_SEED]
    if not probe:
        return pd.DataFrame()
    by_rate = _tabulate_runs(probe).pivot_table("validation", "method", "learning_rate")
    return by_rate.assign(chosen=pd.Series(choose_learning_rates(probe))).reset_index()


def contrast_settings(runs: Sequence[records.Record], config: OfflineConfig) -> pd.DataFrame:
    """The contrasts in two other settings: each method's own learning rate, and another β.

    Returns:
        the columns of `compared.contrast_policies`, behind `setting`, and before them the KL of the
        two methods, means over seeds, nats; empty where neither setting was run.
    """
    table = _tabulate_runs(runs)
    tables = [
        _contrast_setting(name, rows)
        for name, rows in _split_settings(table, runs, config).items()
        if len(rows)
    ]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _split_settings(
    table: pd.DataFrame, runs: Sequence[records.Record], config: OfflineConfig
) -> dict[str, pd.DataFrame]:
    """The policies of each setting by its name."""
    probed = table.seed >= PROBE_SEED
    settings = {
        f"β = {beta:g}": table[~probed & (table.beta == beta)]
        for beta in config.betas
        if beta != config.beta
    }
    chosen = choose_learning_rates(
        record for record in runs if record["config"]["seed"] >= PROBE_SEED
    )
    own = table.learning_rate == table.method.map(chosen)
    # on further seeds a method may be at its own rate because all share it
    own &= table.seed < config.headline_seeds
    # at the lowest and the highest rate alone, where every method was run at its own
    rates = [min(config.noise_rates), max(config.noise_rates)]
    at_rates = (table.beta == config.beta) & table.noise_rate.isin(rates)
    return {"own learning rate": table[~probed & own & at_rates], **settings}


def count_seeds(runs: Sequence[records.Record], config: OfflineConfig) -> dict[str, int]:
    """How many seeds each setting of `contrast_settings` was run with."""
    settings = _split_settings(_tabulate_runs(runs), runs, config)
    return {name: rows.seed.nunique() for name, rows in settings.items()}


def _contrast_setting(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    contrasts = compared.contrast_policies(rows, values=["win_rate", "accuracy"])
    kl = rows.groupby(CELL).kl.mean()
    for side in ("method", "baseline"):
        cells = zip(contrasts[side], contrasts.noise_rate, strict=True)
        contrasts.insert(0, f"kl_{side}", [kl[cell] for cell in cells])
    contrasts.insert(0, "setting", name)
    return contrasts


def describe_settings(settings: pd.DataFrame) -> str:
    """A list item for each contrast with DPO at the highest noise rate, with the KL of both."""
    if settings.empty:
        return ""
    highest = settings.noise_rate == settings.noise_rate.max()
    shown = settings[highest & (settings.baseline == "dpo")]
    return "\n".join(
        f"- {row.setting}, {heading(row.value)} of {compared.name_difference(row)} = "
        f"{compared.describe_difference(row)}, at a KL of {row.kl_method:.1f} against "
        f"{row.kl_baseline:.1f} nats: **{row.verdict}**."
        for row in shown.itertuples()
    )


def read_results(config: OfflineConfig, stem: str, own: pd.DataFrame) -> pd.DataFrame:
    """A table of this run or, in profile laptop, the committed one of profile gpu.

    Args:
        stem: of the committed csv.
        own: the table of this run.
    """
    if config.profile != "laptop":
        return own
    recorded = profiles.find_result("gpu", f"data/{stem}.csv")
    return pd.read_csv(recorded) if recorded else pd.DataFrame()


def tabulate_judged(runs: Sequence[records.Record], config: OfflineConfig) -> pd.DataFrame:
    """What language models say of the policies that they were asked about, a row for each.

    Of the policies that a judge was asked about in one way, those remain that were judged on the
    same prompts of their seeds as the one with the most: means over different prompts do not
    compare.

    Returns:
        the columns `JUDGED`; empty where nobody was asked.
    Check: tests/book/test_offline_results.py.
    """
    folder = judging.judged_folder(config.profile)
    rows = [
        {
            **record["config"],
            **judging.summarise(contest),
            # as text, so that a column of them can be compared
            "prompts": str(contest.list_judged()),
        }
        for record in select_shared(runs, config)
        for contest in judging.find_contests(record, folder)
    ]
    table = pd.DataFrame(rows).reindex(columns=[*JUDGED, "prompts"])
    table = table[table.judged > 0]
    # the prompts of the policy that was judged on the most
    fullest = table.sort_values("judged", ascending=False, kind="stable")
    prompts = fullest.groupby("files").prompts.transform("first")
    return table.loc[table.prompts.eq(prompts), JUDGED].reset_index(drop=True)


def describe_judged(judged: pd.DataFrame, config: OfflineConfig) -> str:
    """For each judge and opponent, how it was asked, and its contrasts with DPO, in Markdown.

    Without verdicts it is the sentence that says how to ask for them.

    Args:
        judged: of `tabulate_judged`.
    """
    if judged.empty:
        # what a laptop shows is of profile gpu
        profile = "gpu" if config.profile == "laptop" else config.profile
        return (
            "No language model was asked. Where the records are, `python -m sympo judge "
            f"{config.study} --profile {profile}` asks one about the answers in them."
        )
    groups = judged.groupby(["judge", "opponent", "files"])
    return "\n\n".join(_describe_judge(rows, config) for _, rows in groups)


def _describe_judge(rows: pd.DataFrame, config: OfflineConfig) -> str:
    first = rows.iloc[0]
    contrasts = compared.contrast_policies(rows, values=["win_rate"])
    highest = contrasts.noise_rate == rows.noise_rate.max()
    claimed = contrasts[highest & (contrasts.baseline == "dpo")]
    # this table is not saved, which would replace verdicts that are no evidence
    if caveat := profiles.caveat(config.profile):
        claimed = claimed.assign(verdict=caveat)
    return (
        f"**{first.judge}, against {first.opponent}**: {len(rows)} policies, {first.judged} pairs "
        f"each; without a verdict {rows.unparsed.sum() / rows.judged.sum():.1%}, changed with the "
        f"order {rows.swayed.mean():.1%}, position bias {rows.position_bias.mean():+.3f}. The "
        f"replies are in `*-{first.files}.jsonl`."
        f"\n\n{compared.describe_contrasts(claimed)}"
    )


def warn_of_judge(table: pd.DataFrame, config: OfflineConfig, source: str) -> str:
    """The sentence that win rates say nothing where the judge is not above chance, or "".

    It is above chance if the 95% Wilson interval of its mean accuracy lies above ½. The seeds draw
    their test pairs from the same ones, so that the interval counts those of one seed.

    Args:
        table: of `collect_results`; empty gives "".
        config: of the study.
        source: the profile that trained the policies.
    Returns:
        a paragraph of Markdown, with the empty line after it.
    Check: tests/book/test_offline_results.py.
    """
    if table.empty:
        return ""
    own = source == config.profile
    trained: Any = config if own else profiles.study_config(config.study, source)
    judged = table.drop_duplicates("seed").judge_accuracy.mean()
    interval = stats.wilson(judged * trained.test_pairs, trained.test_pairs)
    if interval.low > 0.5:
        return ""
    return (
        f"**Win rates by the judge mean nothing here.** It agrees with {judged:.1%} of the labels "
        f"of {trained.test_pairs} held-out pairs [{interval.low:.1%}, {interval.high:.1%}], which "
        "is not above chance. No verdict on a win rate counts, whatever it says.\n\n"
    )


def describe_policies(table: pd.DataFrame, source: str) -> str:
    """How many policies are shown, and whether those of a seed started in the same world.

    A world is built anew by each process that trains in it, and a GPU rounds in no fixed order.

    Args:
        table: of `collect_results`, not empty.
        source: the profile that trained the policies.
    Check: tests/book/test_offline_results.py.
    """
    shown = f"Shown: {len(table)} policies of profile {source}."
    by_seed = table.groupby("seed")
    values = by_seed[["judge_accuracy", "reward_sft"]].nunique(dropna=False)
    several = (values > 1).any(axis=1)
    if not several.any():
        return shown
    spread = by_seed.judge_accuracy.agg(np.ptp).max()
    return (
        f"{shown} Seeds whose SFT model and judge were built more than once: {several.sum()} of "
        f"{len(several)}. A GPU does not round alike each time: within a seed the judge's "
        f"agreement with held-out labels differs by up to {spread:.1%}."
    )


def not_measured(profile: str) -> str:
    """The sentences that stand in for results where there are none."""
    return (
        f"**Not measured here**: there are no {profile} records of this study yet. This neither "
        "supports nor contradicts Section 5.2, which reports that SymPO wins more often than DPO "
        "under flips. Until there are, this study tests nothing of it on a model that people use. "
        "For a decision today see [notebook 15](15_your_data.ipynb)."
    )


def tabulate_sizes(study: str) -> pd.DataFrame:
    """What the two larger profiles take, beside the authors' released code: a row per setting."""
    sections = {name: profiles.read_profile(name)[study] for name in ("gpu", "paper")}
    # not through study_config, which would forget that this process runs an exercise
    configs = {
        name: OfflineConfig(study=study, profile=name, **section)
        for name, section in sections.items()
    }
    rows = [
        (shown, *(str(getattr(config, field)) for config in configs.values()), released)
        for field, (shown, released) in RELEASED.items()
    ]
    columns = ["setting", *(f"profile {name}" for name in configs), "the authors' released code"]
    return pd.DataFrame(rows, columns=columns).set_index("setting")


def tabulate_metrics(table: pd.DataFrame) -> pd.DataFrame:
    """Each method at each noise rate: its mean win rate with the 95% interval, and `AVERAGED`.

    Args:
        table: of `collect_results`.
    Returns:
        columns method, noise_rate, estimate, low, high, n, and the means over seeds.
    """
    win_rates = figures.interval_table(table, by=CELL, value="win_rate", proportion=True)
    # both have a row per cell, in the same order
    means = table.groupby(CELL)[AVERAGED].mean()
    return pd.concat([win_rates.set_index(CELL), means], axis=1).reset_index()


def tabulate_fits(table: pd.DataFrame) -> pd.DataFrame:
    """What each method fits at the highest noise rate, means over seeds.

    A policy that has memorised nothing agrees with a flipped label about as often as it is wrong
    on held-out pairs, 1 − accuracy. What it fits beyond that is the last column.

    Args:
        table: of `collect_results`.
    Returns:
        columns win_rate, accuracy, fit_flipped, kl, length and "beyond 1 − accuracy"; a row per
        method.
    """
    headline = table[table.noise_rate == table.noise_rate.max()]
    shown = ["win_rate", "accuracy", "fit_flipped", "kl", "length"]
    fits = headline.groupby("method")[shown].mean()
    fits["beyond 1 − accuracy"] = fits.fit_flipped - (1 - fits.accuracy)
    return fits


def correlate_win_rate(table: pd.DataFrame) -> pd.Series:
    """Spearman's rank correlation of the policies' win rates with accuracy, KL and length."""
    # an empty table has columns of objects, which cannot be ranked
    ranked = table[["win_rate", "accuracy", "kl", "length"]].astype(float)
    return ranked.corr(method="spearman").win_rate
