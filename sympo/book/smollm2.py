"""The policies of study gold for notebook 09: SmolLM2 in the world of a known reward."""

import pandas as pd

from sympo.studies import plan, profiles, records
from sympo.studies.alignment import gold

# The columns of the table, and their order.
COLUMNS = [
    *("method", "noise_rate", "beta", "seed"),
    *("win_rate", "win_rate_low", "win_rate_high"),
    *("reward", "reward_sft", "kl", "accuracy", "margin", "fit_flipped", "length"),
]


def find_policies(profile: str) -> tuple[pd.DataFrame, str]:
    """The policies at the paper's β, a row each, and a sentence that says where they are from.

    Profile laptop trains none: it shows the committed ones of profile gpu, if there are any.

    Returns:
        a table with the columns `COLUMNS`, empty where nothing was measured.
    Check: tests/book/test_gold_figures.py.
    """
    profile = profiles.resolve_profile(profile)
    if profile == "laptop":
        committed = profiles.find_result("gpu", "data/table_gold_smollm2.csv")
        if committed is not None:
            return pd.read_csv(committed), "Trained in profile gpu, and read from there."
        return pd.DataFrame(columns=COLUMNS), (
            "**Not measured yet**: on a GPU, `make paper PROFILE=gpu` measures it, or "
            "`python -m sympo run gold --profile gpu`."
        )
    config = profiles.study_config("gold", profile)
    assert isinstance(config, gold.GoldConfig)
    if plan.is_read_only(profile):
        runs = plan.load_complete(gold.plan_study(config, read_only=True))
    else:
        runs = gold.run_study(config)
    table = records.metrics_table(runs.records).reindex(columns=COLUMNS)
    at_paper = table[table.beta == config.beta].reset_index(drop=True)
    return at_paper, f"Study gold, profile {profile}: {runs}."
