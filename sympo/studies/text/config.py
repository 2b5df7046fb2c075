"""The config of study real_text, and the runs that follow from it."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator

from sympo import losses
from sympo.studies import plan, records
from sympo.studies.profiles import StudyConfig
from sympo.studies.text.corpora import CorpusName
from sympo.studies.text.features import FeaturesName

# Seeds of the runs that choose settings; no other run has them.
PROBE_SEED = 1_000
# The contrasts that notebook 08 names, and where they are drawn.
HEADLINE_LOSSES = ("logistic", "hinge", "sigmoid", "ramp")
HEADLINE_RATES = (0.0, 0.4)

Rate = Annotated[float, Field(ge=0, lt=0.5)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Setting(NamedTuple):
    """What is tuned: the features that a head reads, and AdamW's learning rate and decay."""

    features: str
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True, kw_only=True)
class TextRun(records.Run):
    """What every run of the study says about its data and its training.

    Attributes:
        corpus: one of `CorpusName`.
        noise_rate: the share of training labels that is flipped, on average.
        epochs: passes over the training pairs.
        batch: pairs per step.
        train_share: of the training prompts, drawn by the seed; the others are for validation.
        pairs: at most so many of each file.
        data_sha256, weights_sha256: of the files behind all corpora, and of MiniLM; "" without it.
    """

    corpus: str
    noise_rate: float
    epochs: int
    batch: int
    train_share: float
    pairs: int
    data_sha256: str = ""
    weights_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class HeadRun(TextRun):
    """One reward head.

    Attributes:
        setting: "shared", which all losses have in common, or the loss's "own".
        flips: "uniform", or "near ties", which flips where two scores are close.
        scored: whether only pairs with scores are used.
    """

    features: str
    learning_rate: float
    weight_decay: float
    setting: Literal["shared", "own"]
    flips: Literal["uniform", "near ties"] = "uniform"
    scored: bool = False

    def describe(self) -> str:
        """What tells the run from the others of its study and seed, for a person."""
        pairs = "scored pairs, " if self.scored else ""
        return f"{self.corpus}, {pairs}{self.method}, {self.noise}, {self.setting} setting"


@dataclass(frozen=True, kw_only=True)
class ProbeRun(TextRun):
    """One head for each setting of a grid, which noisy validation pairs then compare."""

    settings: tuple[Setting, ...]

    def config(self) -> dict[str, Any]:
        """The run as a dict of JSON values."""
        return {**asdict(self), "settings": [list(setting) for setting in self.settings]}

    def describe(self) -> str:
        """What tells the run from the others of its study and seed, for a person."""
        return f"{self.corpus}, {self.method}, {self.noise}, {len(self.settings)} settings"


class TextConfig(StudyConfig):
    """Study real_text: reward heads on real comparisons. All sizes are ours."""

    may_be_empty = frozenset({"score_rates"})

    corpora: list[CorpusName]
    losses: list[str]
    noise_rates: list[Rate]
    seeds: Count  # runs use the seeds 0 … seeds − 1
    probe_seeds: Count  # those that choose settings, from PROBE_SEED on
    epochs: Count
    batch: Count = 128  # pairs per step
    pairs: Count  # at most, of each file
    train_share: Share = 0.8
    # The grid from which each loss gets its own setting.
    features: list[FeaturesName]
    learning_rates: list[Positive]
    weight_decays: list[Annotated[float, Field(ge=0)]]
    # The setting that all losses share.
    shared_features: FeaturesName
    shared_learning_rate: Positive = 1e-3
    shared_weight_decay: Annotated[float, Field(ge=0)] = 0.01
    # Mean rates of flips that are more frequent near ties, for ultrafeedback; [] for none. These
    # runs have the shared setting, so that nothing but the flips tells them apart. A run without
    # flips is added to them, so that 0 would be a second one.
    score_rates: list[Annotated[float, Field(gt=0, lt=0.5)]]

    @field_validator("losses")
    @classmethod
    def _known_losses(cls, names: list[str]) -> list[str]:
        for name in names:
            losses.get(name)
        return names

    def list_runs(self, load: plan.Load[Any], hashes: dict[str, str]) -> list[TextRun]:
        """Those with the shared setting, the probe's, and, once it is complete, what follows it.

        Args:
            load: gives the record of a run, or None.
            hashes: `data_sha256` and `weights_sha256`.
        """
        probe = self.probe_runs(hashes)
        found = [record for run in probe if (record := load(run)) is not None]
        own = choose_settings(found) if len(found) == len(probe) else {}
        return [*self.shared_runs(hashes), *probe, *self.own_runs(own, hashes)]

    def shared_runs(self, hashes: dict[str, str]) -> list[HeadRun]:
        """Every loss with the setting that all share."""
        setting = Setting(self.shared_features, self.shared_learning_rate, self.shared_weight_decay)
        # uniform flips of all pairs, then the flips that know the scores
        cases: list[tuple[str, float, dict[str, Any]]]
        cases = [(name, rate, {}) for name, rate in product(self.corpora, self.noise_rates)]
        if "ultrafeedback" in self.corpora and self.score_rates:
            kinds = [(0.0, "uniform"), *product(self.score_rates, ("uniform", "near ties"))]
            cases += [
                ("ultrafeedback", rate, {"flips": flips, "scored": True}) for rate, flips in kinds
            ]
        return [
            HeadRun(
                **self._fields(seed, corpus, rate, loss, hashes, **options),
                **setting._asdict(),
                setting="shared",
            )
            for seed in range(self.seeds)
            for corpus, rate, options in cases
            for loss in self.losses
        ]

    def probe_runs(self, hashes: dict[str, str]) -> list[ProbeRun]:
        """The whole grid for every loss, rate and corpus, on seeds of its own."""
        grid = product(self.features, self.learning_rates, self.weight_decays)
        settings = tuple(Setting(*values) for values in grid)
        seeds = range(PROBE_SEED, PROBE_SEED + self.probe_seeds)
        cells = product(seeds, self.corpora, self.noise_rates, self.losses)
        return [ProbeRun(**self._fields(*cell, hashes), settings=settings) for cell in cells]

    def own_runs(
        self, own: dict[tuple[str, str, float], Setting], hashes: dict[str, str]
    ) -> list[HeadRun]:
        """Every loss with the setting that it has chosen for its corpus and rate.

        Args:
            own: of `choose_settings`; without it nothing follows.
        """
        seeds = range(self.seeds if own else 0)
        cells = product(seeds, self.corpora, self.noise_rates, self.losses)
        return [
            HeadRun(
                **self._fields(seed, corpus, rate, loss, hashes),
                **own[corpus, loss, rate]._asdict(),
                setting="own",
            )
            for seed, corpus, rate, loss in cells
        ]

    def tier(self, run: TextRun) -> int:
        """Which of `plan.TIERS` a run is in."""
        if isinstance(run, ProbeRun):
            return plan.PROBE
        if isinstance(run, HeadRun) and run.setting == "own":
            return plan.TUNED
        if run.method not in HEADLINE_LOSSES:
            return plan.OTHER_METHODS
        if getattr(run, "scored", False):
            return plan.OTHER_RATES
        return plan.HEADLINE if run.noise_rate in HEADLINE_RATES else plan.OTHER_RATES

    def _fields(
        self,
        seed: int,
        corpus: str,
        noise_rate: float,
        loss: str,
        hashes: dict[str, str],
        **options: Any,
    ) -> dict[str, Any]:
        """What a run of any kind is made of, as arguments."""
        kind = str(options.get("flips", "uniform")).replace(" ", "_")
        shared = ("study", "epochs", "batch", "train_share", "pairs")
        return {
            **{name: getattr(self, name) for name in shared},
            "method": loss,
            "noise": f"{kind}-{noise_rate:g}",
            "seed": seed,
            "corpus": corpus,
            "noise_rate": noise_rate,
            **hashes,
            **options,
        }


def choose_settings(probe: Iterable[records.Record]) -> dict[tuple[str, str, float], Setting]:
    """(corpus, loss, noise rate) → the setting with the best mean noisy validation accuracy.

    Validation labels are as noisy as those of training, so no clean label is needed (T13). Of equal
    settings the first of the grid is taken; one whose head diverged loses.

    Args:
        probe: records of `TextConfig.probe_runs`.
    Check: tests/studies/test_text_study.py.
    """
    reached: dict[tuple[str, str, float], dict[Setting, list[float]]] = {}
    for record in probe:
        config = record["config"]
        by_setting = reached.setdefault(
            (config["corpus"], config["method"], config["noise_rate"]), {}
        )
        for row in record["history"]:
            setting = Setting(row["features"], row["learning_rate"], row["weight_decay"])
            by_setting.setdefault(setting, []).append(row["validation"])
    return {
        cell: max(by_setting, key=lambda setting: rank(sum(by_setting[setting])))
        for cell, by_setting in reached.items()
    }


def rank(validation: float) -> float:
    """What to choose the largest of: a validation accuracy, or −∞ for NaN, of a diverged head."""
    # max keeps a NaN that comes first, since nothing compares as larger.
    return -math.inf if math.isnan(validation) else validation
