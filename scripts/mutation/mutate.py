"""Mutation testing: change one small thing in a module, and see whether some test fails.

    pip install --target build/cosmic-ray cosmic-ray==8.7.0
    PYTHONPATH=build/cosmic-ray python scripts/mutation/mutate.py losses

The mutants are cosmic-ray's. Its own runner writes each of them into the clone, and starts a
process that takes ten seconds to import torch and TRL. Here a mutant stands in memory alone, in a
fork of a process that has imported all that the tests import, the package and the tests apart.

Every result is kept in build/mutation: a run that was stopped goes on, and `--survivors` runs
those that survived again. Delete the file of a module to begin anew.
"""

import argparse
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

# The tests compute little, and threads do not outlive a fork.
os.environ["OMP_NUM_THREADS"] = "1"
# The search for plugins takes a third of a run.
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

import parso
import pytest
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from hypothesis import settings
from parso.python.tree import Name
from parso.tree import search_ancestor

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "build/mutation"

# Per module, what pytest is called with, in turn: the first failure ends it.
TRAINER = "tests/library/test_trainer.py"
RANK = "tests/book/test_theory_rank.py"
MODULES = {
    "losses": (
        [
            f"{TRAINER}::test_pair_loss_is_its_formula",
            f"{TRAINER}::test_pair_loss_is_finite_far_out",
            f"{TRAINER}::test_repo_survives_a_saturated_eta",
            "tests/library/test_registry.py",
            "-k not minimises_it",  # those train
        ],
        ["tests/library/test_losses.py"],
        [
            f"{RANK}::test_weights_are_the_slopes_of_the_losses",
            f"{RANK}::test_weights_of_symmetric_losses_alone_are_even",
        ],
        [f"{TRAINER}::test_eta_moves_once_per_optimiser_step"],
    ),
    "noise": (["tests/library/test_noise.py"],),
    "stats": (
        ["tests/library/test_stats.py", "-k not cover and not often and not rounding"],
        ["tests/library/test_stats.py", "-k cover or often or rounding"],  # by simulation
    ),
    "book/theory": (
        [RANK, "-k not weights and not actions and not pairs_are"],
        ["tests/book/test_theory_losses.py", "-k pieces or constant or reach or density or centre"],
        [RANK, "-k relative_weights or losses_alone"],
        ["tests/book/test_theory.py", "-k scipys or recovers"],
    ),
    "book/contrasts": (["tests/book/test_contrasts.py"],),
}

# One or two replacements of each kind: that x + y is neither x << y nor x % y would be shown by
# whatever shows that it is not x − y.
OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|Pow_Mul|FloorDiv_Mul|Mod_Mul"
    r"|BitAnd_BitOr|BitOr_BitAnd|BitXor_BitAnd|RShift_LShift)"
    r"|ReplaceComparisonOperator_(Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Eq_NotEq"
    r"|NotEq_Eq|Is_IsNot|IsNot_Is)"
    r"|ReplaceUnaryOperator_Delete_(USub|Not|Invert)"
    r"|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd|AddNot"
    r"|NumberReplacer|ZeroIterationForLoop|ReplaceBreakWithContinue|ReplaceContinueWithBreak"
    r"|RemoveDecorator|ExceptionReplacer)"
)
ARITHMETIC = ("arith_expr", "term", "power", "expr", "xor_expr", "and_expr", "shift_expr")
CPU_SECONDS = 30  # a mutant that computes for longer never ends
OUTCOMES = {0: "survived", 1: "killed", 2: "killed", 3: "killed", 4: "killed"}


PAIRS = (("min", "max"), ("argmin", "argmax"), ("minimum", "maximum"), ("any", "all"))
OPPOSITE = {**dict(PAIRS), **{second: first for first, second in PAIRS}}


class SwapName(Operator):
    """The least for the greatest, some for all: what cosmic-ray has no operator for."""

    def mutation_positions(self, node):
        if isinstance(node, Name) and node.value in OPPOSITE:
            yield node.start_pos, node.end_pos

    def mutate(self, node, index):
        return Name(OPPOSITE[node.value], node.start_pos, node.prefix)

    @classmethod
    def examples(cls):
        return ()


def list_operators() -> dict[str, Operator]:
    chosen = {name: get_operator(name)() for name in operator_names() if OPERATORS.fullmatch(name)}
    return {**chosen, "SwapName": SwapName()}


def list_mutants(source: str) -> Iterator[dict]:
    """Every mutant: its operator and place, and whether only a message changes."""
    lines = source.splitlines()
    for name, operator in list_operators().items():
        occurrence = 0
        for node in ast_nodes(parso.parse(source)):
            for (line, _), _ in operator.mutation_positions(node):
                mutant = {"operator": name, "occurrence": occurrence, "line": line}
                occurrence += 1
                # An annotation is no arithmetic, nor are the stars of a signature or a call.
                if "Binary" in name and (
                    node.parent.type not in ARITHMETIC
                    or search_ancestor(node, "tfpdef", "annassign")
                ):
                    continue
                function = search_ancestor(node, "funcdef")
                yield {
                    **mutant,
                    "function": function.name.value if function else "",
                    "message": search_ancestor(node, "fstring", "raise_stmt") is not None,
                    "before": lines[line - 1].strip(),
                }


class Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module from `text`, whatever its file says."""

    text = ""

    def get_code(self, fullname):
        return compile(self.text, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the one module that is mutated."""

    def __init__(self, module: str, path: Path, text: str) -> None:
        loader = Mutated(module, str(path))
        loader.text = text
        self.spec = importlib.util.spec_from_file_location(module, path, loader=loader)

    def find_spec(self, name, path=None, target=None):
        return self.spec if name == self.spec.name else None


def run_tests(name: str, text: str, *, report: Path | None = None) -> str:
    """Fork, and run the tests of a module that reads `text`; `report` names what they imported."""
    process = os.fork()
    if process:
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            return "killed, out of time"
        return OUTCOMES[os.WEXITSTATUS(status)]
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    log = open(os.devnull if report is None else report.with_suffix(".log"), "w")  # noqa: SIM115
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    module = "sympo." + name.replace("/", ".")
    sys.meta_path.insert(0, Finder(module, ROOT / f"sympo/{name}.py", text))
    options = ["-x", "-q", "--tb=no", "-m", "not slow", "--hypothesis-profile=mutation"]
    options += ["--assert=plain", "-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin"]
    for plugin in ("cacheprovider", "logging", "threadexception", "unraisableexception"):
        options += ["-p", f"no:{plugin}"]
    code = 0
    for tests in MODULES[name]:
        code = code or pytest.main([*tests, *options])
    if report is not None:
        report.write_text(json.dumps(list(sys.modules)))
    os._exit(code)


def preload(name: str, source: str) -> None:
    """Import what the tests import; they have to pass, or nothing that follows says anything."""
    report = RESULTS / f"{name.replace('/', '_')}.imported.json"
    if run_tests(name, source, report=report) != "survived":
        sys.exit(f"the tests of {name} fail without any mutation: see {report.with_suffix('.log')}")
    own = {"sympo", "conftest", *(path.stem for path in (ROOT / "tests").rglob("*.py"))}
    for module in json.loads(report.read_text()):
        if module.split(".")[0] not in own and module != "__main__":
            try:
                importlib.import_module(module)
            except Exception:
                continue  # a module that was only made up while it was imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("--list", action="store_true", help="list the mutants, run nothing")
    parser.add_argument("--survivors", action="store_true", help="run those that survived again")
    chosen = parser.parse_args()

    os.chdir(ROOT)
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = RESULTS / f"{chosen.module.replace('/', '_')}.jsonl"
    source = (ROOT / f"sympo/{chosen.module}.py").read_text(encoding="utf-8")
    mutants = list(list_mutants(source))
    if chosen.list:
        print(*(f"{each['operator']}: {each['before']}" for each in mutants), sep="\n")
        return print(len(mutants), "mutants")

    # A few examples of each property, the same for every mutant, so that a mutant's end is no luck.
    settings.register_profile(
        "mutation", deadline=None, max_examples=10, derandomize=True, database=None
    )
    preload(chosen.module, source)
    gc.freeze()  # the forks share what is there, and look through none of it
    records = map(json.loads, results.read_text().splitlines()) if results.exists() else ()
    done = {(each["operator"], each["occurrence"], each["before"]): each for each in records}
    operators = list_operators()
    counts = Counter()
    start = time.perf_counter()
    with results.open("a") as out:
        for mutant in mutants:
            each = done.get((mutant["operator"], mutant["occurrence"], mutant["before"]))
            if each is None or (chosen.survivors and each["outcome"] == "survived"):
                text = mutate_code(source, operators[mutant["operator"]], mutant["occurrence"])
                pairs = zip(source.splitlines(), text.splitlines(), strict=False)
                after = next(new.strip() for old, new in pairs if old != new)
                each = {**mutant, "after": after, "outcome": run_tests(chosen.module, text)}
                print(json.dumps(each, ensure_ascii=False), file=out, flush=True)
            counts[each["outcome"]] += 1
            if each["outcome"] == "survived":
                place = f"line {each['line']}, {each['function'] or '(module)'}"
                print(f"{place}: {each['before']}  →  {each['after']}", flush=True)
    print(len(mutants), "mutants:", dict(counts), f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
