"""`accelerate launch` with two CPU processes (gloo) trains as one process does; this file is also
what it launches.
"""

import json
import subprocess
import sys

import pytest
from test_trainer import build, preferences

PROCESSES = 2
METHODS = ("repo", "sympo_sigmoid")


def losses_of(name, folder, *, pairs):
    """Losses and metrics of three steps of eight pairs, and of an evaluation whose last batch is
    not full.
    """
    made = build(
        name,
        folder,
        data=preferences(24),
        evaluation=preferences(11, seed=1),
        per_device_train_batch_size=pairs,
        per_device_eval_batch_size=pairs,
        optim="sgd",
    )
    made.train()
    evaluation = made.evaluate()
    kept = ("loss", "accuracy_true", "margin_true", "flipped_fit", "clip_fraction", "eta")
    history = [
        {name: row[name] for name in kept if name in row}
        for row in made.state.log_history
        if "loss" in row
    ]
    return [
        *history,
        {name: evaluation[f"eval_{name}"] for name in kept[1:] if f"eval_{name}" in evaluation},
    ]


def test_two_processes_equal_one(tmp_path):
    written = tmp_path / "losses.json"
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
    launch += " --dynamo_backend no --main_process_port 0"
    done = subprocess.run(
        [sys.executable, *launch.split(), __file__, str(written)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    together = json.loads(written.read_text())
    assert together["processes"] == PROCESSES
    for name in METHODS:
        for pair, alone in zip(together[name], losses_of(name, tmp_path, pairs=8), strict=True):
            assert pair == pytest.approx(alone, abs=1e-6), name


if __name__ == "__main__":
    from accelerate import PartialState

    output = sys.argv[1]
    found = {name: losses_of(name, f"{output}.{name}", pairs=8 // PROCESSES) for name in METHODS}
    if (state := PartialState()).is_main_process:
        with open(output, "w") as file:
            json.dump({"processes": state.num_processes, **found}, file)
