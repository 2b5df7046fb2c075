"""What becomes of the measurements: a JSON file with every sample, and a table.

JSON and not csv, because `make verify` compares every csv with the committed one, and timings
differ from run to run. For the same reason they are committed only when asked.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sympo._files import write_atomically
from sympo.book import figures
from sympo.book.bench import functions, grid, growth, policies, roofline
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row, Watch
from sympo.studies import profiles, provenance

# part → what measures it, in the order of the table
PARTS: dict[str, Callable[[BenchConfig], list[Row]]] = {
    "grid": grid.bench_grid,
    "evaluation": grid.bench_evaluation,
    "memory": grid.bench_memory,
    "gold": policies.bench_gold,
    "step": policies.bench_step,
    "growth": growth.bench_growth,
    "roofline": roofline.bench_roofline,
    "study": grid.bench_study,
    "functions": functions.bench_functions,
    "import": functions.bench_import,
}

# below the table; {machines} and {others} are what the report fills in
NOTE = (
    "Medians over repeats in which ours and plain take turns. A result in × is the plain way's "
    "time over ours; its spread is from the smallest to the largest repeat. Bytes that a cache "
    "serves count too, so that their share of the copy rate can exceed 100 %; on a GPU, FLOPs "
    "include the zeros of our padded kernels. TRL has its defaults: it asks the reference model at "
    "every step and recomputes activations in the backward pass. Measured on {machines}; other "
    "programs used "
    "at most {others:.0%} of the processors meanwhile. Every sample, and what made it: "
    "data/{file}.\n"
)


def measure(config: BenchConfig, names: Sequence[str]) -> Path:
    """Run the parts `names` and write each at once; the results of other parts stay as they are.

    Returns:
        the JSON file; the table lies in the folder above it.
    """
    path = profiles.figures_folder(config.profile) / "data" / "bench.json"
    caveat = profiles.caveat(config.profile)
    # earlier parts stay: measuring all of them takes long
    parts = read_parts(path)
    for name in names:
        parts[name] = measure_part(config, name)
        write_report(parts, path, caveat=caveat)
        # a part may have no rows: some measure only one kind of machine
        rows = tabulate({name: parts[name]})
        text = "  not on this machine" if rows.empty else rows.to_string(index=False, header=False)
        origin = parts[name]["provenance"]
        others = f"other programs used {origin['others']:.0%} of the processors"
        print(f"{name}: {origin['seconds']} s, {others}\n{text}")
    return path


def commit_parts(path: Path, names: Sequence[str], *, profile: str) -> Path:
    """Put the parts `names` of the report at `path` in place of the committed ones.

    Returns:
        the committed JSON file.
    """
    committed = profiles.committed_figures(profile) / "data" / "bench.json"
    measured = read_parts(path)
    parts = {**read_parts(committed), **{name: measured[name] for name in names}}
    write_report(parts, committed)
    return committed


def read_parts(path: Path) -> dict[str, dict[str, Any]]:
    """The parts of a JSON file of results; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8"))["parts"] if path.exists() else {}


def measure_part(config: BenchConfig, name: str) -> dict[str, Any]:
    """Config, provenance and rows of one part, measured now."""
    # around the whole part, warm-ups and all
    watch = Watch()
    rows = [summarise(row) for row in PARTS[name](config)]
    seconds = round(watch.seconds(), 1)
    origin = provenance.collect(seconds=seconds, others=round(watch.others(), 3))
    return {"config": config.model_dump(), "provenance": origin, "rows": rows}


def summarise(row: Row) -> dict[str, Any]:
    """The fields of `row`, its medians, the range of its results, and whether the target is met."""
    summary = {**row._asdict(), "median_ours": float(np.median(row.ours))}
    if row.plain:
        summary["median_plain"] = float(np.median(row.plain))
    if row.results:
        # medians, because another program may have had its turn in a repeat
        summary["median"] = float(np.median(row.results))
        summary["low"] = min(row.results)
        summary["high"] = max(row.results)
    if row.target:
        sign, bound = row.target
        summary["met"] = summary["median"] >= bound if sign == "≥" else summary["median"] <= bound
    return summary


def tabulate(parts: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """The rows of all parts as text.

    Returns:
        columns what, ours, plain (medians with units), result, spread, target, met.
    """
    return pd.DataFrame([_format_row(row) for part in parts.values() for row in part["rows"]])


def _format_row(row: dict[str, Any]) -> dict[str, str]:
    shown = {
        "what": row["what"],
        "ours": _format(row["median_ours"], row["unit"]),
        **dict.fromkeys(("plain", "result", "spread", "target", "met"), "–"),
    }
    if row["plain"]:
        shown["plain"] = _format(row["median_plain"], row["unit"])
    if row["results"]:
        shown["result"] = _format(row["median"], row["result_unit"])
    # one result has no spread
    if len(row["results"]) > 1:
        shown["spread"] = f"{row['low']:.3g} to {row['high']:.3g}"
    if row["target"]:
        sign, bound = row["target"]
        shown["target"] = f"{sign} {_format(bound, row['result_unit'])}"
        shown["met"] = "yes" if row["met"] else "no"
    return shown


def _format(value: float, unit: str) -> str:
    # three digits, and 21,600 for 2.16e+04
    return f"{float(f'{value:.3g}'):,g} {unit}".rstrip()


def write_report(parts: dict[str, dict[str, Any]], path: Path, *, caveat: str = "") -> None:
    """Write every sample to `path`, and the table, with `caveat` below, to the folder above it."""
    # a later run of one part must not move it to the end
    parts = {name: parts[name] for name in PARTS if name in parts}
    text = json.dumps({"parts": parts}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text)
    origins = [part["provenance"] for part in parts.values()]
    machines = {
        f"{origin['gpu'] or origin['cpu']}, threads: {origin['threads']}, torch {origin['torch']}"
        for origin in origins
    }
    # the worst of all parts: it bounds what the table can be trusted for
    others = max(origin["others"] for origin in origins)
    note = NOTE.format(machines="; ".join(sorted(machines)), others=others, file=path.name)
    table = figures.to_markdown(tabulate(parts), "lrrrrrl")
    warning = f"\n**{caveat}**\n" if caveat else ""
    write_atomically(path.parents[1] / "table_bench.md", f"{table}\n{note}{warning}")
