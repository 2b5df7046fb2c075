"""`python -m sympo train`: train on a file of preferences, with TRL's own flags and config file.

    python -m sympo train --data pairs.jsonl --model_name_or_path MODEL --output_dir OUT \\
        --loss_type sympo_sigmoid --max_steps 1000
    python -m sympo train --config train.yaml --learning_rate 1e-6

Flags and the keys of the YAML file are the fields of `TrainArguments`, of TRL's ModelConfig, and of
SymPOConfig, or with `--kind reward` of SymmetricRewardConfig. A flag goes before the file. Weights
are read from safetensors alone, and no code that comes with a model is run.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import pyarrow.parquet
from datasets import Dataset
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from sympo._files import describe_error, read_bounded
from sympo._names import show
from sympo.losses import CUSTOM
from sympo.preferences import load_file, read_rows
from sympo.trainer import (
    DivergedError,
    SymmetricRewardConfig,
    SymmetricRewardTrainer,
    SymPOConfig,
    SymPOTrainer,
)

__all__ = ["TrainArguments", "main"]

_SETTINGS = 2**20  # ours: bytes of a file of settings
_CONFIGS = {"dpo": SymPOConfig, "reward": SymmetricRewardConfig}
_TRAINERS = {"dpo": SymPOTrainer, "reward": SymmetricRewardTrainer}


@dataclass
class TrainArguments:
    """What `train` reads, beside TRL's own arguments."""

    data: str = field(
        metadata={
            "help": "Preferences: a .jsonl, .jsonl.gz or .parquet file in a format of the README."
        }
    )
    eval_data: str | None = field(
        default=None,
        metadata={"help": "Held-out preferences, in a file of the same kind; measured at the end."},
    )
    kind: Literal["dpo", "reward"] = field(
        default="dpo", metadata={"help": "A policy as in DPO, or a reward model."}
    )


class _Parser(TrlParser):
    """TRL's parser, whose complaints are a sentence and not a page of flags."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; --help lists all flags")

    def set_defaults_with_config(self, **kwargs: Any) -> list[str]:
        # argparse checks the numbers of flags, and takes those of a file as they are.
        for action in self._actions:
            value = kwargs.get(action.dest)
            if value is None or action.nargs is not None or action.type not in (int, float):
                continue
            try:
                action.type(str(value))
            except ValueError:
                kind = "a whole number" if action.type is int else "a number"
                raise ValueError(f"{action.dest} = {show(value)}: give {kind}") from None
        rest: list[str] = super().set_defaults_with_config(**kwargs)
        return rest


class _FirstLook(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: what follows `train`; None: of this process.
    Returns:
        the exit code: 0 done, 1 training diverged, 2 bad input, 130 interrupted.
    Check: tests/library/test_train.py.
    """
    try:
        script, config, model = _parse(sys.argv[1:] if argv is None else argv)
        _train(script, config, model)
    except OSError as error:
        print(describe_error(error), file=sys.stderr)
        return 2
    except (ValueError, TypeError, ImportError) as error:
        # Some messages of the libraries below have several lines.
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    except DivergedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: checkpoints are kept, resume_from_checkpoint goes on", file=sys.stderr)
        return 130
    return 0


def _parse(argv: Sequence[str]) -> tuple[TrainArguments, Any, ModelConfig]:
    """The three groups of arguments, checked."""
    # The kind says which config the rest is parsed into, so it is looked for first.
    look = _FirstLook(add_help=False, allow_abbrev=False)
    look.add_argument("--kind")
    look.add_argument("--config")
    seen, rest = look.parse_known_args(argv)
    file = [] if seen.config is None else ["--config", seen.config]
    # Read here in any case: TRL's own reading of a broken file ends in a traceback.
    settings = _read_config(seen.config) if file else {}
    kind = seen.kind or settings.get("kind") or "dpo"
    if not isinstance(kind, str) or kind not in _CONFIGS:
        raise ValueError(f"kind = {show(kind)} is not a choice: give dpo or reward")

    parser = _Parser(
        (TrainArguments, _CONFIGS[kind], ModelConfig),
        prog="python -m sympo train",
        allow_abbrev=False,
    )
    script, config, model, unknown = parser.parse_args_and_config(
        [*file, "--kind", kind, *rest], return_remaining_strings=True
    )
    if unknown:
        raise ValueError(
            f"unknown settings: {show(' '.join(unknown))[1:-1]}; --help lists all flags"
        )
    if not isinstance(script.data, str):
        raise ValueError(f"data = {show(script.data)}: name a file of preferences")
    if not isinstance(script.eval_data, str | None):
        raise ValueError(f"eval_data = {show(script.eval_data)}: name a file of preferences")
    if CUSTOM in ([config.loss_type] if kind == "reward" else config.loss_type):
        raise ValueError(
            f"loss_type '{CUSTOM}' is a function, which only Python can give: use the trainer there"
        )
    if not model.model_name_or_path:
        raise ValueError("model_name_or_path is missing: name a model's folder, or one on the hub")
    if kind == "reward" and model.use_peft and model.lora_task_type == "CAUSAL_LM":
        # TRL's default, which would leave a reward model's own layer untrained.
        model.lora_task_type = "SEQ_CLS"
    config.model_init_kwargs = _model_arguments(config, model)
    return script, config, model


def _read_config(path: str) -> dict[str, Any]:
    import yaml  # comes with transformers

    try:
        config = yaml.safe_load(read_bounded(path, _SETTINGS).decode())
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ValueError(f"cannot read {path} as YAML: {error.problem}{line}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"cannot read {path} as YAML: {error}") from error
    if not isinstance(config, dict) or not all(isinstance(name, str) for name in config):
        raise ValueError(f"{path} holds no settings: write one `name: value` a line")
    return config


def _model_arguments(config: Any, model: ModelConfig) -> dict[str, Any]:
    """What TRL's own scripts pass on to `from_pretrained`, and safetensors alone."""
    chosen = dict(config.model_init_kwargs or {})
    # TRL before 1.16 has the flag in its ModelConfig.
    flags = (getattr(group, "trust_remote_code", False) for group in (config, model))
    if any(flags) or chosen.get("trust_remote_code"):
        raise ValueError(
            "trust_remote_code would run code that comes with the model, which this command never "
            "does: leave it out"
        )
    if not chosen.setdefault("use_safetensors", True):
        raise ValueError("use_safetensors = False is refused: other files of weights can hold code")
    return {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **chosen,
    }


def _refuse_column(path: str, kind: str) -> None:
    """Refuse a column that the trainer would heed and that pairs do not keep."""
    if path.endswith(".parquet"):
        rows = iter([pyarrow.parquet.read_schema(path).names])
    else:
        rows = (row for row in read_rows(Path(path)) if isinstance(row, dict))
    heeded = {"weight"} if kind == "dpo" else {"weight", "margin"}
    found = next((name for row in rows for name in row if name in heeded), None)
    if found is not None:
        raise ValueError(
            f"{Path(path).name} has a column '{found}', which this command does not pass on: "
            "remove it, or use the trainer in Python with the column added to the dataset"
        )


def _read(path: str, name: str, kind: str) -> Dataset:
    pairs = load_file(path)
    _refuse_column(path, kind)
    print(f"{name}: {Path(path).name}, {pairs.report}", flush=True)
    return pairs.dataset


def _train(script: TrainArguments, config: Any, model: ModelConfig) -> None:
    from safetensors import SafetensorError  # comes with transformers

    # First, since they may need packages that are not here.
    adapter = get_peft_config(model)
    quantization = get_quantization_config(model)
    train = _read(script.data, "training pairs", script.kind)
    evaluation = None
    if script.eval_data is not None:
        evaluation = _read(script.eval_data, "held-out pairs", script.kind)
    try:
        trainer = _TRAINERS[script.kind](
            model.model_name_or_path,
            args=config,
            train_dataset=train,
            eval_dataset=evaluation,
            quantization_config=quantization,
            peft_config=adapter,
        )
    except (RuntimeError, SafetensorError) as error:
        # Weights that are broken or of other shapes, and trackers that are not installed.
        raise ValueError(f"the run cannot be set up: {error}") from error
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    if evaluation is not None:
        measured = trainer.evaluate()
        trainer.save_metrics("eval", measured)
        wanted = {name: value for name, value in measured.items() if isinstance(value, float)}
        lines = (f"{name} = {value:.4g}" for name, value in sorted(wanted.items()))
        trainer.accelerator.print("\n".join(lines), flush=True)
    trainer.save_model(config.output_dir)
    trainer.accelerator.print(f"saved to {config.output_dir}", flush=True)
    # It closes trackers and process groups, since transformers 5.18.
    if hasattr(trainer, "end"):
        trainer.end()
