"""What the trainers ask of TRL beside its documented interface, and the versions tested."""

import inspect
import warnings
from typing import Any

import trl

# The minor versions on which the tests pass. Not 1.15: its own DPOTrainer needs triton, and no CPU
# has that.
TESTED = ("1.13", "1.14", "1.16")

# Methods that are overridden or called here, with the parameters that they are given.
_SHARED = {
    "_prepare_dataset": ("dataset", "processing_class", "args", "dataset_name"),
    "_set_signature_columns_if_needed": (),
    "compute_loss": ("model", "inputs", "return_outputs", "num_items_in_batch"),
    "evaluation_loop": (
        *("dataloader", "description", "prediction_loss_only"),
        *("ignore_keys", "metric_key_prefix"),
    ),
    "log": ("logs", "start_time"),
}
METHODS: dict[type, dict[str, tuple[str, ...]]] = {
    trl.DPOTrainer: {
        **_SHARED,
        "_precompute_ref_logps": ("dataset", "name", "batch_size"),
        "compute_ref_log_probs": ("model", "inputs"),
    },
    trl.RewardTrainer: _SHARED,
}


def check_version(trainer: type) -> None:
    """Say what is different where TRL is not of a version that was tested.

    Args:
        trainer: a class whose bases include a trainer of TRL.
    Raises:
        RuntimeError: TRL lacks something that is relied on, so that nothing would be right.
    Check: tests/library/test_trainer_contract.py.
    """
    base, methods = next(item for item in METHODS.items() if issubclass(trainer, item[0]))
    versions = f"{', '.join(TESTED[:-1])} and {TESTED[-1]}"
    tested = f"sympo.trainer was tested with TRL {versions}, and this is {trl.__version__}"
    missing = [name for name in methods if not hasattr(base, name)]
    if missing:
        raise RuntimeError(
            f"{tested}, whose {base.__name__} has no {', '.join(missing)}: "
            f"install a version that was tested, pip install 'trl~={TESTED[-1]}.0'"
        )
    if ".".join(trl.__version__.split(".")[:2]) in TESTED:
        return
    changed = [name for name, names in methods.items() if _parameters(base, name) != names]
    found = (
        f"its {base.__name__} takes other arguments in {', '.join(changed)}"
        if changed
        else f"its {base.__name__} has the same methods"
    )
    warnings.warn(f"{tested}: {found}", stacklevel=5)


def _parameters(base: Any, name: str) -> tuple[str, ...]:
    return tuple(inspect.signature(getattr(base, name)).parameters)[1:]
