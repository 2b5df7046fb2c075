"""Which labels are probably wrong, by what a trained model thinks of each pair."""

import math
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from scipy.special import expit
from torch.utils.data import DataLoader

from sympo.noise import check_rate
from sympo.trainer.objective import Objective

_ROW = "_row"  # where in the caller's dataset a row stands


class NoisePosterior(Objective):
    """A trainer that says of each pair how probable it is that its label is wrong."""

    def noise_posterior(
        self, dataset: Dataset, *, noise_rate: float | None = None
    ) -> NDArray[np.float64]:
        """P(the label is wrong | the label, h) = ε·σ(−h)/(ε·σ(−h) + (1−ε)·σ(h)), pair by pair.

        h is the margin of the label in the data, unclipped: β·(log-ratio chosen − rejected), per
        token with `length_normalized`, or the difference of two rewards. Sort by it, look at the
        pairs on top, and leave out or weigh down (column `weight`) what is wrong.

        It assumes that h is the log-odds of a right preference, before noise. Margins of dpo or of
        the logistic loss are log-odds of the noisy labels, roughly; those of a symmetric loss are
        none at all (theory T6: it finds who wins, not how often), so that the values RANK the pairs
        there and measure nothing. And it assumes pairs that were not trained on: a model that
        memorised a wrong label agrees with it. Train on one part and ask about the other, in turn.

        Args:
            dataset: preferences as for training; `trainer.eval_dataset` as it is will do.
            noise_rate: ε in [0, ½); None: the config's, or with repo 1 − η.
        Returns:
            `(rows,)`; NaN for a row that TRL drops since it is too long.
        Raises:
            ValueError: there is no rate, or it is out of range; a stream of rows; margins that
                cannot be had (`ld_alpha`, or a reference that is gone after training).
        Check: tests/library/test_extended.py.
        """
        rate = noise_rate if noise_rate is not None else self._known_rate()
        if rate is None:
            raise ValueError("noise_rate is missing: give the rate of wrong labels, in [0, 0.5)")
        if noise_rate is None and rate > 0.5:
            raise ValueError(
                f"RE-PO's estimate η = {self.eta:.3g} of the share of right labels is below ½, "
                "where a label says nothing: give noise_rate, in [0, 0.5)"
            )
        rate = check_rate(rate)
        # ε·σ(−h) over (1−ε)·σ(h) is e^(log-odds of ε, less h).
        prior = math.log(rate / (1 - rate)) if rate else -math.inf
        wrong: NDArray[np.float64] = expit(prior - self._compute_margins(dataset))
        return wrong

    def _known_rate(self) -> float | None:
        estimated = any(term.loss.needs == "reliability" for term in self._terms)
        rate: float | None = self.args.noise_rate
        # RE-PO's η may begin below ½, which no rate of wrong labels allows.
        return 1 - self.eta if rate is None and estimated else rate

    def _compute_margins(self, dataset: Dataset) -> NDArray[np.float64]:
        """Margins `(rows,)` of the labels in the data, nats; NaN for rows that TRL drops."""
        if not isinstance(dataset, Dataset):
            raise ValueError(
                f"dataset is a {type(dataset).__name__}: give a datasets.Dataset, whose rows stay "
                "in their places"
            )
        if _ROW in dataset.column_names:
            raise ValueError(
                f"the dataset has a column '{_ROW}', which is needed here: rename or remove it"
            )
        if not len(dataset):
            return np.empty(0)
        numbered = dataset.add_column(_ROW, list(range(len(dataset))))
        prepared = self._prepare_for_margins(numbered)
        # Not the evaluation's own loader, whose sampler may sort the rows.
        loader: Any = DataLoader(
            self._remove_unused_columns(prepared),
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
        )
        self._margins = []
        training = self.model.training
        try:
            self.evaluation_loop(
                self.accelerator.prepare(loader), "Noise posterior", prediction_loss_only=True
            )
            measured = np.concatenate(self._margins) if self._margins else np.empty(0)
        finally:
            self._margins = None
            self._metrics["eval"].clear()  # they belong to no evaluation
            # A callback may ask in the middle of training, whose log reads the mode of the model.
            self.model.train(training)
        # It closes the progress bar.
        self.callback_handler.on_predict(self.args, self.state, self.control, metrics={})
        margins = np.full(len(dataset), np.nan)
        margins[prepared[_ROW]] = measured
        return margins

    def _prepare_for_margins(self, dataset: Dataset) -> Dataset:
        prepared: Dataset = self._prepare_dataset(
            dataset, self.processing_class, self.args, "noise_posterior"
        )
        return prepared
