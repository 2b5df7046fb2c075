"""Study finite_sample: reward accuracy against the number of pairs, at equal steps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator

from sympo.studies import plan, records
from sympo.studies.mnist import study
from sympo.studies.mnist.config import LossesConfig, MnistRun
from sympo.studies.profiles import refuse_duplicates

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
        refuse_duplicates("shares", self.shares)
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
