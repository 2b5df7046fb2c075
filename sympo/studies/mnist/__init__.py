"""MNIST preferences: reward models of digit images, trained on labels that lie.

A study is read in the order `config`, `data`, `network`, `evaluation`, `study`. `fast` trains many
models at once, with the same result as one at a time. `policy` asks what a policy gains by the
rewards learned.
"""

from sympo.studies.mnist.config import (
    Knobs,
    LossesConfig,
    MnistRun,
    NoiseConfig,
    NoiseRun,
    PolicyConfig,
)
from sympo.studies.mnist.data import Pairs, draw_pairs, noisy_labels, split_pairs
from sympo.studies.mnist.evaluation import FEWER_PAIRS, evaluate_rewards, reward_accuracy
from sympo.studies.mnist.fast.chunks import Chunk
from sympo.studies.mnist.fast.grid import Grid
from sympo.studies.mnist.network import Network, draw_masks, initial_network
from sympo.studies.mnist.patterns import (
    PatternRun,
    PatternsConfig,
    compare_orders,
    pattern_labels,
    winner_rates,
)
from sympo.studies.mnist.study import compare_rankings, plan_study, run_study, train_models

__all__ = [
    "FEWER_PAIRS",
    "Chunk",
    "Grid",
    "Knobs",
    "LossesConfig",
    "MnistRun",
    "Network",
    "NoiseConfig",
    "NoiseRun",
    "Pairs",
    "PatternRun",
    "PatternsConfig",
    "PolicyConfig",
    "compare_orders",
    "compare_rankings",
    "draw_masks",
    "draw_pairs",
    "evaluate_rewards",
    "initial_network",
    "noisy_labels",
    "pattern_labels",
    "plan_study",
    "reward_accuracy",
    "run_study",
    "split_pairs",
    "train_models",
    "winner_rates",
]
