"""Blinded rating: which of two answers is better, asked of a person who cannot see whose they are.

`draw_items` (preference pairs) or `pair_answers` (two policies) gives the items, `RatingFile` keeps
the ratings, and `sympo.rating_widget.rate` asks for them in JupyterLab; `write_sheet` and
`read_sheet` do so in a spreadsheet. `compare_with_labels`, `compare_with_judge` and
`compare_raters` measure agreement, and `estimate_noise` reads the noise rate from it.
"""

from sympo.rating.agreement import (
    Agreement,
    NoiseRate,
    compare_raters,
    compare_with_judge,
    compare_with_labels,
    estimate_noise,
    pairs_needed,
    rate_from_agreement,
)
from sympo.rating.file import RatingFile, read_rated_rows, read_ratings
from sympo.rating.items import Item, Items, draw_items, pair_answers
from sympo.rating.ratings import (
    CANNOT_SAY,
    FIRST,
    SECOND,
    TIE,
    VERDICTS,
    RatedRows,
    Rating,
    Ratings,
    rated_rows,
    simulate_ratings,
)
from sympo.rating.sheet import read_sheet, write_sheet

__all__ = [
    "CANNOT_SAY",
    "FIRST",
    "SECOND",
    "TIE",
    "VERDICTS",
    "Agreement",
    "Item",
    "Items",
    "NoiseRate",
    "RatedRows",
    "Rating",
    "RatingFile",
    "Ratings",
    "compare_raters",
    "compare_with_judge",
    "compare_with_labels",
    "draw_items",
    "estimate_noise",
    "pair_answers",
    "pairs_needed",
    "rate_from_agreement",
    "rated_rows",
    "read_rated_rows",
    "read_ratings",
    "read_sheet",
    "simulate_ratings",
    "write_sheet",
]
