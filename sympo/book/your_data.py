"""What notebook 15 needs beside its page: its sizes, its example file, audits of published data."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from sympo import audit
from sympo.audit import Audit
from sympo.rating import Items
from sympo.studies import comparisons, profiles
from sympo.studies.alignment import gold, grammar
from sympo.studies.profiles import StudyConfig
from sympo.studies.sources import AssetError

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=0.5)]

# the methods whose answers are rated
POLICIES = ("dpo", "sympo_sigmoid")

# what the broken rows of a real file look like
_BROKEN = (
    '{"prompt": "hotel monday", "chosen": "room lovely and staff plain"}',
    '{"prompt": "cafe friday", "chosen": "cake good but menu dull", "rejected": 3}',
    '{"prompt": "museum sunday", "chosen": "guide nice and map old", "rejected": "guide ni',
)


class YourDataConfig(StudyConfig):
    """Section your_data of a profile: the sizes of notebook 15. All fields are ours."""

    # The example: its pairs, how many of them a second annotator rates again, and how often either
    # is wrong.
    pairs: Count
    repeated: Count
    noise_rate: Rate
    # The check of the routes to a noise rate: the rates that are put in, and the draws of each.
    noise_rates: Annotated[list[Rate], Field(min_length=1)]
    seeds: Count
    # Reward models: passes over the pairs, and the learning rates to choose from.
    epochs: Count
    learning_rates: Annotated[list[float], Field(min_length=1)]
    # The pairs that are rated again, and how often the simulated rater is wrong.
    rated: Count
    rater_error: Rate
    # The published files that are audited, and the most pairs of each whose words are read.
    hh: list[str]
    ultrafeedback: list[str]
    sample: Count


def find_folder(config: YourDataConfig) -> Path:
    """Where the notebook keeps its files, from the folder that it runs in."""
    return Path(os.path.relpath(profiles.build_folder(config.profile))) / "your_data"


def find_ratings(items: Items) -> Path:
    """Where the ratings of these items are kept: outside build/, since nobody can make them again.

    Each draw of items has a file of its own.
    """
    return Path(os.path.relpath(profiles.root())) / "ratings" / f"{items.identity[:8]}.jsonl"


def draw_comparisons(count: int, *, seed: int) -> list[tuple[str, str, str]]:
    """Prompts with two reviews each, `(prompt, better, worse)`, by the gold reward.

    Reviews of equal reward are drawn again: nobody prefers either.
    """
    generator = np.random.default_rng(seed)
    prompts = gold.list_prompts()
    rows: list[tuple[str, str, str]] = []
    while len(rows) < count:
        prompt = prompts[generator.integers(len(prompts))]
        pair = [gold.write_review(prompt, generator) for _ in range(2)]
        better, worse = sorted(pair, key=gold.reward, reverse=True)
        if gold.reward(better) > gold.reward(worse):
            rows.append((prompt[0]["content"], better, worse))
    return rows


def write_file(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as JSONL, with three broken ones at the end, as real files have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [*(json.dumps(row) for row in rows), *_BROKEN]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def find_audits(config: YourDataConfig) -> tuple[list[Audit], pd.DataFrame, str]:
    """Audits of the published files, a table of them, and a sentence that says where it is from.

    Where the files cannot be had, the table is the committed one and there is no audit.
    """
    try:
        audits = [
            audit.audit(
                comparisons.LOADERS[study](name), sample=config.sample, source=f"{study} {name}"
            )
            for study, names in (("hh", config.hh), ("ultrafeedback", config.ultrafeedback))
            for name in names
        ]
    except AssetError as error:
        committed = profiles.find_result("laptop", "data/table15_audits.csv")
        table = pd.read_csv(committed) if committed else pd.DataFrame()
        return [], table, f"**Not audited here**: {error}. The table is the committed one."
    return audits, pd.DataFrame(map(describe, audits)), "Audited here."


def describe(found: Audit) -> dict[str, Any]:
    """One row of the table of audits: counts, what looks predict, and the rates by their routes."""
    row: dict[str, Any] = {
        "file": found.source,
        "rows": found.findings.rows,
        "prompts": found.findings.prompts,
        "refused": found.report.rows - found.report.kept if found.report else 0,
        "repeats": found.findings.repeats,
        "contradictions": found.findings.contradictions,
    }
    for bias in found.biases:
        if bias.interval is not None:
            row[bias.rule] = bias.interval.estimate
            row[f"{bias.rule}, low"] = bias.interval.low
            row[f"{bias.rule}, high"] = bias.interval.high
    for rate in found.rates:
        if rate.kind == "upper bound" and rate.interval is not None:
            row[f"{rate.route}: at most"] = rate.interval.high
    return row


def load_generations(config: YourDataConfig) -> list[dict[str, str]]:
    """What policies of notebook 09 wrote: prompt, and the answer of each of `POLICIES`.

    They are those of the first regime, at the highest noise rate and the paper's β. What has no
    record is trained.
    """
    study = profiles.study_config("gold_grammar", config.profile)
    assert isinstance(study, grammar.GrammarConfig)
    regime = next(iter(study.regimes))
    few = study.model_copy(
        update={
            "methods": list(POLICIES),
            "noise_rates": [max(study.noise_rates)],
            "betas": study.betas[:1],
            "other_methods": [],
            "regimes": {regime: study.regimes[regime]},
        }
    )
    written: dict[tuple[int, str], dict[str, str]] = {}
    for record in grammar.run_study(few).records:
        run = record["config"]
        for row in record["metrics"]["generations"]:
            kept = written.setdefault((run["seed"], row["prompt"]), {"prompt": row["prompt"]})
            kept[run["method"]] = row["policy"]
    return [*written.values()]
