"""`python -m sympo train` on a file of pairs and a tiny model in a folder, both made here."""

import json

import pytest
from safetensors.torch import load_file
from tiny_trainers import build_model, build_tokenizer, draw_pairs
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from sympo.__main__ import main

QUIET = ("--use_cpu", "--bf16", "false", "--disable_tqdm", "true", "--report_to", "none")


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_model().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the command runs: pairs to train with and pairs held out."""
    monkeypatch.chdir(tmp_path)
    columns = ["prompt", "chosen", "rejected"]
    for name, seed in (("pairs.jsonl", 0), ("held_out.jsonl", 1)):
        write_jsonl(tmp_path / name, draw_pairs(12, seed=seed).select_columns(columns))
    return tmp_path


def train(*arguments, model=None):
    named = () if model is None else ("--model_name_or_path", str(model))
    return main(["train", *named, *QUIET, *arguments])


def test_it_trains_measures_and_saves_a_policy(folder, model, capsys):
    code = train(
        *("--data", "pairs.jsonl", "--eval_data", "held_out.jsonl", "--output_dir", "out"),
        *("--loss_type", "sympo_ramp", "--max_steps", "2", "--learning_rate", "0.01"),
        *("--per_device_train_batch_size", "4"),
        model=model,
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "training pairs: pairs.jsonl, 12 of 12 rows kept" in printed.out
    assert "eval_loss = " in printed.out
    assert printed.out.splitlines()[-1] == "saved to out"
    # The weights that are there have moved from where they began.
    before = load_file(model / "model.safetensors")
    after = load_file(folder / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)
    AutoModelForCausalLM.from_pretrained(folder / "out")
    results = json.loads((folder / "out" / "eval_results.json").read_text())
    assert 0 <= results["eval_loss"] <= 1


def test_a_config_file_as_trl_reads_it_and_a_flag_before_it(folder, model, capsys):
    (folder / "train.yaml").write_text(
        "data: pairs.jsonl\n"
        f"model_name_or_path: {model}\n"
        "kind: reward\n"
        "loss_type: ramp\n"
        "output_dir: from_the_file\n"
        "learning_rate: 1e-2\n"  # YAML reads a text here
        "max_steps: 1\n"
    )
    code = train("--config", "train.yaml", "--output_dir", "from_the_flag")
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert not (folder / "from_the_file").exists()
    saved = AutoModelForSequenceClassification.from_pretrained(folder / "from_the_flag")
    assert saved.num_labels == 1


def test_peft_flags_give_an_adapter_of_the_right_kind(folder, model):
    common = ("--data", "pairs.jsonl", "--max_steps", "1", "--use_peft", "--lora_r", "2")
    for kind, task in (("dpo", "CAUSAL_LM"), ("reward", "SEQ_CLS")):
        assert train(*common, "--kind", kind, "--output_dir", kind, model=model) == 0
        adapter = json.loads((folder / kind / "adapter_config.json").read_text())
        assert (adapter["r"], adapter["task_type"]) == (2, task)


def test_a_run_that_diverges_is_a_sentence_and_exit_1(folder, model, capsys):
    steep = ("--learning_rate", "1e30", "--max_steps", "5", "--logging_steps", "1")
    code = train("--data", "pairs.jsonl", "--loss_type", "dpo", *steep, model=model)
    assert code == 1
    assert "training diverged" in capsys.readouterr().err


def test_a_run_whose_last_step_diverges_is_exit_1(folder, model, capsys):
    steep = ("--learning_rate", "1e30", "--max_steps", "1", "--eval_data", "held_out.jsonl")
    assert train("--data", "pairs.jsonl", "--loss_type", "dpo", *steep, model=model) == 1
    assert "eval_loss after step 1 is not finite" in capsys.readouterr().err


REFUSED = {
    "no data": ((), "arguments are required: --data"),
    "no such file": (("--data", "nowhere.jsonl"), "nowhere.jsonl"),
    "no such kind": (("--data", "pairs.jsonl", "--kind", "sft"), "give dpo or reward"),
    "no such loss": (("--data", "pairs.jsonl", "--loss_type", "sympo_rmap"), "sympo_ramp"),
    "no such flag": (("--data", "pairs.jsonl", "--lossy", "1"), "unknown settings: --lossy 1"),
    "no number": (("--data", "pairs.jsonl", "--beta", "big"), "invalid float value: 'big'"),
    "no config": (("--config", "nowhere.yaml"), "nowhere.yaml"),
    "broken config": (("--config", "broken.yaml"), "cannot read broken.yaml as YAML"),
    "broken config with a kind": (("--config", "broken.yaml", "--kind", "dpo"), "as YAML"),
    "brackets": (("--config", "brackets.yaml"), "cannot read brackets.yaml as YAML"),
    "names that are none": (("--config", "numbers.yaml"), "holds no settings"),
    "eval_data": (("--config", "eval.yaml"), "eval_data = [1]: name a file"),
    "a folder for data": (("--data", "."), "this is a folder: name a file"),
    "missing data": (("--data", "nowhere.parquet"), "there is no such file"),
    "a folder for a config": (("--config", "."), "this is a folder: name a file"),
    "no pair": (("--data", "equal.jsonl"), "equal.jsonl is not a file of preference pairs"),
    "a long flag": (("--data", "pairs.jsonl", "--" + "x" * 100_000), "unknown settings: --xxx"),
    "empty config": (("--config", "empty.yaml"), "holds no settings"),
    "unknown setting": (("--config", "typo.yaml"), "unknown settings: --learning_raet 1"),
    "no name after a flag": (("--config",), "expected one argument"),
    "short flag": (("--data", "pairs.jsonl", "--learning_rat", "1"), "unknown settings: --learn"),
    "no whole number": (("--config", "half.yaml"), "max_steps = 1.5: give a whole number"),
    "a list": (("--config", "list.yaml"), "learning_rate = [1]: give a number"),
    "a list of kinds": (("--config", "kinds.yaml"), "kind = ['dpo'] is not a choice"),
    "null data": (("--config", "null.yaml"), "data = None: name a file"),
    "custom": (("--data", "pairs.jsonl", "--loss_type", "custom"), "only Python can give"),
    "weights of pairs": (("--data", "weighted.jsonl"), "weighted.jsonl has a column 'weight'"),
    "margins": (("--data", "margins.jsonl", "--kind", "reward"), "has a column 'margin'"),
    "code of a model": (("--data", "pairs.jsonl", "--trust_remote_code"), "leave it out"),
    "weights that hold code": (
        ("--data", "pairs.jsonl", "--model_init_kwargs", '{"use_safetensors": false}'),
        "use_safetensors = False is refused",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_a_sentence_and_exit_2(case, folder, model, capsys):
    (folder / "broken.yaml").write_text("data: [pairs.jsonl")
    (folder / "empty.yaml").write_text("")
    (folder / "brackets.yaml").write_text("data: " + "[" * 5000)
    (folder / "numbers.yaml").write_text("1: 2\n")
    (folder / "eval.yaml").write_text("data: pairs.jsonl\neval_data: [1]\n")
    (folder / "equal.jsonl").write_text('{"prompt": "p", "chosen": "x", "rejected": "x"}\n')
    (folder / "typo.yaml").write_text("data: pairs.jsonl\nlearning_raet: 1\n")
    (folder / "half.yaml").write_text("data: pairs.jsonl\nmax_steps: 1.5\n")
    (folder / "list.yaml").write_text("data: pairs.jsonl\nlearning_rate: [1]\n")
    (folder / "kinds.yaml").write_text("data: pairs.jsonl\nkind: [dpo]\n")
    (folder / "null.yaml").write_text("data: null\n")
    for column in ("weight", "margin"):
        rows = [{"prompt": "w0 ", "chosen": "w1", "rejected": "w2", column: 0.5}]
        name = {"weight": "weighted", "margin": "margins"}[column]
        write_jsonl(folder / f"{name}.jsonl", rows)
    arguments, message = REFUSED[case]
    assert train(*arguments, model=model) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1000
    assert not (folder / "trainer_output").exists()


def test_a_model_has_to_be_named(folder, capsys):
    assert train("--data", "pairs.jsonl") == 2
    assert "model_name_or_path is missing" in capsys.readouterr().err


def test_broken_weights_are_a_sentence(folder, model, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "model.safetensors").write_bytes(b"broken")
    assert train("--data", "pairs.jsonl", model=broken) == 2
    printed = capsys.readouterr().err
    assert "the run cannot be set up" in printed


def test_pickled_weights_are_never_read(folder, model, tmp_path, capsys):
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (pickled / file.name).write_bytes(file.read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"would be unpickled")
    assert train("--data", "pairs.jsonl", model=pickled) == 2
    assert "model.safetensors" in capsys.readouterr().err


def test_code_in_a_models_folder_is_never_run(folder, model, tmp_path, capsys):
    coded = tmp_path / "coded"
    coded.mkdir()
    for file in model.iterdir():
        (coded / file.name).write_bytes(file.read_bytes())
    config = json.loads((coded / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    config["model_type"] = "evil"
    config["architectures"] = ["Evil"]
    (coded / "config.json").write_text(json.dumps(config))
    (coded / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert train("--data", "pairs.jsonl", model=coded) == 2
    assert "trust_remote_code" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()
