"""An audit as text and as one HTML page: both are written from the same tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from sympo.audit.biases import Bias
from sympo.audit.rates import Rate
from sympo.stats import Interval

if TYPE_CHECKING:
    from sympo.audit.core import Audit, Suspect

__all__ = ["write_html", "write_text"]

_WIDTH = 100
_EXCERPT = 300  # characters of a text that are shown on the page
_LACKS = (
    "Near repeats are found by comparing texts without case, spacing, punctuation and invisible "
    "characters; paraphrases, other word orders and single changed words are not found, and 3.5 "
    "looks like 35."
)


@dataclass(frozen=True)
class _Table:
    """A part of the report: a table and what is to be said below it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    below: tuple[str, ...] = ()


def write_text(audit: "Audit") -> str:
    """The report as plain text."""
    parts = [_title(audit)]
    for table in _tables(audit):
        parts.append(f"\n{table.title}\n{'-' * len(table.title)}")
        parts.extend(_align(table))
        parts.extend(_wrap(line) for line in table.below)
    return "\n".join(parts) + "\n"


def write_html(audit: "Audit") -> str:
    """The report as one page, with nothing in it that runs or is fetched."""
    # Inert twice over: texts are escaped, and the policy lets the page load and run nothing.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    sections = "\n".join(_section(table) for table in _tables(audit))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_escape(_title(audit))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_escape(_title(audit))}</h1>\n{sections}\n{_suspects(audit.suspects)}"
        "</body>\n</html>\n"
    )


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #ddd; }
td { overflow-wrap: anywhere; }
h2 { margin-top: 2rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: .5rem; }
"""


def _title(audit: "Audit") -> str:
    return f"Audit of {_clean(audit.source)}"


def _tables(audit: "Audit") -> list[_Table]:
    return [
        _show_rows(audit),
        _show_biases(audit),
        _show_rates(audit),
        _Table("What to do", (), (), tuple(f"{i}. {s}" for i, s in enumerate(audit.advice, 1))),
    ]


def _show_rows(audit: "Audit") -> _Table:
    findings = audit.findings
    rows: list[tuple[str, str]] = []
    below = [_LACKS]
    if audit.report is not None:
        told = audit.report
        rows.append(("rows in the file", f"{told.rows:,}"))
        for kind in ("malformed", "no_preference", "noted"):
            name = "kept, but" if kind == "noted" else f"refused, {kind.replace('_', ' ')}"
            rows += [
                (f"{name}: {reason}", f"{count:,}")
                for reason, count in sorted(getattr(told, kind).items())
            ]
        below += [
            f"Row {example.row} ({example.reason}): {_clean(example.value)}"
            for example in told.examples
        ]
    rows += [
        ("rows kept", f"{findings.rows:,}"),
        ("different prompts", f"{findings.prompts:,}"),
        ("rows that repeat another one word for word", f"{findings.repeats:,}"),
        ("pairs of answers with either winner (contradictions)", f"{findings.contradictions:,}"),
        ("pairs of answers that nearly repeat another pair", f"{findings.near_repeats:,}"),
        ("rows with an answer that cannot be seen", f"{findings.invisible:,}"),
    ]
    if findings.shared is None:
        below.append("No test file was given: shared prompts are not counted.")
    else:
        rows.append(("rows whose prompt is in the test file", f"{findings.shared:,}"))
        rows.append(("rows whose prompt nearly is", f"{findings.near_shared:,}"))
    return _Table("Rows", ("what", "how many"), tuple(rows), tuple(below))


def _show_biases(audit: "Audit") -> _Table:
    rules = (*audit.biases, *audit.words)
    rows = tuple((bias.rule, _show(bias.interval), f"{bias.ties:,}") for bias in rules)
    notes = [_explain(bias) for bias in rules if bias.note]
    below = [
        f"Words are read in {audit.sample:,} rows drawn at random. The five strongest words are "
        "listed, where they tell after Holm's correction over all that were tried.",
        *notes,
        "A rule that predicts is taste or bias: labels cannot say which. If it is bias, flips "
        "depend on which answer wins, and no symmetric loss repairs that (theory T11).",
    ]
    below += [
        f"By {dependence.source}, wrong labels where the longer answer is the better one: "
        f"{_show(dependence.longer)}; where the shorter one is: {_show(dependence.shorter)}; "
        f"p = {dependence.p:.2g}. "
        + ("They differ." if dependence.differs else "No difference was seen.")
        for dependence in audit.dependence
    ]
    head = ("choosing …", "is right in (95%)", "ties")
    return _Table("What predicts the winner", head, rows, tuple(below))


def _explain(bias: Bias) -> str:
    return f"{bias.rule[0].upper()}{bias.rule[1:]}: {bias.note}"


def _show_rates(audit: "Audit") -> _Table:
    rows = []
    below = []
    for rate in audit.rates:
        route = _name(rate, simulated=audit.simulated)
        n = "" if rate.interval is None else f"{rate.interval.n:,}"
        rows.append((route, rate.kind, _show_rate(rate), n))
        below.append(f"{route} assumes: {rate.assumes}")
        below += [f"  Warning: {warning}" for warning in rate.warnings]
    if audit.accuracy is not None:
        below.append(
            f"The classifier predicts {_show(audit.accuracy)} of the labels that it has not seen; "
            f"cleanlab lists {audit.suspected:,} of {audit.sample:,} labels as likely errors."
        )
    below += audit.notes
    head = ("route", "what it is", "ε (95%)", "from")
    return _Table("Noise rate", head, tuple(rows), tuple(below))


def _name(rate: Rate, *, simulated: bool) -> str:
    return f"simulated {rate.route}" if simulated and "ratings" in rate.route else rate.route


def _show_rate(rate: Rate) -> str:
    if rate.interval is None:
        return "none"
    doubt = ", not to be believed" if rate.refuted else ""
    if rate.kind == "upper bound":
        return f"at most {rate.interval.high:.3f}{doubt}"
    return f"{_show(rate.interval)}{doubt}"


def _show(interval: Interval | None) -> str:
    if interval is None:
        return "none"
    return f"{interval.estimate:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _align(table: _Table) -> list[str]:
    lines = [row for row in (table.head, *table.rows) if row]
    if not lines:
        return []
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    ]


def _wrap(line: str) -> str:
    from textwrap import fill

    return fill(
        line,
        _WIDTH,
        subsequent_indent="   ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _section(table: _Table) -> str:
    parts = [f"<h2>{_escape(table.title)}</h2>"]
    if table.rows:
        head = "".join(f"<th>{_escape(cell)}</th>" for cell in table.head)
        body = "\n".join(
            "<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>"
            for row in table.rows
        )
        parts.append(f"<table>\n<tr>{head}</tr>\n{body}\n</table>")
    parts += [f"<p>{_escape(line)}</p>" for line in table.below]
    return "\n".join(parts)


def _suspects(suspects: Sequence["Suspect"]) -> str:
    if not suspects:
        return ""
    parts = [
        "<h2>Rows to look at first</h2>",
        "<p>Labels that cleanlab calls the likeliest errors: a classifier of words disagrees most. "
        "They are rows of the dataset: those kept, counted from 0. Refused rows, above, are "
        "counted from 1 in the file.</p>",
    ]
    for suspect in suspects:
        parts.append(f"<h3>Row {suspect.row:,} of the dataset, from 0</h3>")
        parts += [
            f"<p>{name}</p><pre>{_escape(_excerpt(text))}</pre>"
            for name, text in (
                ("Prompt, its end", suspect.prompt[-_EXCERPT:]),
                ("Chosen", suspect.chosen),
                ("Rejected", suspect.rejected),
            )
        ]
    return "\n".join(parts) + "\n"


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def _clean(text: str) -> str:
    # A terminal obeys control characters, and a page turns round at those of writing direction.
    return "".join(char if char.isprintable() else " " for char in text)


def _escape(text: str) -> str:
    lines = (_clean(line) for line in text.split("\n"))
    return escape("\n".join(lines))
