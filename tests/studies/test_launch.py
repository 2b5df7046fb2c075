"""`accelerate launch` on two CPU processes (gloo) makes the records that one process makes.

This file is also what it launches. accelerate shards weights (FSDP) on an
accelerator only: on a CPU it takes DDP without a word, whatever its config says. `shard_on_cpu`
tells it otherwise, and everything else is as on GPUs: the committed config, accelerate's and TRL's
FSDP2 code, `fully_shard`, and two processes that hold half of the weights each.
"""

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest

from sympo.studies import plan, profiles, progress
from sympo.studies.alignment import sampling, sweep, training

pytestmark = pytest.mark.nightly

PROFILES = profiles.root() / "notebooks" / "profiles"
LAUNCH = "-m accelerate.commands.launch --num_processes 2 --mixed_precision no --dynamo_backend no"
LAUNCH = (*LAUNCH.split(), "--main_process_port", "0")
FSDP = (*LAUNCH, "--config_file", str(PROFILES / "accelerate" / "fsdp.yaml"))
DDP = (*LAUNCH, "--multi_gpu", "--num_machines", "1")

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran"]
FILES = {"helpful-online/test": 20, "helpful-rejection-sampled/test": 20, "helpful-base/test": 16}
SETTINGS = (
    "seeds=1",
    "headline_seeds=1",
    "noise_rates=[0.4]",
    "pairs=16",
    "epochs=2",
    "methods=['repo']",
    "headline_methods=['sympo_sigmoid']",
    "frontier_seeds=0",
    # a world of its own, and then the rate that it chose, of which all processes must know
    "learning_rates=[0.003, 0.004]",
)
STUDY = ("hh", "--profile", "smoke", *(f"--set={setting}" for setting in SETTINGS))


def write_hh(folder):
    """Files in the format of Anthropic's, with dialogues short enough for a model of bytes."""
    for number, (name, rows) in enumerate(FILES.items()):
        lines = []
        for row in range(rows):
            start = f"\n\nHuman: {WORDS[row % 10]} {number} {row}?\n\nAssistant: "
            pair = {
                "chosen": f"{start}{' '.join(WORDS[: 2 + row % 5])}.",
                "rejected": f"{start}{' '.join(WORDS[3 + row % 4 :])}!",
            }
            lines.append(json.dumps(pair))
        path = folder / "hh" / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, copy_package):
    """A copy of the package and the profiles, with a build folder and data of its own."""
    folder = copy_package(tmp_path_factory.mktemp("repository"))
    shutil.copytree(PROFILES, folder / "notebooks" / "profiles")
    write_hh(folder / "data")
    return folder


def run(folder, *arguments):
    """What a command prints in a repository."""
    environment = {
        "PYTHONPATH": str(folder),
        "SYMPO_DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[:3000] + done.stderr[-5000:]
    return done.stdout


def run_study(folder, *command):
    """The records of the study by file name, and what was printed on the way."""
    shutil.rmtree(folder / "build", ignore_errors=True)
    printed = run(folder, *command, "run", *STUDY)
    paths = (folder / "build" / "smoke" / "records").glob("*.json")
    return {path.name: json.loads(path.read_text()) for path in paths}, printed


@pytest.fixture(scope="module")
def alone(elsewhere):
    return run_study(elsewhere, "-m", "sympo")[0]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param((*DDP, "-m", "sympo"), id="ddp"),
        pytest.param((*FSDP, __file__), id="fsdp"),
    ],
)
def test_two_processes_make_the_records_of_one(command, alone, elsewhere):
    together, printed = run_study(elsewhere, *command)
    assert printed.count("trained 5, loaded 0") == printed.count("\n") == 1, printed
    assert together.keys() == alone.keys()
    for name, record in together.items():
        assert (alone[name]["provenance"]["processes"], record["provenance"]["processes"]) == (1, 2)
        assert len(record["history"]) == 4  # steps: 16 pairs, 8 a step, twice
        for entry, expected in zip(record["history"], alone[name]["history"], strict=True):
            assert entry == pytest.approx(expected, rel=1e-4, abs=1e-5)
        # what is written may differ in a letter, where two are as likely
        measured, expected = (
            {key: value for key, value in each["metrics"].items() if key != "generations"}
            for each in (record, alone[name])
        )
        assert measured == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_processes_must_agree_on(elsewhere):
    run(elsewhere, *FSDP, __file__, "agree")


@pytest.mark.parametrize(("processes", "parallel"), [("1", True), ("2", False)])
def test_launched_processes_train_each_policy_together(processes, parallel, monkeypatch):
    study = profiles.study_config("gold", "smoke")
    monkeypatch.setenv("WORLD_SIZE", processes)
    assert trains_in_parallel(study, monkeypatch) == parallel


def test_a_large_model_is_trained_by_all_threads(monkeypatch):
    study = profiles.study_config("gold", "gpu")
    monkeypatch.setenv("SYMPO_RECORDS", "train")
    assert study.model != "tiny"
    assert not trains_in_parallel(study, monkeypatch)


def trains_in_parallel(study, monkeypatch):
    """Whether `run_sweep` would give the runs of a study to processes of its own."""
    monkeypatch.setattr(plan, "run", lambda planned: getattr(planned.train, "func", None))
    train = sweep.run_sweep(study, None, version=1, find_source=lambda config: {})
    return train is sweep.train_parallel


# The launched program


def shard_on_cpu():
    from accelerate import PartialState
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedType

    original = AcceleratorState.__init__

    def with_plugin(self, mixed_precision=None, *args, fsdp_plugin=None, **options):
        original(self, mixed_precision, *args, fsdp_plugin=fsdp_plugin, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:  # what follows is done on GPUs
            if self.mixed_precision != "no":
                fsdp_plugin.set_mixed_precision(self.mixed_precision)
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = with_plugin


def check_shards():
    """Stop the study at a trained model that did not lie in two halves."""
    original = training.load_trained

    def check(model, trainer):
        parameters = list(trainer.model.parameters())
        held = sum(parameter.to_local().numel() for parameter in parameters)
        whole = sum(parameter.numel() for parameter in parameters)
        assert held == pytest.approx(whole / 2, rel=0.02)
        original(model, trainer)

    training.load_trained = check


def check_agreement():
    """What processes agree on: every one has the main one's samples, and the same reference pass.

    Reference log-probabilities in bf16 keep their digits.
    """
    from sympo.studies import models

    plain = training.settings
    training.settings = lambda *rest, **changes: {**plain(*rest, **changes), "bf16": True}
    sizes = {"max_prompt": 64, "max_new_tokens": 8, "batch": 2, "micro_batch": 1}
    spec = profiles.study_config("gold", "smoke", **sizes).world_spec(0)
    tokenizer = models.byte_tokenizer()
    main, other = (models.tiny_llama(tokenizer, seed=seed, context=1024) for seed in (0, 1))
    check_reference(main, tokenizer, spec)

    def draw(model):
        return sampling.sample(model, tokenizer, PROMPTS, spec, samples=2, seed=0).texts

    together = draw(main if progress.is_main_process() else other)
    progress.processes = lambda: 1
    assert together == draw(main) != draw(other)


# an odd number: the last batch of two processes is not full
PROMPTS = [[{"role": "user", "content": text}] for text in ("Is it big?", "And now?", "Bread?")]
SAID = {"chosen": "yes ", "rejected": "no, "}


def check_reference(model, tokenizer, spec):
    from datasets import Dataset

    from sympo.studies.alignment.world import World, add_reference

    answers = {
        side: [[{"role": "assistant", "content": word * 100}]] * len(PROMPTS)
        for side, word in SAID.items()
    }
    pairs = Dataset.from_dict({"prompt": PROMPTS, **answers, "is_flipped": [False] * len(PROMPTS)})
    world = World(spec, model, tokenizer, pairs, pairs, PROMPTS, None, [], None)
    for row in add_reference(world).train:
        for side in SAID:
            exact = log_prob(model, row["prompt_ids"], row[f"{side}_ids"])
            assert exact < -512  # beyond this a bf16 is a multiple of 4
            assert row[f"ref_{side}_logps"] == pytest.approx(exact, abs=1)


def log_prob(model, prompt, answer):
    import torch

    with torch.no_grad():
        steps = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return steps[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None]).sum().item()


if __name__ == "__main__":
    shard_on_cpu()
    if sys.argv[1] == "agree":
        check_agreement()
    else:
        from sympo.__main__ import main

        check_shards()
        sys.exit(main(sys.argv[1:]))
