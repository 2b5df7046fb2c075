"""`is_flipped`: one rule for files and batches, unknown rows, and metrics that leave them out."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, IterableDataset, Value
from tiny_trainers import build, build_reward, compute_rewards, draw_pairs

from sympo.preferences import load_file
from sympo.trainer import FlipCollator

pytestmark = pytest.mark.usefixtures("frozen_modules")


def with_flips(values, kind=None):
    """Pairs with these values in the column; a row whose value is Ellipsis has none."""
    column = [None if value is ... else value for value in values]
    features = Features({"is_flipped": Value(kind)}) if kind else None
    flips = Dataset.from_dict({"is_flipped": column}, features=features)
    pairs = draw_pairs(len(values), flips=False)
    return pairs.add_column("is_flipped", flips.data.column("is_flipped"))


def collate_nothing(examples):
    return {"pairs": len(examples)}


collate_nothing.pad_token_id = 7


@pytest.mark.parametrize(
    ("values", "encoded"),
    [
        ([True, False], [1, 0]),
        ([1, 0, True], [1, 0, 1]),
        ([None, True, ..., 0], [-1, 1, -1, 0]),
        ([..., 1], [-1, 1]),
        ([None, None], [-1, -1]),
    ],
)
def test_each_row_is_read_for_itself(values, encoded):
    rows = [{} if value is ... else {"is_flipped": value} for value in values]
    assert FlipCollator(collate_nothing)(rows)["is_flipped"].tolist() == encoded


def test_rows_without_the_column_have_none():
    assert FlipCollator(collate_nothing)([{}, {}]) == {"pairs": 2}


@pytest.mark.parametrize("value", ["true", "False", 2, -1, 1.0, float("nan"), [True]])
def test_a_value_that_is_a_guess_is_refused(value):
    with pytest.raises(ValueError, match=re.escape(f"row 1 of a batch: is_flipped = {value!r}: ")):
        FlipCollator(collate_nothing)([{"is_flipped": True}, {"is_flipped": value}])


def test_the_collator_hides_nothing(tmp_path):
    trainer = build("dpo", tmp_path, max_length=40)
    assert trainer.data_collator.pad_token_id == trainer.processing_class.pad_token_id
    assert trainer.data_collator.max_length == 40
    # What is set on it acts.
    trainer.data_collator.max_length = 3
    assert next(iter(trainer.get_train_dataloader()))["input_ids"].shape[1] == 3
    with pytest.raises(AttributeError, match="no_such_name"):
        trainer.data_collator.no_such_name  # noqa: B018


def test_the_collator_can_be_copied():
    travelled = copy.deepcopy(FlipCollator(collate_nothing))
    assert travelled([{"is_flipped": None}])["is_flipped"].tolist() == [-1]
    assert travelled.pad_token_id == 7


def test_a_value_is_refused_before_training_by_its_row(tmp_path):
    for kind, values, named in [
        ("string", ["true", "false"], "row 0 of the dataset 'train': is_flipped = 'true'"),
        ("int64", [0, 1, None, 2], "row 3 of the dataset 'train': is_flipped = 2"),
        ("float64", [None, 1.0], "row 1 of the dataset 'train': is_flipped = 1.0"),
    ]:
        with pytest.raises(ValueError, match=re.escape(named)):
            build("dpo", tmp_path, data=with_flips(values, kind))
        with pytest.raises(ValueError, match=re.escape(named)):
            build_reward(tmp_path, data=with_flips(values, kind))
    trainer = build("dpo", tmp_path)
    with pytest.raises(ValueError, match=r"row 0 of the dataset 'eval': is_flipped = 3"):
        trainer.evaluate(with_flips([3], "int64"))


@pytest.mark.parametrize("build_trainer", [lambda *a, **k: build("dpo", *a, **k), build_reward])
def test_a_stream_is_refused_at_the_row_that_it_brings(build_trainer, tmp_path):
    rows = list(draw_pairs(8, flips=False))
    rows[5]["is_flipped"] = "False"
    stream = IterableDataset.from_generator(lambda: iter(rows))
    trainer = build_trainer(tmp_path, data=stream, per_device_train_batch_size=8)
    with pytest.raises(ValueError, match=r"row 5 of a batch: is_flipped = 'False'"):
        trainer.train()


@pytest.mark.parametrize("kind", ["bool", "int64"])
def test_unknown_rows_are_left_out(kind, tmp_path):
    values = [1, None, 0, 1, 0, None, 1]
    values = [value if value is None or kind == "int64" else bool(value) for value in values]
    rows = with_flips(values, kind)
    trainer = build("dpo", tmp_path, data=rows, evaluation=rows, per_device_eval_batch_size=2)
    chosen, rejected = compute_rewards(trainer, rows)
    known = np.array([value is not None for value in values])
    margin = (chosen - rejected)[known]
    flipped = np.array([value for value in values if value is not None], dtype=bool)
    metrics = trainer.evaluate()
    true_margin = np.where(flipped, -margin, margin)
    assert metrics["eval_accuracy_true"] == pytest.approx(np.mean(true_margin > 0))
    assert metrics["eval_margin_true"] == pytest.approx(true_margin.mean(), abs=1e-5)
    assert metrics["eval_flipped_fit"] == pytest.approx(np.mean(margin[flipped] > 0))


def test_nothing_known_nothing_logged(tmp_path):
    rows = with_flips([None] * 4, "bool")
    metrics = build("dpo", tmp_path, data=rows, evaluation=rows).evaluate()
    assert not [name for name in metrics if "true" in name or "flipped" in name]


def test_integers_of_a_file_mean_the_same_to_the_loader_and_the_trainer(tmp_path):
    """Four of eight flipped, read by the loader or straight from the file."""
    rows = [{**row, "is_flipped": i % 2} for i, row in enumerate(draw_pairs(8, flips=False))]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    loaded = load_file(file).dataset
    direct = Dataset.from_json(str(file), cache_dir=str(tmp_path / "cache"))
    for data in (loaded, direct):
        trainer = build("dpo", tmp_path, data=data, per_device_train_batch_size=8)
        batch = next(iter(trainer.get_train_dataloader()))
        assert batch["is_flipped"].dtype == torch.int8
        assert batch["is_flipped"].sum() == 4
