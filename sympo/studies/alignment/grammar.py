"""Study gold_grammar: many small policies that write reviews, judged by their true reward.

The world is that of study `gold` with its tiny model. Policies differ in method, noise rate and β,
and in how they meet their pairs: fresh ones, each seen once, or few, each seen many times, so that
wrong labels can be learned by heart. A step of such a model takes less time than what a trainer
does around it; so the loops here are bare ones. SymPOTrainer takes the same steps, told to let the
gradient norm have no bound (tests/studies/test_grammar.py).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Annotated, Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, get_linear_schedule_with_warmup

from sympo import losses, preferences
from sympo._names import unknown_name
from sympo.studies import models, plan, provenance, records
from sympo.studies.alignment import gold, sampling, sweep
from sympo.studies.alignment.config import AlignmentRun, Count, Positive, Rate, Share, WorldSpec
from sympo.studies.alignment.world import World
from sympo.studies.profiles import StudyConfig, refuse_duplicates
from sympo.trainer import SYMPO_CLIP

# raised when what the study computes changes; tests/studies/test_golden.py tells when
VERSION = 1

# tokens of a prompt, place and day
PROMPT = 2
# Ours: of the pairs trained on, those whose labels are compared with the policy's order.
FITTED = 1024


@dataclass(frozen=True, kw_only=True)
class GrammarRun(AlignmentRun):
    """One policy of the study.

    Attributes:
        regime: the name of how it meets its pairs.
        used: how many of the world's pairs it trains on, the first ones.
    """

    regime: str
    used: int

    def describe(self) -> str:
        """Method, noise, β and regime."""
        return f"{super().describe()}, {self.regime} pairs"


class Regime(BaseModel):
    """How policies meet their pairs: how many there are, and how often each is seen."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    pairs: Count
    epochs: Count


class GrammarConfig(StudyConfig):
    """Study gold_grammar. All fields are ours: the paper has no such study."""

    may_be_empty = frozenset({"other_methods"})

    # Which runs. These methods are compared at every rate and β, on the seeds 0 … seeds − 1,
    methods: list[str]
    seeds: Count
    noise_rates: list[Rate]
    # the first is the paper's; where no label is flipped it is the only one
    betas: list[Positive]
    # and these at the highest rate and the paper's β, on fewer seeds.
    other_methods: list[str]
    other_seeds: Annotated[int, Field(ge=0)]
    # pairs and epochs of each regime
    regimes: dict[str, Regime]

    # The world: SFT on reviews of the grammar, then pairs of the SFT model's own answers.
    sft_examples: Count
    sft_epochs: Count
    sft_learning_rate: Positive
    # as many more pairs, with flips like theirs, that no policy trains on
    validation_pairs: Count
    # evaluation prompts, never trained on, and the answers to each; two make a held-out pair
    prompts: Count
    samples: Annotated[int, Field(ge=2, multiple_of=2)]
    # tokens; a review has 8 at most, its end included
    max_new_tokens: Count = 9

    # Training. AdamW, with the same budget for every method.
    learning_rate: Positive
    batch: Count = 64  # pairs per step, and reviews per step of SFT
    warmup: Share = 0.1  # of the steps

    @field_validator("methods", "other_methods")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        known = list_methods()
        for name in names:
            if name not in known:
                raise ValueError(unknown_name("method", name, known))
        return names

    @model_validator(mode="after")
    def _check_together(self) -> "GrammarConfig":
        refuse_duplicates("methods and other_methods", [*self.methods, *self.other_methods])
        if self.sft_examples < self.batch:
            raise ValueError(
                f"sft_examples = {self.sft_examples} is below batch = {self.batch}: raise it"
            )
        for name, regime in self.regimes.items():
            if regime.pairs % self.batch:
                raise ValueError(
                    f"batch = {self.batch} does not divide the {regime.pairs} pairs of {name}"
                )
        return self

    def runs(self) -> list[GrammarRun]:
        """One run per policy to train; one seed is complete before the next begins."""
        wanted = []
        for seed in range(max(self.seeds, self.other_seeds)):
            world = self._world_spec(seed)
            for rate, (name, regime) in product(self.noise_rates, self.regimes.items()):
                cells = self._list_cells(seed, rate)
                wanted += [self._run(world, rate, name, regime, *cell) for cell in cells]
        return wanted

    def tier(self, run: AlignmentRun) -> int:
        """Which of `plan.TIERS` a run is in."""
        if run.method not in self.methods:
            return plan.OTHER_METHODS
        highest = run.noise_rate == max(self.noise_rates)
        return plan.HEADLINE if highest else plan.OTHER_RATES

    def _list_cells(self, seed: int, rate: float) -> list[tuple[str, float]]:
        """The methods and β of a seed at a noise rate."""
        # the paper's β alone where there is no noise to withstand
        betas = self.betas if rate > 0 else self.betas[:1]
        cells = [*product(self.methods, betas)] if seed < self.seeds else []
        if rate == max(self.noise_rates) and seed < self.other_seeds:
            cells += product(self.other_methods, self.betas[:1])
        return cells

    def _world_spec(self, seed: int) -> WorldSpec:
        # room for the few pairs of two equal answers, which say nothing and are dropped
        most = max(regime.pairs for regime in self.regimes.values())
        return WorldSpec(
            study=self.study,
            seed=seed,
            model="tiny",
            pairs=most + most // 16,
            validation_pairs=self.validation_pairs,
            sft_examples=self.sft_examples,
            sft_epochs=self.sft_epochs,
            sft_learning_rate=self.sft_learning_rate,
            prompts=self.prompts,
            samples=self.samples,
            max_new_tokens=self.max_new_tokens,
            max_prompt=PROMPT,
            max_length=PROMPT + self.max_new_tokens,
            batch=self.batch,
            micro_batch=self.batch,
            warmup=self.warmup,
        )

    def _run(
        self,
        world: WorldSpec,
        noise_rate: float,
        name: str,
        regime: Regime,
        method: str,
        beta: float,
    ) -> GrammarRun:
        return GrammarRun(
            study=self.study,
            method=method,
            noise=f"symmetric-{noise_rate:g}",
            seed=world.seed,
            world=world,
            noise_rate=noise_rate,
            beta=beta,
            learning_rate=self.learning_rate,
            epochs=regime.epochs,
            regime=name,
            used=regime.pairs,
        )


def list_methods() -> list[str]:
    """The methods whose loss is a function of one pair's margin, and perhaps of ε."""
    return [
        name
        for name, loss in losses.pair_losses().items()
        if loss.function is not None and loss.needs != "reliability" and name != "drdpo"
    ]


def run_study(config: GrammarConfig) -> records.Runs:
    """Train every policy of `config`, or load its record."""
    return plan.run(plan_study(config, read_only=plan.is_read_only(config.profile)))


def plan_study(config: GrammarConfig, *, read_only: bool = False) -> plan.Plan[AlignmentRun]:
    """The policies of `config`, those of a tier together.

    They are trained on processors, one policy per core, also where there is a GPU: it would wait
    for Python between the small operations of a model like this.
    """
    return plan.Plan(
        study=config.study,
        profile=config.profile,
        version=VERSION,
        read_only=read_only,
        provenance=provenance.collect(**models.find_weights("tiny")),
        list_runs=lambda load: [*config.runs()],
        tier=config.tier,
        # a call starts a process for each core, as far as there are seeds
        together=lambda run: None,
        train=partial(sweep.train_parallel, build_world=build_world, workbench=Workbench),
    )


def build_world(spec: WorldSpec) -> World:
    """The world of a spec: an SFT model that writes reviews, and pairs of its own answers."""
    start = gold.load_tiny(spec)
    examples = start.examples
    ids = encode(start.tokenizer, examples["prompt"][:], examples["completion"][:])
    fine_tune(start.model, ids, spec)
    world = gold.draw_world(start, spec)
    answers = sweep.draw_answers(world.model, world)
    return replace(world, facts={"reviews_sft": _count_reviews(answers, world)})


# Tokens


def encode(tokenizer: Any, prompts: list[Any], answers: list[Any]) -> Tensor:
    """Prompts with their answers as token ids, padded on the right, `(rows, tokens)`.

    Args:
        prompts, answers: messages.
    """
    texts = [
        tokenizer.apply_chat_template([*prompt, *answer], tokenize=False)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    rows = [torch.tensor(ids) for ids in tokenizer(texts, add_special_tokens=False).input_ids]
    return pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)


def answer_losses(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """−log π of each token of the answers, nats, `(rows, answer tokens)`; 0 at padding.

    Nothing hides the padding: it is on the right, where no token of an answer looks.

    Args:
        ids: `(rows, tokens)`, of `encode`.
    """
    answers = ids[:, PROMPT:]
    # the last token is not read: nothing follows it
    output = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=answers.shape[1])
    return functional.cross_entropy(
        output.logits.mT, answers, ignore_index=model.config.pad_token_id, reduction="none"
    )


def log_probs(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """log π(y | x) of answers, nats, `(rows,)`, without gradients."""
    with torch.no_grad():
        parts = [-answer_losses(model, part).sum(1) for part in ids.split(1024)]
    return torch.cat(parts)


@dataclass(frozen=True)
class Pairs:
    """Preference pairs as token ids.

    Attributes:
        ids: chosen and rejected, before any flip, `(2, pairs, tokens)`.
        reference: log π_ref(y | x) of each, `(2, pairs)`, nats.
        uniform: `(pairs,)`, in [0, 1); a label is flipped where it lies below the noise rate.
    """

    ids: Tensor
    reference: Tensor
    uniform: Tensor

    @classmethod
    def encode(cls, world: World, pairs: Dataset) -> "Pairs":
        """`pairs` of a world, and what its SFT model gives them."""
        prompts = pairs["prompt"][:]
        answers = [*pairs["chosen"][:], *pairs["rejected"][:]]
        ids = encode(world.tokenizer, [*prompts, *prompts], answers)
        reference = log_probs(world.model, ids)
        uniform = preferences.row_generator(pairs, world.spec.seed).random(len(pairs))
        return cls(ids.view(2, len(prompts), -1), reference.view(2, -1), torch.from_numpy(uniform))

    def select(self, rows: slice | Tensor) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.ids[:, rows], self.reference[:, rows], self.uniform[rows])

    def signs(self, noise_rate: float) -> Tensor:
        """−1 where `preferences.flip_preferences` would flip, else 1, `(pairs,)`."""
        return torch.where(self.uniform < noise_rate, -1.0, 1.0)

    def rewards(self, model: PreTrainedModel, beta: float) -> Tensor:
        """β·log π/π_ref of the answers, nats, `(2, pairs)`."""
        log_ratios = -answer_losses(model, self.ids.flatten(0, 1)).sum(1)
        return beta * (log_ratios.view(2, -1) - self.reference)

    def margins(self, model: PreTrainedModel, beta: float) -> NDArray[np.float64]:
        """β·(log-ratio chosen − log-ratio rejected), without gradients, `(pairs,)`."""
        with torch.no_grad():
            parts = [self.select(part).rewards(model, beta) for part in self._parts()]
        chosen, rejected = torch.cat(parts, 1).double().numpy()
        return chosen - rejected

    def _parts(self) -> tuple[Tensor, ...]:
        return torch.arange(self.ids.shape[1]).split(512)


# Training


def minimise(
    model: PreTrainedModel,
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    warmup: float,
) -> None:
    """Train `model` in place: AdamW without decay, and the schedule that TRL's trainers have.

    Args:
        loss: of the batch of a step.
        warmup: the share of the steps over which the rate rises; then it falls to 0.
    """
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0, fused=True)
    schedule = get_linear_schedule_with_warmup(optimiser, math.ceil(warmup * steps), steps)
    for step in range(steps):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
        schedule.step()
    model.eval()


def draw_batches(rows: int, *, batch: int, epochs: int, seed: int) -> Tensor:
    """Row numbers `(steps, batch)`; in every epoch each row once, but for a rest below a batch."""
    generator = torch.Generator().manual_seed(seed)
    whole = rows // batch * batch
    orders = [torch.randperm(rows, generator=generator)[:whole] for _ in range(epochs)]
    return torch.cat(orders).view(-1, batch)


def fine_tune(model: PreTrainedModel, ids: Tensor, spec: WorldSpec) -> None:
    """Supervised fine-tuning on reviews `ids` `(rows, tokens)`, in place."""
    batches = draw_batches(len(ids), batch=spec.batch, epochs=spec.sft_epochs, seed=spec.seed)

    def loss(step: int) -> Tensor:
        rows = ids[batches[step]]
        # the mean over the tokens of the batch
        return (
            answer_losses(model, rows).sum() / (rows[:, PROMPT:] != model.config.pad_token_id).sum()
        )

    minimise(
        model,
        loss,
        steps=len(batches),
        learning_rate=spec.sft_learning_rate,
        warmup=spec.warmup,
    )


def train_policy(run: GrammarRun, world: World, pairs: Pairs) -> PreTrainedModel:
    """The policy of `run`, trained from the SFT model of its world on the first of `pairs`."""
    policy = copy.deepcopy(world.model)
    method = losses.get_pair(run.method)
    told = run.noise_rate if method.needs == "noise_rate" else None
    clip = SYMPO_CLIP if run.method.startswith("sympo_") else math.inf
    batches = draw_batches(run.used, batch=world.spec.batch, epochs=run.epochs, seed=run.seed)

    def loss(step: int) -> Tensor:
        shown = pairs.select(batches[step])
        rewards = shown.rewards(policy, run.beta).clamp(-clip, clip)
        # a flip swaps the two answers, and the margin changes its sign
        margins = (rewards[0] - rewards[1]) * shown.signs(run.noise_rate)
        return method.fn(margins, noise_rate=told).mean()

    minimise(
        policy,
        loss,
        steps=len(batches),
        learning_rate=run.learning_rate,
        warmup=world.spec.warmup,
    )
    return policy


class Workbench(sweep.Workbench):
    """Trains runs in their worlds, whose pairs it keeps as tokens."""

    def __init__(self, build_world: sweep.BuildWorld) -> None:
        super().__init__(build_world)
        self._encoded: tuple[WorldSpec, Pairs, Pairs] | None = None

    def train(self, run: AlignmentRun) -> records.Result:
        """The result of `run`, in its world, on pairs flipped at its noise rate."""
        assert isinstance(run, GrammarRun)
        world = self._enter_world(run.world)
        if self._encoded is None or self._encoded[0] != run.world:
            pairs = Pairs.encode(world, world.train)
            test = Pairs.encode(world, world.test)
            self._encoded = (run.world, pairs, test)
        return train_run(run, world, *self._encoded[1:])


def train_run(run: GrammarRun, world: World, pairs: Pairs, test: Pairs) -> records.Result:
    """One policy: trained from the SFT model of `world`, then measured.

    Args:
        pairs, test: those of the world.
    Returns:
        metrics: those of `sweep.measure_answers`; accuracy and margin on test pairs, whose answer
            of the higher reward is the chosen one; validation, the share of noisy labels of
            validation pairs that the policy agrees with, a tie counted ½; fit_flipped and
            fit_clean, the same for flipped and for other labels of the first `FITTED` pairs that
            it trained on, None where there are none; reviews, the share of its answers that the
            grammar could have written, and reviews_sft, the same of the SFT model.
    Raises:
        ValueError: too many pairs had equal answers.
    """
    first = len(world.train) - world.spec.validation_pairs
    if first < run.used:
        raise ValueError(
            f"{first} pairs of two different answers are fewer than the {run.used} of regime "
            f"{run.regime}: lower its pairs, or raise sft_epochs"
        )
    policy = train_policy(run, world, pairs)
    held_out = test.margins(policy, run.beta)
    agreed = _agreements(run, policy, pairs.select(slice(first, None)))
    return records.Result(
        {
            "accuracy": float((held_out > 0).mean()),
            "margin": float(held_out.mean()),
            "validation": sweep.agreement(agreed),
            **_measure_fit(run, policy, pairs),
            **_measure_answers(policy, world),
        },
        history=[],
    )


def _agreements(run: GrammarRun, policy: PreTrainedModel, pairs: Pairs) -> NDArray[np.float64]:
    """Margins of the noisy labels of `pairs`, above 0 where the policy agrees, `(pairs,)`."""
    return pairs.margins(policy, run.beta) * pairs.signs(run.noise_rate).numpy()


def _measure_fit(run: GrammarRun, policy: PreTrainedModel, pairs: Pairs) -> dict[str, float | None]:
    shown = pairs.select(slice(0, min(run.used, FITTED)))
    agreed = _agreements(run, policy, shown)
    flipped = shown.signs(run.noise_rate).numpy() < 0
    groups = {"fit_flipped": agreed[flipped], "fit_clean": agreed[~flipped]}
    return {name: sweep.agreement(group) if len(group) else None for name, group in groups.items()}


def _measure_answers(policy: PreTrainedModel, world: World) -> dict[str, Any]:
    answers = sweep.draw_answers(policy, world)
    measured = sweep.measure_answers(answers, policy, world)
    return {**measured, "reviews": _count_reviews(answers, world), **world.facts}


def _count_reviews(answers: sampling.Samples, world: World) -> float:
    """The share of answers that the grammar could have written."""
    asked = [prompt for prompt in world.prompts for _ in range(world.spec.samples)]
    pairs = zip(asked, answers.texts, strict=True)
    return float(np.mean([gold.is_review(prompt, answer) for prompt, answer in pairs]))
