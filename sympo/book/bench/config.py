"""The sizes of the benchmarks: section `bench` of a profile."""

from typing import Annotated

from pydantic import Field

from sympo.studies.mnist.config import Count, Rate
from sympo.studies.profiles import StudyConfig

Sizes = Annotated[list[Count], Field(min_length=2)]


class BenchConfig(StudyConfig):
    """Sizes of the benchmarks; all of them ours."""

    repeats: Count
    losses: list[str]  # every loss at every rate is one model of the grid, all of one seed
    noise_rates: list[Rate]
    pairs: Annotated[int, Field(ge=2, le=25_000)]
    batch: Annotated[int, Field(ge=2)] = 512  # pairs per step, as in the study
    # models that the plain loop trains per repeat; a model costs it the same however many
    plain_models: Count
    test_images: Count
    gold_seeds: Count  # of study gold's sweep, with each of their runs that TRL can train too
    step_pairs: Count  # pairs of the language model's training that is timed alone
    growth_models: Sizes
    growth_pairs: Sizes
    # rows and columns of the matrices whose product gives the machine's matmul rate
    matmul_size: Count
    copy_mib: Count  # size of the tensor whose copy gives the machine's copy rate
