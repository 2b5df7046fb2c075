"""How noisy are these preferences? An audit of a file, and `python -m sympo audit FILE`.

`audit` counts what the rows hold (repeats, contradictions, shared prompts), says what rules that
read no answer predict, and reads the noise rate by every route that the data allow, each with its
interval, its premise and a warning where the premise fails. The routes are functions of arrays in
`sympo.audit.rates`, for data that are no text.
"""

from sympo.audit.advice import believed_rate
from sympo.audit.biases import Bias
from sympo.audit.command import main
from sympo.audit.core import Audit, Dependence, Findings, Suspect, audit
from sympo.audit.label_errors import (
    LabelErrors,
    TooFewPairsError,
    find_label_errors,
    word_differences,
)
from sympo.audit.rates import (
    Rate,
    rate_from_flips,
    rate_from_ratings,
    rate_from_repeats,
    rate_from_scores,
)
from sympo.audit.triangles import list_triangles, rate_from_triangles

__all__ = [
    "Audit",
    "Bias",
    "Dependence",
    "Findings",
    "LabelErrors",
    "Rate",
    "Suspect",
    "TooFewPairsError",
    "audit",
    "believed_rate",
    "find_label_errors",
    "list_triangles",
    "main",
    "rate_from_flips",
    "rate_from_ratings",
    "rate_from_repeats",
    "rate_from_scores",
    "rate_from_triangles",
    "word_differences",
]
