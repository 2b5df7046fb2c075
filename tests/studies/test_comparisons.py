"""The recorded comparisons themselves: every row of the real files is parsed exactly or counted."""

import gzip
import json
import os
from collections import Counter

import pytest
from datasets import concatenate_datasets

from sympo.preferences import drop_overlap, prompt_keys, split_pairs
from sympo.studies import comparisons
from sympo.studies.alignment import gold

pytestmark = pytest.mark.skipif(
    not os.environ.get("SYMPO_DATA"), reason="SYMPO_DATA names no folder with real data"
)
HUMAN = "\n\nHuman: "
ASSISTANT = "\n\nAssistant: "


@pytest.mark.parametrize(
    ("name", "rows", "malformed", "equal", "inner"),
    [
        ("harmless-base/test", 2312, 0, 0, 5),
        ("helpful-base/test", 2354, 0, 2, 9),
        ("helpful-online/test", 1137, 2, 2, 0),
        ("helpful-rejection-sampled/test", 2749, 0, 32, 3),
    ],
)
def test_real_hh_rows_are_parsed_exactly(name, rows, malformed, equal, inner):
    dataset, report = comparisons.load_hh(name)
    assert report.rows == rows
    assert report.malformed.total() == malformed
    assert report.no_preference["chosen = rejected"] == equal
    assert report.noted["answer holds an Assistant turn"] == inner
    written = Counter()
    for row in dataset.to_list():
        roles = [m["role"] for m in row["prompt"]]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
        assert roles[-1] == "user"
        turns = [
            (HUMAN if m["role"] == "user" else ASSISTANT) + m["content"] for m in row["prompt"]
        ]
        prompt = "".join(turns) + ASSISTANT
        written[prompt + row["chosen"][0]["content"], prompt + row["rejected"][0]["content"]] += 1
    path = os.path.join(os.environ["SYMPO_DATA"], "hh", name + ".jsonl.gz")
    with gzip.open(path) as lines:
        raw = Counter((row["chosen"], row["rejected"]) for row in map(json.loads, lines))
    # Written back, every kept row is a row of the file, byte for byte.
    assert written <= raw
    assert (raw - written).total() == malformed + equal


def test_the_hh_split_shares_no_prompt():
    split = split_pairs(comparisons.load_hh(*gold.HH_TRAIN), comparisons.load_hh(*gold.HH_TEST))
    assert not set(prompt_keys(split.train)) & set(prompt_keys(split.test))
    assert len(split.train) + split.overlap == split.train_report.kept == 3850
    assert len(split.test) == 2352
    assert len(split.train_report.files) == 2


def test_real_ultrafeedback_rows():
    train, report = comparisons.load_ultrafeedback("train")
    assert report.rows == 1000
    # 111 rows tie on score; one of them also has equal answers, and is counted as that.
    assert report.no_preference == {"chosen = rejected": 4, "score tie": 110}
    assert comparisons.load_ultrafeedback("train", ties="keep").report.kept == 996
    test, report = comparisons.load_ultrafeedback("test")
    assert report.no_preference == {"chosen = rejected": 1, "score tie": 24}
    wrapped, report = comparisons.load_ultrafeedback("train.parquet")
    assert (report.rows, report.kept) == (1000, 1000)
    assert {len(prompt) for prompt in wrapped["prompt"]} == {1}
    assert not any("<|im_" in prompt[0]["content"] for prompt in wrapped["prompt"])
    keys = [set(prompt_keys(part)) for part in (train, test, wrapped)]
    assert not keys[0] & keys[1]
    _, dropped = drop_overlap(wrapped, concatenate_datasets([train, test]))
    assert dropped == len((keys[0] | keys[1]) & keys[2]) > 0
