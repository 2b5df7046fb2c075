"""Study real_text: from a config to its records."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sympo import losses, noise, preferences
from sympo.studies import plan, profiles, progress, provenance, records, sources
from sympo.studies.text import corpora, features
from sympo.studies.text.config import HeadRun, ProbeRun, Setting, TextConfig, TextRun, rank
from sympo.studies.text.corpora import Corpus
from sympo.studies.text.features import Differences
from sympo.studies.text.flips import draw_numbers, near_tie_rates
from sympo.studies.text.heads import Head, outcomes, train_heads

# Records of another version are not read; tests/studies/test_golden.py says when to raise it.
VERSION = 1


def run_study(config: TextConfig) -> records.Runs:
    """Train every head of `config`, or load its record."""
    return plan.run(plan_study(config, read_only=plan.is_read_only(config.profile)))


def plan_study(config: TextConfig, *, read_only: bool = False) -> plan.Plan[Any]:
    """The heads of `config`, those of a tier and seed together.

    Args:
        read_only: whether nothing may be trained; then no data is needed.
    """
    bench = Bench(config.pairs, folder=features_folder(config.profile))
    if read_only:
        folder = plan.records_folder(config.profile)
        source = records.find_hashes(config.study, folder=folder, version=VERSION)
    else:
        source = find_source(config, bench)
    return plan.Plan(
        study=config.study,
        profile=config.profile,
        version=VERSION,
        read_only=read_only,
        provenance=provenance.collect(**source),
        list_runs=partial(
            config.list_runs,
            hashes=records.list_hashes(source),
        ),
        tier=config.tier,
        together=attrgetter("seed"),
        train=bench.train,
    )


def features_folder(profile: str) -> Path:
    """Where embeddings are kept, for every profile; ignored by git."""
    return profiles.build_folder(profile).parent / "features"


def find_source(config: TextConfig, bench: "Bench") -> dict[str, str]:
    """Where data and weights come from, with the sha256 of each."""
    data = corpora.join_sources([bench.corpus(name) for name in config.corpora])
    models = {"static": sources.wordllama, "minilm": sources.minilm}
    needed = {*config.features, config.shared_features}
    assets = [find() for name, find in models.items() if name in needed]
    return {
        **data,
        "weights": "; ".join(asset.source for asset in assets) or "none",
        "weights_sha256": " ".join(asset.sha256 for asset in assets),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: the matrices are small, and threads that share them only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Column(NamedTuple):
    """One head of a run: a column of the matrix that is trained."""

    run: TextRun
    setting: Setting


def list_columns(run: TextRun) -> list[Column]:
    """The head of a run, or those of a probe."""
    if isinstance(run, ProbeRun):
        return [Column(run, setting) for setting in run.settings]
    assert isinstance(run, HeadRun)
    return [Column(run, Setting(run.features, run.learning_rate, run.weight_decay))]


class Draws(NamedTuple):
    """What a seed draws for the training part of a corpus.

    Attributes:
        trained: `(pairs,)`, which pairs are trained on; the others are for validation.
        numbers: `(pairs,)`, uniform numbers that decide about the flips.
    """

    trained: NDArray[np.bool_]
    numbers: NDArray[np.float64]


def draw(corpus: Corpus, seed: int, *, train_share: float) -> Draws:
    """Draw training prompts, each of which is taken with all its pairs, and numbers for flips."""
    keys = preferences.prompt_keys(corpus.train)
    trained = noise.RowGenerator(keys, seed).random(len(keys)) < train_share
    return Draws(trained, draw_numbers(corpus.train, seed=seed))


def find_pairs(gaps: NDArray[np.float64], run: TextRun) -> NDArray[np.bool_]:
    """Which pairs a run uses: all, or those whose answers have scores."""
    return np.isfinite(gaps) | (not getattr(run, "scored", False))


def flip_labels(gaps: NDArray[np.float64], draws: Draws, run: TextRun) -> NDArray[np.bool_]:
    """Which labels of the training part lie, those for validation included."""
    rates: Any = run.noise_rate
    if getattr(run, "flips", "uniform") == "near ties":
        scored = np.isfinite(gaps)
        rates = np.zeros(len(gaps))
        rates[scored] = near_tie_rates(gaps[scored], run.noise_rate)
    return draws.numbers < rates


class Bench:
    """Trains runs, and keeps corpora and features for the next."""

    def __init__(self, pairs: int, *, folder: Path) -> None:
        self.pairs = pairs
        self.folder = folder
        self.device = features.find_device()
        self._corpora: dict[str, Corpus] = {}
        self._differences: dict[tuple[str, str], Differences] = {}
        self._draws: dict[tuple[str, int], Draws] = {}

    def corpus(self, name: str) -> Corpus:
        """A corpus, loaded once."""
        if name not in self._corpora:
            self._corpora[name] = corpora.load(name, most=self.pairs)
        return self._corpora[name]

    def differences(self, name: str, kind: str) -> Differences:
        """The features of a corpus, computed or read once."""
        if (name, kind) not in self._differences:
            self._differences[name, kind] = features.differences(
                self.corpus(name), kind, folder=self.folder
            )
        return self._differences[name, kind]

    def _draw(self, run: TextRun) -> Draws:
        if (run.corpus, run.seed) not in self._draws:
            self._draws[run.corpus, run.seed] = draw(
                self.corpus(run.corpus), run.seed, train_share=run.train_share
            )
        return self._draws[run.corpus, run.seed]

    def train(self, runs: Sequence[TextRun]) -> Iterator[tuple[TextRun, records.Result]]:
        """Yield each run with its result; heads with the same pairs and features train at once."""
        ordered = sorted(runs, key=_shared_pairs)
        # Before the single thread, since a transformer computes them.
        for column in chain.from_iterable(map(list_columns, ordered)):
            self.differences(column.run.corpus, column.setting.features)
        with one_thread(), progress.progress(len(ordered), "reward heads") as bar:
            for _, group in groupby(ordered, key=_shared_pairs):
                together = list(group)
                rows = self._train_group(together)
                for run in together:
                    yield run, summarise(run, rows)
                    bar.update()

    def _train_group(self, runs: Sequence[TextRun]) -> dict[Column, list[dict[str, Any]]]:
        """The history of every head of runs that have their pairs in common."""
        columns = [column for run in runs for column in list_columns(run)]
        histories: dict[Column, list[dict[str, Any]]] = {}
        # Probes look at validation pairs alone, and are many: apart from the others.
        for kind, probing in dict.fromkeys(map(_shared_inputs, columns)):
            some = [each for each in columns if _shared_inputs(each) == (kind, probing)]
            table = self.prepare(some)
            for epoch, weights in enumerate(table.train(some), start=1):
                entries = table.validate(weights) if probing else table.evaluate(weights, some)
                for column, entry in zip(some, entries, strict=True):
                    histories.setdefault(column, []).append({"epoch": epoch, **entry})
        return histories

    def prepare(self, columns: Sequence[Column]) -> "Table":
        """What heads with the same pairs and features are trained and tested on."""
        run = columns[0].run
        corpus = self.corpus(run.corpus)
        inputs = self.differences(run.corpus, columns[0].setting.features)
        draws = self._draw(run)
        gaps, test_gaps = (np.array(part["gap"]) for part in (corpus.train, corpus.test))
        # The heads of a probe differ in their settings, and have one run's flips.
        flipped = {each: flip_labels(gaps, draws, each) for each in {c.run for c in columns}}
        labels = np.where(np.stack([flipped[c.run] for c in columns], axis=1), -1.0, 1.0)
        used = find_pairs(gaps, run)

        def move(values: NDArray[Any]) -> Tensor:
            return torch.as_tensor(values, dtype=torch.get_default_dtype(), device=self.device)

        kept = used & draws.trained
        validated = used & ~draws.trained
        return Table(
            train_inputs=move(inputs.train[kept]),
            validation_inputs=move(inputs.train[validated]),
            train_labels=move(labels[kept]),
            validation_labels=move(labels[validated]),
            test_inputs=move(inputs.test[find_pairs(test_gaps, run)]),
        )


def _shared_pairs(run: TextRun) -> tuple[str, int, bool]:
    return run.corpus, run.seed, getattr(run, "scored", False)


def _shared_inputs(column: Column) -> tuple[str, bool]:
    return column.setting.features, isinstance(column.run, ProbeRun)


class Table(NamedTuple):
    """The pairs of heads that train together.

    Attributes:
        train_inputs, validation_inputs, test_inputs: `(pairs, features)`, chosen minus rejected.
        train_labels, validation_labels: `(pairs, heads)`, −1 where a head's label is flipped.
    """

    train_inputs: Tensor
    validation_inputs: Tensor
    train_labels: Tensor
    validation_labels: Tensor
    test_inputs: Tensor

    def train(self, columns: Sequence[Column]) -> Iterator[Tensor]:
        """The weights of all heads after each epoch: `(features, heads)`."""
        run = columns[0].run
        heads = [
            Head(column.run.method, column.setting.learning_rate, column.setting.weight_decay)
            for column in columns
        ]
        return train_heads(
            self.train_inputs,
            self.train_labels,
            heads,
            epochs=run.epochs,
            batch=run.batch,
            seed=run.seed,
        )

    def validate(self, weights: Tensor) -> list[dict[str, Any]]:
        """Accuracy on noisy validation labels, ties counted ½, for each head."""
        agrees = outcomes(self.validation_labels * (self.validation_inputs @ weights))
        return [{"validation": value} for value in agrees.mean(0).tolist()]

    def evaluate(self, weights: Tensor, columns: Sequence[Column]) -> list[dict[str, Any]]:
        """A row of history for each head, with the outcome of every test pair."""
        rewards = self.train_inputs @ weights
        fitted = outcomes(self.train_labels * rewards)
        clean = outcomes(self.validation_inputs @ weights).mean(0)
        tested = outcomes(self.test_inputs @ weights)
        return [
            {
                **entry,
                "validation_clean": clean[at].item(),
                "outcomes": tested[:, at],
                "margin": (self.test_inputs @ weights[:, at]).mean().item(),
                "train_risk": risk(column.run.method, self.train_labels[:, at] * rewards[:, at]),
                **fit_shares(fitted[:, at], self.train_labels[:, at] < 0),
            }
            for at, (column, entry) in enumerate(zip(columns, self.validate(weights), strict=True))
        ]


def risk(loss: str, margins: Tensor) -> float:
    """The mean loss of margins."""
    return losses.get(loss).fn(margins).mean().item()


def fit_shares(agrees: Tensor, flipped: Tensor) -> dict[str, float | None]:
    """The share of flipped and of unflipped training labels that a head agrees with."""
    parts = {"fit_flipped": agrees[flipped], "fit_clean": agrees[~flipped]}
    return {name: part.mean().item() if len(part) else None for name, part in parts.items()}


def summarise(run: TextRun, rows: dict[Column, list[dict[str, Any]]]) -> records.Result:
    """What a run leaves: a probe, the last validation of each setting; a head, all it was asked."""
    columns = list_columns(run)
    if isinstance(run, ProbeRun):
        last = [
            {**column.setting._asdict(), "validation": rows[column][-1]["validation"]}
            for column in columns
        ]
        accuracies = [row["validation"] for row in last]
        return records.Result({"accuracy": max(accuracies, key=rank)}, last)
    history = rows[columns[0]]
    # The first of several epochs that are equally good.
    chosen = max(history, key=lambda row: rank(row["validation"]))
    metrics = {
        **_count(history[-1]),
        "chosen_epoch": chosen["epoch"],
        "outcomes": write_outcomes(history[-1]["outcomes"], run),
        "chosen_outcomes": write_outcomes(chosen["outcomes"], run),
    }
    return records.Result(metrics, [_count(row) for row in history])


def _count(row: dict[str, Any]) -> dict[str, Any]:
    """A row of history with the accuracy over all test pairs in place of every outcome."""
    kept = {name: value for name, value in row.items() if name != "outcomes"}
    return {**kept, "accuracy": row["outcomes"].mean().item()}


def write_outcomes(values: Tensor, run: TextRun) -> str:
    """A digit per test pair, twice its outcome: 2 right, 1 a tie, 0 wrong.

    Raises:
        ValueError: an outcome is NaN; the sentence names `run`, whose head diverged.
    """
    if values.isnan().any():
        named = f"{run.describe()}, seed {run.seed}"
        raise ValueError(f"the head of {named} diverged: give it a lower learning rate")
    return "".join(map(str, (2 * values).int().tolist()))


def read_outcomes(digits: str) -> NDArray[np.float64]:
    """The outcomes that `write_outcomes` wrote: `(test pairs,)` of 0, ½ and 1."""
    return np.array([int(digit) for digit in digits]) / 2
