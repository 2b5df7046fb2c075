"""`accelerate launch` with two CPU processes (gloo) trains as one process does.

This file is also what is launched.
"""

import json
import subprocess
import sys

import pytest
from datasets import Dataset
from tiny_trainers import build, draw_pairs

PROCESSES = 2
METHODS = ("repo", "sympo_sigmoid")


def draw_partly_known(rows, *, seed=0):
    """Pairs of unequal weights, of which the first four may be flipped or not.

    So neither their number nor their weight is the same in every process.
    """
    pairs = draw_pairs(rows, seed=seed).to_list()
    unknown = [{**pair, "is_flipped": None} if i < 4 else pair for i, pair in enumerate(pairs)]
    weighted = [{**pair, "weight": float(i % 5)} for i, pair in enumerate(unknown)]
    return Dataset.from_list(weighted)


def losses_of(name, folder, *, pairs):
    """Losses and metrics of three steps of eight pairs, posteriors, and an evaluation's metrics.

    The evaluation's last batch is not full, so that the processes fill it up.

    Args:
        pairs: the batch of one process.
    """
    built = build(
        name,
        folder,
        data=draw_partly_known(24),
        evaluation=draw_partly_known(11, seed=1),
        per_device_train_batch_size=pairs,
        per_device_eval_batch_size=pairs,
        optim="sgd",
    )
    built.train()
    evaluation = built.evaluate()
    kept = ("loss", "accuracy_true", "margin_true", "flipped_fit", "clip_fraction", "eta")
    history = [
        {name: row[name] for name in kept if name in row}
        for row in built.state.log_history
        if "loss" in row
    ]
    # In the order of the rows, and none twice.
    posterior = built.noise_posterior(draw_partly_known(11, seed=1), noise_rate=0.2)
    return [
        *history,
        {f"row {row}": value for row, value in enumerate(posterior)},
        {name: evaluation[f"eval_{name}"] for name in kept[1:] if f"eval_{name}" in evaluation},
    ]


@pytest.mark.nightly
def test_two_processes_equal_one(tmp_path):
    written = tmp_path / "losses.json"
    # --multi_gpu is accelerate's word for several processes on one machine, whatever they run on.
    launch = (
        "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 "
        "--mixed_precision no --dynamo_backend no --main_process_port 0"
    )
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
    results = {name: losses_of(name, f"{output}.{name}", pairs=8 // PROCESSES) for name in METHODS}
    state = PartialState()
    if state.is_main_process:
        with open(output, "w") as file:
            json.dump({"processes": state.num_processes, **results}, file)
