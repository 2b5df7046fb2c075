"""`accelerate launch` on two CPU processes (gloo) makes the records that one process makes; also
what it launches.

accelerate shards weights (FSDP) on an accelerator only: on a CPU it takes DDP without a word,
whatever its config says. `shard_on_cpu` tells it otherwise, and everything else is as on GPUs: the
committed config, accelerate's and TRL's FSDP2 code, `fully_shard`, and two processes that hold half
of the weights each.
"""

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest

from sympo.studies import profiles, progress, records
from sympo.studies.alignment import sweep as align

PROFILES = profiles.root() / "notebooks" / "profiles"
LAUNCH = "-m accelerate.commands.launch --num_processes 2 --mixed_precision no --dynamo_backend no"
LAUNCH = (*LAUNCH.split(), "--main_process_port", "0")
FSDP = (*LAUNCH, "--config_file", str(PROFILES / "accelerate" / "fsdp.yaml"))
DDP = (*LAUNCH, "--multi_gpu", "--num_machines", "1")

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran"]
FILES = {"helpful-online/test": 20, "helpful-rejection-sampled/test": 20, "helpful-base/test": 16}
STUDY = "hh --profile smoke --set seeds=1 --set headline_seeds=1 --set noise_rates=[0.4] --set pairs=16 --set epochs=2"
STUDY = [*STUDY.split(), "--set", "methods=['repo']", "--set", "headline_methods=['sympo_sigmoid']"]


def write_hh(folder):
    """Files in the format of Anthropic's, with dialogues short enough for a model of bytes."""
    for number, (name, rows) in enumerate(FILES.items()):
        lines = []
        for row in range(rows):
            start = f"\n\nHuman: {WORDS[row % 10]} {number} {row}?\n\nAssistant: "
            chosen, rejected = " ".join(WORDS[: 2 + row % 5]), " ".join(WORDS[3 + row % 4 :])
            lines.append(
                json.dumps({"chosen": f"{start}{chosen}.", "rejected": f"{start}{rejected}!"})
            )
        path = folder / "hh" / f"{name}.jsonl.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A copy of the package and the profiles, with a build folder of its own, and of made data."""
    folder = tmp_path_factory.mktemp("repository")
    shutil.copytree(
        PROFILES.parents[1] / "sympo",
        folder / "sympo",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copytree(PROFILES, folder / "notebooks" / "profiles")
    write_hh(folder / "data")
    return folder


def run(repository, *arguments):
    """What a command prints there."""
    environment = {
        "PYTHONPATH": str(repository),
        "SYMPO_DATA": str(repository / "data"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command,
        cwd=repository,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def run_study(repository, *command):
    """The records of the study by file name, and what making them printed."""
    shutil.rmtree(repository / "build", ignore_errors=True)
    printed = run(repository, *command, "run", *STUDY)
    paths = (repository / "build" / "smoke" / "records").iterdir()
    return {path.name: json.loads(path.read_text()) for path in paths}, printed


@pytest.fixture(scope="module")
def alone(repository):
    return run_study(repository, "-m", "sympo")[0]


@pytest.mark.parametrize("command", [(*DDP, "-m", "sympo"), (*FSDP, __file__)], ids=["ddp", "fsdp"])
def test_two_processes_make_the_records_of_one(command, alone, repository):
    together, printed = run_study(repository, *command)
    assert printed.count("trained 2, loaded 0") == printed.count("\n") == 1, printed
    assert together.keys() == alone.keys()
    for name, record in together.items():
        assert (alone[name]["provenance"]["processes"], record["provenance"]["processes"]) == (1, 2)
        assert len(record["history"]) == 4  # steps: 16 pairs, 8 a step, twice
        for entry, expected in zip(record["history"], alone[name]["history"], strict=True):
            assert entry == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert record["metrics"] == pytest.approx(alone[name]["metrics"], rel=1e-4, abs=1e-5)


def test_what_processes_must_agree_on(repository):
    run(repository, *FSDP, __file__, "agree")


@pytest.mark.parametrize(("processes", "name"), [("1", "train_parallel"), ("2", "train_runs")])
def test_launched_processes_train_each_policy_together(processes, name, monkeypatch):
    study = profiles.study_config("gold", "smoke")
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setattr(records, "run_all", lambda runs, train, **rest: train.func)
    assert align.run_sweep(study, None, parallel=True) is getattr(align, name)


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
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = with_plugin


def check_shards():
    """Stop the study at a trained model that did not lie in two halves."""
    original = align.load_trained

    def checked(model, made):
        held = sum(parameter.to_local().numel() for parameter in made.model.parameters())
        assert held == pytest.approx(
            sum(parameter.numel() for parameter in made.model.parameters()) / 2, rel=0.02
        )
        original(model, made)

    align.load_trained = checked


def check_agreement():
    """Reference log-probabilities in bf16 keep their digits, and every process has the main one's
    samples.
    """
    from datasets import Dataset

    from sympo.studies import models
    from sympo.studies.alignment import gold

    plain = align.settings
    align.settings = lambda *arguments, **changes: {**plain(*arguments, **changes), "bf16": True}
    tokenizer = models.byte_tokenizer()
    main, other = (models.tiny_llama(tokenizer, seed=seed, context=1024) for seed in (0, 1))
    prompts = gold.list_prompts()[:3]  # an odd number: the last batch is not full
    said = {
        side: [[{"role": "assistant", "content": word * 100}]] * 3 for side, word in SAID.items()
    }
    pairs = Dataset.from_dict({"prompt": prompts, **said, "is_flipped": [False] * 3})
    run = {
        "method": "dpo",
        "noise_rate": 0.0,
        "beta": 0.1,
        "batch": 2,
        "micro_batch": 1,
        "warmup": 0.0,
        "seed": 0,
    }
    run |= {"learning_rate": 1e-3, "epochs": 1, "max_prompt": 64, "max_new_tokens": 8}
    for row in align.add_reference(main, tokenizer, run, pairs, pairs)[0]:
        for side in SAID:
            exact = log_prob(main, row["prompt_ids"], row[f"{side}_ids"])
            assert exact < -512  # beyond this a bf16 is a multiple of 4
            assert row[f"ref_{side}_logps"] == pytest.approx(exact, abs=1)

    def draw(model):
        return align.sample(model, tokenizer, prompts, run, samples=2, seed=0).texts

    together = draw(main if progress.is_main_process() else other)
    progress.processes = lambda: 1
    assert together == draw(main) != draw(other)


SAID = {"chosen": "yes ", "rejected": "no, "}


def log_prob(model, prompt, answer):
    import torch

    with torch.no_grad():
        found = model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return found[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None]).sum().item()


if __name__ == "__main__":
    shard_on_cpu()
    if sys.argv[1] == "agree":
        check_agreement()
    else:
        from sympo.__main__ import main

        check_shards()
        sys.exit(main(sys.argv[1:]))
