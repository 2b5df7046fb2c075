"""The results of profile gpu beside a laptop's own, in notebooks 05 and 06."""

import json

import pandas as pd

from sympo.book.twins import study_of
from sympo.studies import profiles


def read_full_grid(notebook: str, *stems: str) -> tuple[list[pd.DataFrame], str]:
    """What a notebook found in profile gpu: this clone's own results, or the committed ones.

    Args:
        notebook: such as "05_mnist_losses".
        stems: of the csv files.
    Returns:
        the tables; and where they come from, in a clause.
    Raises:
        FileNotFoundError: there are none.
    Check: tests/book/test_full_grid.py.
    """
    paths = [profiles.find_result("gpu", f"data/{stem}.csv") for stem in stems]
    about = profiles.find_result("gpu", f"data/{notebook}.json")
    if about is None or None in paths:
        study = study_of(notebook)
        raise FileNotFoundError(
            f"figures/gpu has no results of {study}: git checkout figures/gpu brings them back"
        )
    origin = json.loads(about.read_text(encoding="utf-8"))
    # a machine is described as "versions · system · processor · GPU · …"
    devices = sorted({machine.split(" · ")[3] for machine in origin["trained_with"]})
    seconds = origin["training_seconds"]
    tables = [pd.read_csv(path) for path in paths if path]
    return tables, f"profile gpu, trained on {', '.join(devices)} in {seconds} seconds"
