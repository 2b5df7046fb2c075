"""What several tests of the studies share."""

import pytest
import tiny_gold
from transformers import PreTrainedTokenizerFast

from sympo.studies.alignment import gold
from sympo.studies.alignment.world import World


@pytest.fixture(scope="session")
def gold_world() -> World:
    """The world of `tiny_gold.config()`, seed 0; tests leave it as it is."""
    return gold.build_world(tiny_gold.find_run("dpo", 0.0).world)


@pytest.fixture(scope="session")
def gold_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the grammar of reviews."""
    return gold.tiny_tokenizer()
