"""The configs of the MNIST studies, and the runs that follow from them."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import Field, field_validator

from sympo import losses, noise
from sympo.studies import plan, records
from sympo.studies.mnist.network import CLIP
from sympo.studies.profiles import StudyConfig

# The noise models of study mnist_noise. Lemma 1 says that the first two give the same risk, and
# nothing about the third, where the written order tells something about the pair.
Condition = Literal["asymmetric", "equivalent", "tied"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)

# The contrasts that the notebooks name, and where they are drawn: a queue trains them first.
HEADLINE_LOSSES = ("logistic", "hinge", "sigmoid", "ramp")
HEADLINE_RATES = (0.0, 0.4)

# At one half a noisy label says nothing about the true one, and beyond it says the opposite.
Rate = Annotated[float, Field(ge=0, lt=0.5)]
# YAML has lists only, which a strict model would not take for a pair.
RatePair = Annotated[tuple[float, float], Field(strict=False)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Knobs(NamedTuple):
    """What a run may turn beside its loss ℓ: it trains on ℓ(z/T) of clipped rewards.

    Attributes:
        temperature: T.
        clip: the bound on a reward, before it is divided by T.
        warm_epochs: epochs at the start in which the logistic loss stands in for ℓ.
    """

    temperature: float = 1.0
    clip: float = CLIP
    warm_epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class MnistRun(records.Run):
    """One model to train, and all that its result depends on.

    Attributes:
        rate_pos: the share of labels +1 that are flipped.
        rate_neg: the share of labels −1 that are flipped.
        epochs: passes over the pairs.
        eval_every: epochs between evaluations; the last epoch is always evaluated.
        pairs: how many are trained on.
        validation_pairs: how many are held out, with labels as noisy as those trained on.
        batch: pairs per step.
        learning_rate: of Adam.
        class_prior: the share of pairs written with the winner first.
    """

    rate_pos: float
    rate_neg: float
    epochs: int
    eval_every: int
    pairs: int
    validation_pairs: int
    batch: int
    learning_rate: float
    class_prior: float

    def knobs(self) -> Knobs:
        """The paper's, unless a study turns them."""
        return Knobs()


@dataclass(frozen=True, kw_only=True)
class NoiseRun(MnistRun):
    """One model of study mnist_noise.

    Attributes:
        condition: which of the three noise models it sees.
        noise_pair: the annotator's two rates as text, such as "0-0.4"; runs that are compared with
            one another share it.
        first_rate: how often the image with more ink is written first; None where a coin decides.
    """

    condition: Condition
    noise_pair: str
    first_rate: float | None


class TrainingConfig(StudyConfig):
    """What both MNIST studies share. Source: the authors' released code, where not marked ours."""

    losses: list[str]
    seeds: Count  # runs use the seeds 0 … seeds − 1
    epochs: Count
    eval_every: Count  # ours: epochs between evaluations; the last epoch is always evaluated
    # Training pairs. The 60,000 images make 30,000 pairs, of which a tenth show one digit twice.
    pairs: Annotated[int, Field(ge=2, le=25_000)]
    validation_pairs: Annotated[int, Field(ge=1, le=1_500)] = 1_000  # held out
    batch: Annotated[int, Field(ge=2)] = 512  # pairs per step
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3  # Adam
    # Share of pairs written with the winner first.
    class_prior: Annotated[float, Field(ge=0, le=1)] = 0.5

    @field_validator("losses")
    @classmethod
    def _known_losses(cls, names: list[str]) -> list[str]:
        # Asked for its error alone, which says what the nearest name is: a misspelt loss must not
        # wait until its models' turn to train.
        for name in names:
            losses.get(name)
        return names

    def _shared_fields(self) -> dict[str, Any]:
        """What every run of the study has in common, as arguments of `MnistRun`."""
        names = (
            "study",
            "epochs",
            "eval_every",
            "pairs",
            "validation_pairs",
            "batch",
            "learning_rate",
            "class_prior",
        )
        return {name: getattr(self, name) for name in names}


class LossesConfig(TrainingConfig):
    """Study mnist_losses: reward accuracy against the rate of symmetric noise, per loss."""

    noise_rates: list[Rate]

    def tier(self, run: MnistRun) -> int:
        """Which of `plan.TIERS` a run is in."""
        return _tier(run, headline=run.rate_pos in HEADLINE_RATES)

    def runs(self) -> list[MnistRun]:
        """One run per model to train."""
        # The losses of one seed and rate come last: they are what is compared.
        return [
            MnistRun(
                **self._shared_fields(),
                method=loss,
                noise=f"symmetric-{rate:g}",
                seed=seed,
                rate_pos=rate,
                rate_neg=rate,
            )
            for rate in self.noise_rates
            for seed in range(self.seeds)
            for loss in self.losses
        ]


class NoiseConfig(TrainingConfig):
    """Study mnist_noise: asymmetric noise, its symmetric equivalent, and a tied written order."""

    noise_pairs: list[RatePair]  # (rate_pos, rate_neg)
    # Ours: how often the image with more ink is written first, under tied noise.
    first_rate: Annotated[float, Field(ge=0, le=1)]

    @field_validator("noise_pairs")
    @classmethod
    def _learnable(cls, pairs: list[RatePair]) -> list[RatePair]:
        # One of the two may exceed one half, as long as their mean, which is the rate of the
        # equivalent noise at prior ½, does not.
        for rate_pos, rate_neg in pairs:
            noise.check_rates(rate_pos, rate_neg)
        return pairs

    def tier(self, run: NoiseRun) -> int:
        """Which of `plan.TIERS` a run is in; those of the noisiest annotator come first."""
        noisiest = max(self.noise_pairs, key=sum)
        return _tier(run, headline=run.noise_pair == _name_pair(noisiest))

    def runs(self) -> list[NoiseRun]:
        """One run per model to train."""
        return [
            self._run(rates, seed, loss, condition)
            for rates in self.noise_pairs
            for seed in range(self.seeds)
            for loss in self.losses
            for condition in CONDITIONS
        ]

    def _run(self, rates: RatePair, seed: int, loss: str, condition: Condition) -> NoiseRun:
        rate_pos, rate_neg = rates
        noise_pair = _name_pair(rates)
        equivalent = noise.equivalent_rate(rate_pos, rate_neg, self.class_prior)
        # Tied noise has the annotator's own two rates; it differs from asymmetric noise in how the
        # written order comes about.
        symmetric = condition == "equivalent"
        return NoiseRun(
            **self._shared_fields(),
            method=loss,
            noise=f"{condition}-{noise_pair}",
            seed=seed,
            rate_pos=equivalent if symmetric else rate_pos,
            rate_neg=equivalent if symmetric else rate_neg,
            condition=condition,
            noise_pair=noise_pair,
            first_rate=self.first_rate if condition == "tied" else None,
        )


class PolicyConfig(StudyConfig):
    """The policies of notebook 07, for the rewards of study mnist_losses; all values are ours."""

    kls: list[Positive]  # of tilted policies, nats
    betas: list[Positive]
    ns: list[Count]  # of best-of-n


def _name_pair(rates: RatePair) -> str:
    rate_pos, rate_neg = rates
    return f"{rate_pos:g}-{rate_neg:g}"


def _tier(run: MnistRun, *, headline: bool) -> int:
    """The tier of a run whose noise is one of the headline or not."""
    if run.method not in HEADLINE_LOSSES:
        return plan.OTHER_METHODS
    return plan.HEADLINE if headline else plan.OTHER_RATES
