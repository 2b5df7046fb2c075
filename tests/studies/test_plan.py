"""What a plan runs, what it only loads, and which runs come first."""

from dataclasses import dataclass

import pytest
from toy_plan import make_plan, toy

from sympo.studies import plan, profiles, records
from sympo.studies.mnist.config import LossesConfig, NoiseConfig
from sympo.studies.records import Result, Run


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    monkeypatch.delenv("SYMPO_RECORDS", raising=False)
    return tmp_path / "gpu" / "records"


def test_a_plan_trains_what_is_missing_and_loads_the_rest():
    runs = [toy(seed=seed) for seed in range(3)]
    assert str(plan.run(make_plan(runs[:1]))) == "trained 1, loaded 0"
    result = plan.run(make_plan(runs))
    assert str(result) == "trained 2, loaded 1"
    assert [record["metrics"]["seed"] for record in result.records] == [0, 1, 2]


def test_runs_that_follow_from_a_probe_are_trained_once_it_is_complete():
    probe = [toy(seed=1000), toy(seed=1001)]

    def list_runs(load):
        found = [load(run) for run in probe]
        best = max(record["metrics"]["seed"] for record in found) if all(found) else None
        return [toy(), *probe, *([toy(method=f"best-{best}")] if best else [])]

    result = plan.run(make_plan([], list_runs=list_runs))
    assert (result.trained, result.loaded) == (4, 0)
    assert result.records[-1]["config"]["method"] == "best-1001"
    again = plan.run(make_plan([], list_runs=list_runs))
    assert (again.trained, again.loaded) == (0, 4)
    assert again.records == result.records


def fail(runs):
    pytest.fail("it trained")


def shown(result):
    return [(record["config"]["method"], record["config"]["seed"]) for record in result.records]


def test_read_only_keeps_complete_seeds_of_the_first_tier_and_counts_the_rest():
    first = [toy(method, seed) for seed in range(3) for method in ("dpo", "ramp")]
    # of the last seed one run is missing
    plan.run(make_plan(first[:5]))
    result = plan.run(make_plan(first, read_only=True, train=fail))
    assert shown(result) == [("dpo", 0), ("ramp", 0), ("dpo", 1), ("ramp", 1)]
    assert (result.trained, result.loaded, result.missing, result.left_out) == (0, 4, 1, 1)
    assert str(result) == (
        "trained 0, loaded 4; runs without a record: 1; "
        "not taken, since others of their kind are missing: 1"
    )


def test_read_only_takes_of_a_further_tier_what_every_complete_seed_has():
    first = [toy(method, seed) for seed in range(2) for method in ("dpo", "ramp")]
    # the study wants a third seed of these, which the first tier does not have yet
    whole = [toy("rdpo", seed, plan.OTHER_METHODS) for seed in range(3)]
    part = [toy("ropo", seed, plan.OTHER_METHODS) for seed in range(2)]
    probe = [toy(method, 1000 + seed, plan.PROBE) for method in "ab" for seed in range(2)]
    everything = [*first, toy("dpo", 2), *probe, *whole, *part]
    plan.run(make_plan([*first, *probe, *whole[:2], part[0]]))
    result = plan.run(make_plan(everything, read_only=True, train=fail))
    # that ropo lacks a seed costs rdpo nothing
    assert {*shown(result)} == {(run.method, run.seed) for run in [*first, *probe, *whole[:2]]}
    assert (result.missing, result.left_out) == (3, 1)
    # a probe that lacks a seed of one method has chosen nothing
    result = plan.run(
        make_plan([*first, *probe, toy("a", 1002, plan.PROBE)], read_only=True, train=fail)
    )
    assert {*shown(result)} == {(run.method, run.seed) for run in first}


def test_read_only_without_a_complete_seed_says_what_to_do():
    runs = [toy("dpo"), toy("ramp")]
    plan.run(make_plan(runs[:1]))
    with pytest.raises(ValueError, match=r"no seed of toy with .* is complete in .*records import"):
        plan.run(make_plan(runs, read_only=True, train=fail))


def test_read_only_is_asked_for_or_follows_from_gpu_records_without_cuda(folder, monkeypatch):
    # there is no CUDA where this test means something
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert not plan.is_read_only("gpu")
    plan.run(make_plan([toy()]))
    assert plan.is_read_only("gpu")
    assert not plan.is_read_only("laptop")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert not plan.is_read_only("gpu")
    monkeypatch.setenv("SYMPO_RECORDS", "only")
    assert plan.is_read_only("laptop")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("SYMPO_RECORDS", "train")
    assert not plan.is_read_only("gpu")
    monkeypatch.setenv("SYMPO_RECORDS", "onyl")
    with pytest.raises(ValueError, match="SYMPO_RECORDS is 'onyl': set it to only or train"):
        plan.is_read_only("gpu")


def test_hashes_are_those_of_the_records_and_must_agree(folder):
    assert records.find_hashes("toy", folder=folder, version=1) == {}

    @dataclass(frozen=True, kw_only=True)
    class Hashed(Run):
        data_sha256: str

    def write(digest, version):
        run = Hashed(study="toy", method="dpo", noise="none", seed=0, data_sha256=digest)
        records.save(run, Result({}, []), folder=folder, version=version, provenance={})

    write("a", 1)
    write("b", 2)  # of another version
    (folder / "toy-broken.json").write_text("{", encoding="utf-8")
    assert records.find_hashes("toy", folder=folder, version=1) == {"data_sha256": "a"}
    write("c", 1)
    with pytest.raises(ValueError, match="made from 2 different sets of data and weights"):
        records.find_hashes("toy", folder=folder, version=1)


# Tiers


def test_parts_come_by_tier_and_hold_what_trains_together():
    runs = [
        toy(method, seed, tier)
        for method, tier in (("a", plan.OTHER_METHODS), ("dpo", 0), ("ramp", 0))
        for seed in range(2)
    ]
    parts = make_plan(runs, together=lambda run: run.seed).parts()
    shown = [[(run.method, run.seed) for run in part] for part in parts]
    assert shown == [[("dpo", 0), ("ramp", 0)], [("dpo", 1), ("ramp", 1)], [("a", 0)], [("a", 1)]]


def test_tiers_of_mnist():
    def read(study, kind):
        return kind(study=study, profile="gpu", **profiles.read_profile("gpu")[study])

    losses = read("mnist_losses", LossesConfig)
    tiers = {(run.method, run.rate_pos): losses.tier(run) for run in losses.runs()}
    first = {cell for cell, tier in tiers.items() if tier == plan.HEADLINE}
    named = ("logistic", "hinge", "sigmoid", "ramp")
    assert first == {(method, rate) for method in named for rate in (0.0, 0.4)}
    assert {tiers[method, 0.45] for method in named} == {plan.OTHER_RATES}
    assert {tiers[method, 0.4] for method in ("square", "unhinged")} == {plan.OTHER_METHODS}

    noise = read("mnist_noise", NoiseConfig)
    first = {(r.noise_pair, r.condition) for r in noise.runs() if noise.tier(r) == plan.HEADLINE}
    assert first == {("0.2-0.6", each) for each in ("asymmetric", "equivalent", "tied")}
