"""On one machine a study gives the same bytes again, and with another number of threads almost."""

import json
import math
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.nightly

# The engines: convolutions in compiled loops, linear heads, a language model.
STUDIES = {
    "mnist_losses": {"losses": ["logistic", "ramp"], "noise_rates": [0.4], "pairs": 500},
    "real_text": {"seeds": 1, "noise_rates": [0.0, 0.4], "score_rates": []},
    "gold_grammar": {
        **{"seeds": 1, "other_methods": [], "other_seeds": 0, "noise_rates": [0.4]},
        **{"betas": [0.1], "regimes": {"fresh": {"pairs": 64, "epochs": 1}}},
    },
}
# Ours: what sums in another order may move a metric by, as a share of it or of one.
BOUND = 1e-4


@pytest.fixture(scope="module", params=STUDIES)
def found(request, tmp_path_factory, copy_package, write_preferences, repository):
    """The records of a study by file name, of a run with each of these numbers of threads."""
    study = request.param
    sizes = [f"--set={name}={value}" for name, value in STUDIES[study].items()]
    data = str(write_preferences(tmp_path_factory.mktemp("data")))
    runs = []
    for threads in ("1", "1", "2"):
        folder = copy_package(tmp_path_factory.mktemp("clone"))
        (folder / "notebooks").mkdir()
        (folder / "notebooks" / "profiles").symlink_to(repository / "notebooks" / "profiles")
        environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONPATH": str(folder)}
        if not os.environ.get("SYMPO_DATA"):
            environment["SYMPO_DATA"] = data
        command = [sys.executable, "-m", "sympo", "run", study, "--profile", "smoke", *sizes]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        paths = sorted((folder / "build" / "smoke" / "records").glob("*.json"))
        records = [json.loads(path.read_text()) for path in paths]
        runs.append(
            {
                path.name: (r["metrics"], r["history"])
                for path, r in zip(paths, records, strict=True)
            }
        )
    assert len(runs[0]) > 1
    return runs


def test_a_study_gives_the_same_bytes_again(found):
    first, again, _ = found
    assert json.dumps(first, sort_keys=True) == json.dumps(again, sort_keys=True)


def test_another_number_of_threads_moves_no_metric_far(found):
    one, _, two = found
    assert one.keys() == two.keys()
    for name in one:
        assert list(list_far(one[name][0], two[name][0])) == []


def list_far(first, second, path=""):
    """Where two metrics differ by more than the bound."""
    if isinstance(first, dict):
        for name in first:
            yield from list_far(first[name], second[name], f"{path}/{name}")
    elif isinstance(first, list):
        for place, pair in enumerate(zip(first, second, strict=True)):
            yield from list_far(*pair, f"{path}/{place}")
    elif isinstance(first, float) and isinstance(second, float):
        if not math.isclose(first, second, rel_tol=BOUND, abs_tol=BOUND):
            yield f"{path}: {first} and {second}"
    elif first != second:
        yield f"{path}: {first} and {second}"


def test_the_bound_is_one():
    assert list(list_far({"a": [1.0]}, {"a": [1.0 + BOUND / 2]})) == []
    assert list(list_far({"a": [1.0]}, {"a": [1.001]})) == ["/a/0: 1.0 and 1.001"]
