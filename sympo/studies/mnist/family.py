"""Study loss_family: every loss at its own temperature, chosen on noisy labels of other seeds.

A run trains on ℓ(z/T). Each loss has the same grid of temperatures, and at each noise rate the one
is taken whose models agree best with noisy held-out labels, on seeds that decide nothing else. What
T = 1 gives stands beside. A few more runs turn the bound on rewards, or begin with the logistic
loss.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any

from pydantic import Field, field_validator

from sympo.studies import plan, records
from sympo.studies.mnist import study
from sympo.studies.mnist.config import (
    HEADLINE_LOSSES,
    Count,
    Knobs,
    LossesConfig,
    MnistRun,
    Positive,
)
from sympo.studies.mnist.network import CLIP

VERSION = study.VERSION  # of all studies that train alike
# The temperature of a loss as it stands in the registry.
UNTUNED = 1.0
# Temperatures by loss and noise rate.
Tuned = dict[tuple[str, float], float]


@dataclass(frozen=True, kw_only=True)
class FamilyRun(MnistRun):
    """One model of study loss_family: a run whose knobs are turned.

    Attributes:
        temperature: T of ℓ(z/T).
        clip: the bound on the reward.
        warm_epochs: epochs at the start on the logistic loss of z/T.
    """

    temperature: float = UNTUNED
    clip: float = CLIP
    warm_epochs: int = 0

    def knobs(self) -> Knobs:
        """As this run turns them."""
        return Knobs(self.temperature, self.clip, self.warm_epochs)

    def describe(self) -> str:
        """Loss, noise and knobs."""
        knobs = f"T = {self.temperature:g}, clip {self.clip:g}, {self.warm_epochs} epochs warm"
        return f"{super().describe()}, {knobs}"


class FamilyConfig(LossesConfig):
    """Study loss_family; all values are ours."""

    first_seed: Annotated[int, Field(ge=0)]  # of those that decide
    temperatures: list[Positive]  # the grid of every loss; it holds 1
    tuning_seed: Annotated[int, Field(ge=0)]  # the first of those that choose a temperature
    tuning_seeds: Count
    clip_losses: list[str]  # trained at the highest rate with the bounds `clips`, too
    clips: list[Positive]  # beside the paper's ±20
    warm_losses: list[str]  # trained at the highest rate with a warm start, too
    warm_epochs: list[Count]

    @field_validator("temperatures")
    @classmethod
    def _with_untuned(cls, temperatures: list[float]) -> list[float]:
        if UNTUNED not in temperatures:
            raise ValueError("1 is missing: a loss may also be best as it stands")
        return temperatures

    @property
    def deciding_seeds(self) -> range:
        """The seeds of the comparison."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def tier(self, run: MnistRun) -> int:
        """Which of `plan.TIERS` a run is in."""
        if run.seed not in self.deciding_seeds:
            return plan.PROBE
        if run.knobs() != Knobs():
            return plan.TUNED
        return plan.HEADLINE if run.method in HEADLINE_LOSSES else plan.OTHER_METHODS

    def runs(self) -> list[MnistRun]:
        """What needs no chosen temperature: the probe, and every loss at T = 1."""
        return [*self.probe_runs(), *self.own_runs(dict.fromkeys(self._cells(), UNTUNED))]

    def list_runs(self, load: plan.Load[MnistRun]) -> list[MnistRun]:
        """Every run that can be named yet: those at chosen temperatures follow the probe's records.

        Args:
            load: gives the record of a run, or None.
        """
        probe = self.probe_runs()
        found = [record for run in probe if (record := load(run)) is not None]
        if len(found) < len(probe):
            return self.runs()
        own = choose_temperatures(found)
        followers = [*self.own_runs(own), *self.ablation_runs(own)]
        # A loss that is best as it stands is trained once.
        return list(dict.fromkeys([*self.runs(), *followers]))

    def probe_runs(self) -> list[FamilyRun]:
        """Every loss at every temperature, on seeds that decide nothing else."""
        seeds = range(self.tuning_seed, self.tuning_seed + self.tuning_seeds)
        return [
            self._run(*cell, seed, temperature=temperature)
            for seed, temperature, cell in product(seeds, self.temperatures, self._cells())
        ]

    def own_runs(self, own: Tuned) -> list[FamilyRun]:
        """Every loss and rate at its temperature in `own`, on the seeds that decide."""
        return [
            self._run(*cell, seed, temperature=own[cell])
            for seed, cell in product(self.deciding_seeds, self._cells())
        ]

    def ablation_runs(self, own: Tuned) -> list[FamilyRun]:
        """Some losses at the highest rate, with other bounds or with a warm start."""
        rate = max(self.noise_rates)
        turned: list[tuple[str, dict[str, Any]]]
        turned = [
            *((loss, {"clip": clip}) for loss, clip in product(self.clip_losses, self.clips)),
            *(
                (loss, {"warm_epochs": n})
                for loss, n in product(self.warm_losses, self.warm_epochs)
            ),
        ]
        return [
            self._run(loss, rate, seed, temperature=own[loss, rate], **knob)
            for seed, (loss, knob) in product(self.deciding_seeds, turned)
        ]

    def _cells(self) -> list[tuple[str, float]]:
        return [(loss, rate) for rate in self.noise_rates for loss in self.losses]

    def _run(self, loss: str, rate: float, seed: int, **knobs: Any) -> FamilyRun:
        return FamilyRun(
            **self._shared_fields(),
            method=loss,
            noise=f"symmetric-{rate:g}",
            seed=seed,
            rate_pos=rate,
            rate_neg=rate,
            **knobs,
        )


def choose_temperatures(probe: Iterable[records.Record]) -> Tuned:
    """The temperature of each loss and rate that agrees best with noisy held-out labels.

    Each seed counts by its last epoch, and of equally good temperatures the one nearest to 1 is
    taken.

    Args:
        probe: records of `FamilyConfig.probe_runs`.
    Check: tests/studies/test_family.py.
    """
    reached: dict[tuple[str, float], dict[float, list[float]]] = {}
    for record in probe:
        config = record["config"]
        by_temperature = reached.setdefault((config["method"], config["rate_pos"]), {})
        agreed = by_temperature.setdefault(config["temperature"], [])
        agreed.append(record["metrics"]["validation"])
    return {cell: _choose(by_temperature) for cell, by_temperature in reached.items()}


def _choose(agreed: dict[float, list[float]]) -> float:
    # Sums and not means: each temperature has as many seeds.
    return max(agreed, key=lambda temperature: (sum(agreed[temperature]), -_octaves(temperature)))


def _octaves(temperature: float) -> float:
    return max(temperature, 1 / temperature)


def run_study(config: FamilyConfig) -> records.Runs:
    """Train every model of `config`, or load its record."""
    return plan.run(plan_study(config, read_only=plan.is_read_only(config.profile)))


def plan_study(config: FamilyConfig, *, read_only: bool = False) -> plan.Plan[MnistRun]:
    """The models of `config`: the probe, every loss at T = 1, and what follows from the probe.

    Args:
        read_only: whether nothing may be trained; then no data is needed.
    """
    planned = study.plan_study(config, read_only=read_only)
    return replace(planned, list_runs=config.list_runs)
