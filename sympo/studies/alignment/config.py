"""What an alignment study is made of: its config, the runs that it lists, and their worlds.

All runs of one seed share a world: the SFT model that every policy starts from, and the pairs. A
`WorldSpec` names what that world depends on, an `AlignmentRun` adds what one policy depends on.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from sympo._names import unknown_name
from sympo.studies import plan, progress
from sympo.studies.profiles import StudyConfig
from sympo.studies.records import Record, Run
from sympo.trainer import loss_types

# a prompt or an answer in TRL's conversational format: turns with role and content
Messages = list[dict[str, str]]

# what a config's fields accept
Rate = Annotated[float, Field(ge=0, lt=0.5)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Decoding(NamedTuple):
    """How answers are drawn from a model.

    Attributes:
        temperature: T: logits are divided by it.
        top_p: of the most likely tokens those are left which begin below this share; 1: all.
    """

    temperature: float = 1.0
    top_p: float = 1.0


# the model's own distribution
WHOLE = Decoding()

# Ours: the learning-rate probe has seeds from here on, which no other run has.
PROBE_SEED = 1000


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """What a world is: equal specs stand for the same world.

    Attributes:
        study: whose `build_world` builds it.
        seed: of the model's weights (tiny models), the pairs, and everything that is sampled.
        data_sha256, weights_sha256: of the files behind it; "" where there are none.

    The others are the fields of the study's config with the same names.
    """

    study: str
    seed: int
    model: str
    pairs: int
    validation_pairs: int
    sft_examples: int
    sft_epochs: int
    sft_learning_rate: float
    prompts: int
    samples: int
    max_new_tokens: int
    max_prompt: int
    max_length: int
    batch: int
    micro_batch: int | str
    warmup: float
    data_sha256: str = ""
    weights_sha256: str = ""

    # Three draws of answers belong to a world. Their seeds differ from each other and from those of
    # every other world, so that no answer is drawn with the random numbers of another.

    @property
    def pairs_seed(self) -> int:
        """Seed of the answers that become training pairs."""
        return 3 * self.seed

    @property
    def sft_seed(self) -> int:
        """Seed of the SFT model's answers to the evaluation prompts."""
        return 3 * self.seed + 1

    @property
    def policy_seed(self) -> int:
        """Seed of a policy's answers to the evaluation prompts, the same for every method."""
        return 3 * self.seed + 2

    @property
    def decoding(self) -> Decoding:
        """How every answer of this world is drawn."""
        return WHOLE

    def config(self) -> dict[str, Any]:
        """The spec as a dict of JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class AlignmentRun(Run):
    """One policy to train: the world that it starts in, and how it is trained there.

    Attributes:
        world: what it shares with the other runs of its seed.
        noise_rate: ε, the share of training pairs with the wrong label, in [0, ½).
        beta: β of the implicit reward β·log π/π_ref.
        learning_rate: of AdamW.
        epochs: over the training pairs.
    Raises:
        ValueError: study or seed are not the world's.
    """

    world: WorldSpec
    noise_rate: float
    beta: float
    learning_rate: float
    epochs: int

    def __post_init__(self) -> None:
        if (self.study, self.seed) != (self.world.study, self.world.seed):
            world = f"study {self.world.study}, seed {self.world.seed}"
            raise ValueError(f"a run of study {self.study}, seed {self.seed} in a world of {world}")

    def config(self) -> dict[str, Any]:
        """The run and its world as one flat dict of JSON values."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        del own["world"]
        return {**own, **self.world.config()}

    def describe(self) -> str:
        """Method, noise, β and learning rate."""
        return f"{super().describe()}, β {self.beta:g}, learning rate {self.learning_rate:g}"


class AlignConfig(StudyConfig):
    """What alignment studies share: which runs, and one budget for every method.

    Source: the paper, where not marked ours.
    """

    # What a world is differs between studies, and so does the class that says it.
    spec_type: ClassVar[type[WorldSpec]] = WorldSpec
    may_be_empty = frozenset(
        {"claimed_methods", "claimed_rates", "frontier_methods", "betas", "learning_rates"}
    )

    model: str

    # Which runs. All methods and rates get the seeds 0 … seeds − 1.
    methods: list[str]
    noise_rates: list[Rate]
    seeds: Count
    # ours: the methods of the contrasts get more seeds at the highest rate
    headline_methods: list[str]
    headline_seeds: Count
    # the paper says who is ahead of whom among these, at these rates: trained next
    claimed_methods: tuple[str, ...] = Field((), strict=False)
    claimed_rates: tuple[Rate, ...] = Field((), strict=False)
    # ours: the reward–KL frontier, drawn at the highest rate with these β as well
    frontier_methods: list[str]
    frontier_seeds: Annotated[int, Field(ge=0)]
    betas: list[Positive]
    # ours: a probe of the headline methods at these rates, on seeds of its own; each method's best
    # by noisy validation is then run as well. Empty: no probe.
    learning_rates: tuple[Positive, ...] = Field((), strict=False)
    probe_seeds: Count = 1

    # The world. An SFT model, then training pairs.
    sft_examples: Count
    sft_epochs: Count
    sft_learning_rate: Positive
    pairs: Count
    # ours: as many more, with flips like theirs, that no policy trains on
    validation_pairs: Count
    # ours: evaluation prompts, never trained on, and the answers to each; two make a pair
    prompts: Count
    samples: Annotated[int, Field(ge=2, multiple_of=2)]
    # tokens; a longer answer is cut there
    max_new_tokens: Count
    # tokens; longer prompts, and pairs with a longer prompt and answer, are left out
    max_prompt: Count = 256
    max_length: Count = 512

    # Training. AdamW, with the same budget for every method.
    learning_rate: Positive
    beta: Positive = 0.1
    epochs: Count = 1
    # pairs per step
    batch: Count = 64
    # ours: pairs that fit in memory; their gradients accumulate to a batch. "auto": as many as do,
    # on the machine that trains
    micro_batch: Count | Literal["auto"] = 64
    # ours: a share of the steps, since the paper's 150 may be more than there are
    warmup: Share = 0.1

    @field_validator("methods", "headline_methods", "claimed_methods", "frontier_methods")
    @classmethod
    def _known(cls, names: Sequence[str]) -> Sequence[str]:
        known = loss_types()
        for name in names:
            if name not in known:
                raise ValueError(unknown_name("method", name, known))
        return names

    @model_validator(mode="after")
    def _check_together(self) -> "AlignConfig":
        if self.headline_seeds < self.seeds:
            raise ValueError(
                f"headline_seeds = {self.headline_seeds} is below seeds = {self.seeds}: raise it"
            )
        if self.micro_batch == "auto":
            return self
        if self.batch % self.micro_batch:
            raise ValueError(
                f"micro_batch = {self.micro_batch} does not divide batch = {self.batch}"
            )
        # what each of several processes takes of a batch is a whole number of micro-batches, too
        processes = progress.processes()
        if self.batch % (self.micro_batch * processes):
            raise ValueError(
                f"micro_batch = {self.micro_batch} on {processes} processes does not divide "
                f"batch = {self.batch}: choose a smaller micro_batch"
            )
        return self

    def world_spec(self, seed: int, **hashes: str) -> WorldSpec:
        """The world of a seed.

        Args:
            hashes: `data_sha256` and `weights_sha256` of the files that it is built from.
        """
        names = {field.name for field in fields(self.spec_type)}
        values: dict[str, Any] = {**self.model_dump(include=names), **hashes, "seed": seed}
        # a spec is hashable, and so its values have to be
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return self.spec_type(**values)

    def runs(self, **hashes: str) -> list[AlignmentRun]:
        """One run per policy to train; one seed is complete before the next begins.

        Args:
            hashes: as for `world_spec`.
        """
        seeds = range(max(self.headline_seeds, self.frontier_seeds))
        # each once, in the order of their first mention
        methods = dict.fromkeys([*self.methods, *self.headline_methods, *self.frontier_methods])
        betas = dict.fromkeys([self.beta, *self.betas])
        worlds = [self.world_spec(seed, **hashes) for seed in seeds]
        cells = product(worlds, self.noise_rates, methods, betas)
        return [self._run(*cell) for cell in cells if self._wants(*cell)]

    def probe_runs(self, **hashes: str) -> list[AlignmentRun]:
        """The learning-rate probe: every headline method at each of `learning_rates`.

        Args:
            hashes: as for `world_spec`.
        """
        seeds = range(PROBE_SEED, PROBE_SEED + self.probe_seeds)
        worlds = [self.world_spec(seed, **hashes) for seed in seeds]
        return [
            self._run(world, noise_rate, method, self.beta, learning_rate)
            for world in worlds
            for noise_rate in self._probed_rates()
            for method in self.headline_methods
            for learning_rate in self.learning_rates
        ]

    def tuned_runs(self, chosen: dict[str, float], **hashes: str) -> list[AlignmentRun]:
        """The headline contrasts with each method's own learning rate.

        Args:
            chosen: of `choose_learning_rates`.
            hashes: as for `world_spec`.
        """
        worlds = [self.world_spec(seed, **hashes) for seed in range(self.headline_seeds)]
        return [
            self._run(world, noise_rate, method, self.beta, chosen[method])
            for world in worlds
            for noise_rate in self._probed_rates()
            for method in self.headline_methods
        ]

    def list_runs(
        self, load: plan.Load[AlignmentRun], hashes: dict[str, str]
    ) -> list[AlignmentRun]:
        """Those of `runs`, of the probe, and, once it is complete, of what it has chosen.

        Args:
            load: gives the record of a run, or None.
            hashes: as for `world_spec`.
        """
        probe = self.probe_runs(**hashes)
        found = [record for run in probe if (record := load(run)) is not None]
        # without a probe nothing is chosen
        complete = bool(probe) and len(found) == len(probe)
        tuned = self.tuned_runs(choose_learning_rates(found), **hashes) if complete else []
        # a method's own rate may be the one that all methods share
        return list(dict.fromkeys([*self.runs(**hashes), *probe, *tuned]))

    def tier(self, run: AlignmentRun) -> int:
        """Which of `plan.TIERS` a run is in."""
        if run.seed >= PROBE_SEED:
            return plan.PROBE
        if run.learning_rate != self.learning_rate:
            return plan.TUNED
        is_headline = run.method in self.headline_methods
        if run.beta == self.beta:
            if is_headline and run.noise_rate == max(self.noise_rates):
                return plan.HEADLINE
            if run.method in self.claimed_methods and run.noise_rate in self.claimed_rates:
                return plan.CLAIMED
            # beside those at a method's own learning rate, which may be the shared one
            if is_headline and run.noise_rate in self._probed_rates():
                return plan.TUNED
        return plan.OTHER_RATES if is_headline else plan.OTHER_METHODS

    def _probed_rates(self) -> list[float]:
        """The lowest and the highest noise rate."""
        return sorted({min(self.noise_rates), max(self.noise_rates)})

    def _run(
        self,
        world: WorldSpec,
        noise_rate: float,
        method: str,
        beta: float,
        learning_rate: float | None = None,
    ) -> AlignmentRun:
        """One run; at the learning rate that all methods share, if none is given."""
        return AlignmentRun(
            study=self.study,
            method=method,
            noise=f"symmetric-{noise_rate:g}",
            seed=world.seed,
            world=world,
            noise_rate=noise_rate,
            beta=beta,
            learning_rate=learning_rate or self.learning_rate,
            epochs=self.epochs,
        )

    def _wants(self, world: WorldSpec, noise_rate: float, method: str, beta: float) -> bool:
        """Whether a cell of the full product is among the runs of this config."""
        highest = noise_rate == max(self.noise_rates)
        # the frontier takes every β, at the highest rate alone
        if highest and method in self.frontier_methods and world.seed < self.frontier_seeds:
            return True
        if beta != self.beta:
            return False
        # contrasts are drawn at the highest rate, and need more seeds there
        if highest and method in self.headline_methods:
            return world.seed < self.headline_seeds
        return method in self.methods and world.seed < self.seeds


def choose_learning_rates(probe: Iterable[Record]) -> dict[str, float]:
    """Each method's learning rate with the best mean `validation` over noise rates and seeds.

    Validation labels are as noisy as those of training, so no clean label is needed (T13). Of equal
    rates the lowest is taken; a run that diverged has validation NaN and loses.

    Args:
        probe: records of `AlignConfig.probe_runs`.
    Check: tests/studies/test_tuning.py.
    """
    # method → learning rate → what its runs reached
    reached: dict[str, dict[float, list[float]]] = {}
    for record in probe:
        method = record["config"]["method"]
        learning_rate = record["config"]["learning_rate"]
        values = reached.setdefault(method, {}).setdefault(learning_rate, [])
        validation = record["metrics"]["validation"]
        values.append(-math.inf if math.isnan(validation) else validation)
    return {
        method: max(sorted(by_rate), key=lambda rate: sum(by_rate[rate]) / len(by_rate[rate]))
        for method, by_rate in reached.items()
    }
