"""Study finite_sample: reward accuracy against the number of pairs, at equal steps."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Self

import torch
from pydantic import Field, model_validator

from sympo.studies import plan, records
from sympo.studies.mnist import study
from sympo.studies.mnist.config import LossesConfig, MnistRun

if TYPE_CHECKING:
    import pandas as pd

# Nothing here computes a result: what trains these models is what trains the other MNIST studies'.
VERSION = study.VERSION


class SizesConfig(LossesConfig):
    """Study finite_sample: symmetric noise, and nested training sets that see equal steps.

    `epochs` and `eval_every` count passes over the largest set, of `pairs` pairs. A share s of it
    is passed 1/s times as often, so that every model takes the same number of steps.
    """

    # Ours: sets of this share of `pairs`. A share (1 − 2ε)² is what ε leaves of them, by T10.
    shares: list[Annotated[float, Field(gt=0, le=1)]]
    first_seed: Annotated[int, Field(ge=0)]  # ours: no other study's, so that nothing was seen

    @model_validator(mode="after")
    def _equal_steps(self) -> Self:
        for share in self.shares:
            steps = share * self.pairs / self.batch
            passes = (self.epochs / share, self.eval_every / share)
            if not all(math.isclose(number, round(number)) for number in (steps, *passes)):
                raise ValueError(
                    f"a share of {share:g} has {steps:g} batches and {passes[0]:g} epochs: choose "
                    "shares that make both whole, so that all models take equal steps"
                )
        return self

    def runs(self) -> list[MnistRun]:
        """One run per model to train, from the smallest set to the largest."""
        largest = super().runs()
        return [
            replace(
                run,
                seed=self.first_seed + run.seed,
                pairs=round(share * self.pairs),
                epochs=round(self.epochs / share),
                eval_every=round(self.eval_every / share),
            )
            for share in sorted(self.shares)
            for run in largest
        ]


def run_study(config: SizesConfig) -> records.Runs:
    """Train every model of `config`, or load its record."""
    return plan.run(plan_study(config, read_only=plan.is_read_only(config.profile)))


def plan_study(config: SizesConfig, *, read_only: bool = False) -> plan.Plan[Any]:
    """The models of `config`; those of a tier, seed and size train together.

    Args:
        read_only: whether nothing may be trained; then no data is needed.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return replace(
        study.plan_study(config, read_only=read_only),
        together=attrgetter("seed", "pairs"),
        train=partial(train_models, device=device),
    )


def train_models(
    runs: Sequence[MnistRun], *, device: str
) -> Iterator[tuple[MnistRun, records.Result]]:
    """Train the models of `runs`, size after size, and yield each run with its result.

    Models of one size share their batches, and may train together.
    """
    by_size = attrgetter("pairs")
    for _, together in groupby(sorted(runs, key=by_size), key=by_size):
        yield from study.train_models(list(together), device=device)


def tabulate_runs(runs: Iterable[records.Record]) -> "pd.DataFrame":
    """What every model of the study is worth at the end, a row each.

    Args:
        runs: records of study finite_sample.
    Returns:
        columns method, noise_rate, pairs, seed; effective, pairs·(1 − 2ε)²; accuracy,
        chosen_accuracy and halfway_accuracy, at the last epoch, at the one that noisy held-out
        pairs choose, and at the first evaluation after half of the steps; ties, fit_flipped,
        fit_clean; and memorised, fit_flipped − (1 − fit_clean), NaN without flips.
    Check: tests/studies/test_sizes.py.
    """
    model = ["method", "noise_rate", "pairs", "seed"]
    curves = records.history_table(runs).rename(columns={"rate_pos": "noise_rate"})
    curves["fit_flipped"] = curves.fit_flipped.astype(float)
    curves["memorised"] = curves.fit_flipped - (1 - curves.fit_clean)
    # whole numbers where a clean set of this size may be among those of the study
    curves["effective"] = (curves.pairs * (1 - 2 * curves.noise_rate) ** 2).round(6)
    by_model = curves.groupby(model)
    chosen = curves.loc[by_model.validation.idxmax()].set_index(model).accuracy
    later = curves[2 * curves.epoch >= by_model.epoch.transform("max")]
    halfway = later.loc[later.groupby(model).epoch.idxmin()].set_index(model).accuracy
    others = {"chosen_accuracy": chosen, "halfway_accuracy": halfway}
    last = curves.loc[by_model.epoch.idxmax()].set_index(model).assign(**others).reset_index()
    accuracies = ["accuracy", "chosen_accuracy", "halfway_accuracy"]
    measured = [*accuracies, "ties", "fit_flipped", "fit_clean", "memorised"]
    return last[[*model, "effective", *measured]].sort_values(model, ignore_index=True)
