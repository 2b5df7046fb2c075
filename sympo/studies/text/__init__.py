"""Real comparisons: reward heads on cached features of HH and UltraFeedback answers.

Read in the order `corpora`, `features`, `flips`, `heads`, `config`, `study`.
"""

from sympo.studies.text.config import HeadRun, ProbeRun, Setting, TextConfig, choose_settings
from sympo.studies.text.corpora import Corpus, load
from sympo.studies.text.features import Text, differences, texts_of
from sympo.studies.text.flips import draw_numbers, near_tie_rates
from sympo.studies.text.heads import Head, order_of_pairs, train_heads
from sympo.studies.text.study import Bench, features_folder, plan_study, read_outcomes, run_study

__all__ = [
    "Bench",
    "Corpus",
    "Head",
    "HeadRun",
    "ProbeRun",
    "Setting",
    "Text",
    "TextConfig",
    "choose_settings",
    "differences",
    "draw_numbers",
    "features_folder",
    "load",
    "near_tie_rates",
    "order_of_pairs",
    "plan_study",
    "read_outcomes",
    "run_study",
    "texts_of",
    "train_heads",
]
