"""The benchmarks: both sides do the same work, work is counted right, and the report says what was
measured.
"""

import json
import time

import numpy as np
import pytest
import torch

from sympo import preferences
from sympo.book import bench
from sympo.studies import profiles, sources
from sympo.studies.alignment import gold
from sympo.studies.alignment import sweep as align
from sympo.studies.mnist import study as mnist
from sympo.studies.mnist.fast import kernels

SECTION = {
    "repeats": 3,
    "losses": ["logistic", "ramp"],
    "noise_rates": [0.0, 0.4],
    "pairs": 24,
    "batch": 24,
}
SECTION |= {"plain_models": 1, "test_images": 10, "growth_models": [1, 2], "growth_pairs": [12, 24]}
SECTION |= {"matmul_size": 16, "copy_mib": 1}
SECTION |= {"gold_seeds": 1, "step_pairs": 192}
READ_PROFILE = profiles.read_profile
SIZES = bench.BenchConfig(study="bench", profile="smoke", **SECTION)


@pytest.fixture(autouse=True)
def made_up(monkeypatch, tmp_path):
    """Random images in place of MNIST, a profile with tiny benchmarks, and a folder for the
    report.
    """
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (120, 28, 28)), generator.integers(0, 10, 120)
    parts = [
        array.astype(np.uint8) for array in (images[:100], labels[:100], images[100:], labels[100:])
    ]
    data = sources.MNIST(*parts, "made up", "none")
    monkeypatch.setattr(sources, "mnist", lambda: data)
    monkeypatch.setattr(profiles, "read_profile", lambda profile: {"bench": SECTION})
    monkeypatch.setenv("SYMPO_FIGURES", str(tmp_path))
    # the textbook's convolutions, on a GPU
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return data


def test_both_sides_train_the_same_models(made_up, monkeypatch):
    """With the batch of all pairs, whose order means nothing, and with dropout off: the same losses
    at each epoch.
    """
    monkeypatch.setattr(mnist, "draw_masks", lambda images, generator: torch.ones(2, 64, images))
    monkeypatch.setattr(mnist, "DROPOUT", 0.0)
    runs = bench.list_runs(SIZES)
    assert {(run["method"], run["rate_pos"]) for run in runs} == {
        (m, r) for m in ("logistic", "ramp") for r in (0, 0.4)
    }
    workers = torch.get_num_threads()
    chunked = [
        run for chunk in mnist.list_chunks(runs, workers=workers, device="cpu") for run in chunk
    ]
    plain, chunks = (
        [bench.prepare_plain(run, made_up) for run in chunked],
        bench.prepare_chunks(runs, made_up),
    )
    seen = []
    with mnist.open_pool(bench._device()) as pool:
        for _ in range(4):
            trained = bench.train_together(pool, chunks)
            ours = torch.stack(
                [
                    torch.cat([risk for risk, _ in trained]),
                    torch.cat([f.float().mean(1) for _, f in trained]),
                ],
                1,
            )
            (steps,) = zip(*[train() for train in plain], strict=True)
            torch.testing.assert_close(ours.cpu(), torch.tensor(steps), rtol=2e-4, atol=2e-5)
            seen.append(ours[:, 0])
    assert (seen[-1] < seen[0] - 0.01).all()  # they moved


def test_both_sides_evaluate_the_same_rewards(made_up):
    (chunk,) = bench.prepare_chunks(bench.list_runs(SIZES)[:1], made_up)
    device = bench._device()
    ours = mnist.evaluate_rewards(chunk.grid, torch.from_numpy(made_up.test_images).to(device))
    network = mnist.initial_network(0).to(device)
    plain = bench.evaluate_plainly(network, bench._to_floats(made_up.test_images).to(device))
    torch.testing.assert_close(ours[0], plain)
    assert not network.training


def test_the_plain_loop_visits_every_pair_in_batches(made_up):
    steps = bench.prepare_plain({**bench.list_runs(SIZES)[0], "batch": 10}, made_up)()
    assert len(steps) == 3  # 10, 10, 4
    assert all(
        round(accuracy * size, 4) % 1 == 0
        for (_, accuracy), size in zip(steps, (10, 10, 4), strict=True)
    )


def test_functions_take_turns_after_a_call_of_each():
    calls = []
    times = bench.time_in_turn(
        [lambda: calls.append("ours"), lambda: calls.append("plain")], repeats=3
    )
    warm_ups = bench.WARM_UPS * ["ours"] + bench.WARM_UPS * ["plain"]
    assert calls == warm_ups + ["ours", "plain"] * 3
    assert [len(column) for column in times] == [3, 3]


def test_the_ratio_is_paired_and_per_model():
    sides = [lambda: time.sleep(0.02), lambda: time.sleep(0.06)]
    row = bench.compare("sleep", *sides, shares=(4, 2), repeats=3)
    for ours, plain, ratio in zip(row.ours, row.plain, row.results, strict=True):
        assert ours == pytest.approx(0.005, rel=0.5)
        assert plain == pytest.approx(0.03, rel=0.5)
        assert ratio == pytest.approx(plain / ours)


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (("≥", 3.0), True),
        (("≥", 3.1), False),
        (("≤", 3.0), True),
        (("≤", 2.9), False),
        (None, None),
    ],
)
def test_the_median_is_judged(target, met):
    summary = bench.summarise(
        bench.Row("x", "s", [1, 2, 9], [4, 5, 6], [1.0, 100.0, 3.0], "×", target)
    )
    assert (summary["median"], summary["low"], summary["high"]) == (3.0, 1.0, 100.0)
    assert (summary["median_ours"], summary["median_plain"]) == (2.0, 5.0)
    assert summary.get("met") is met


def test_work_is_counted_as_by_hand():
    a, b = torch.ones(3, 5), torch.ones(5, 7)
    flops, moved = bench.count_work(lambda: a.T.contiguous().view(3, 5) @ b)
    assert flops == 2 * 3 * 5 * 7
    # the copy reads and writes; transposing and viewing do nothing
    assert moved == 4 * (2 * 15 + 15 + 35 + 21)
    _, moved = bench.count_work(lambda: torch.empty(100).fill_(1.0))
    assert moved == 4 * 200  # in place: read and written
    _, moved = bench.count_work(lambda: torch._foreach_add_([torch.ones(5), torch.ones(7)], 1.0))
    assert moved == 4 * 12 * (1 + 2)  # made; then read and written, though nothing is returned
    out = torch.empty(3, 7)
    _, moved = bench.count_work(lambda: torch.mm(a.T.contiguous().view(3, 5), b, out=out))
    assert moved == 4 * (2 * 15 + 15 + 35 + 21)
    maps, columns = np.ones((1, 6, 6 * 5), np.float32), np.empty((3, 3, 1, 4, 4 * 5), np.float32)
    # compiled: PyTorch does not see it
    _, moved = bench.count_work(lambda: kernels.unfold(maps, columns))
    assert moved == 4 * 5 * (36 + 9 * 16)


def test_both_steps_count_the_layers_of_the_network(made_up):
    """Forward each layer's products; backward twice that, but once for the first layer: images need
    no gradient.
    """
    layers = {"conv1": 6 * 25 * 576, "conv2": 16 * 150 * 64, "dense": 256 * 64 + 64 * 64 + 64}
    by_hand = 2 * 48 * (2 * layers["conv1"] + 3 * layers["conv2"] + 3 * layers["dense"])
    run = bench.list_runs(SIZES)[0]
    flops, _ = bench.count_work(bench.prepare_plain(run, made_up))
    assert flops == by_hand
    (chunk,) = bench.prepare_chunks([run], made_up)
    ours, _ = bench.count_work(chunk.train_epoch)
    # 6×6 patches hold 36/25 of a kernel's work.
    patched = (
        2 * 48 * (2 * layers["conv1"] * 1.44 + 3 * layers["conv2"] * 1.44 + 3 * layers["dense"])
    )
    assert ours == pytest.approx(patched)


def test_slope_is_that_of_a_power_law(monkeypatch):
    seconds = {1: 0.5, 2: 1.0, 4: 2.0}  # linear
    monkeypatch.setattr(bench, "prepare_chunks", lambda runs, data: len(runs))
    monkeypatch.setattr(bench, "train_together", lambda pool, count: count)
    monkeypatch.setattr(bench, "_time", lambda function: seconds[function()])
    row = bench._fit_growth("models", [1, 2, 4], [[{}] * n for n in seconds], None, 3)
    assert row.results == pytest.approx([1.0] * 3)
    monkeypatch.setattr(bench, "_time", lambda function: seconds[function()] ** 2)
    assert bench._fit_growth(
        "models", [1, 2, 4], [[{}] * n for n in seconds], None, 2
    ).results == pytest.approx([2, 2])


def test_peak_memory_is_that_of_the_other_process():
    held = np.ones(2**26)  # 512 MiB here, which must not count
    peak = bench.measure_peak(exec, "import time; held = bytearray(b'x') * 2**28; time.sleep(0.5)")
    assert 2**28 < peak < 2**28 + held.nbytes / 2
    with pytest.raises(RuntimeError, match="exit status"):
        bench.measure_peak(exec, "raise SystemExit(3)")


def test_the_share_of_others_leaves_oneself_out(monkeypatch):
    monkeypatch.setattr(bench.psutil, "cpu_count", lambda: 4)
    readings = iter([(10.0, 100.0, 5.0), (12.0, 107.0, 8.0)])  # wall, all busy, own
    monkeypatch.setattr(bench.Watch, "_read", staticmethod(lambda: next(readings)))
    assert bench.Watch().others() == (7 - 3) / (2 * 4)


def test_own_work_is_seen():
    wall, busy, own = bench.Watch._read()
    deadline = time.process_time() + 0.2
    while time.process_time() < deadline:
        pass
    now = bench.Watch._read()
    assert 0.15 < now[2] - own <= now[0] - wall + 0.05
    assert now[1] - busy > 0.1  # the system counts in hundredths of a second


def test_import_loads_nothing_heavy():
    seconds, loaded = bench.bench_import(SIZES)
    assert len(seconds.ours) == len(seconds.plain) == len(seconds.results) == 3
    assert loaded.results == [0.0]


def test_the_command_writes_json_and_table_and_keeps_other_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        bench.PARTS, "growth", lambda sizes: [bench.Row("g|h", "s", [sizes.repeats])]
    )
    monkeypatch.setitem(bench.PARTS, "study", lambda sizes: [])
    assert (
        bench.main(["--profile", "smoke", "--only", "evaluation,growth,study", "--repeats", "2"])
        == 0
    )
    report = json.loads((tmp_path / "data" / "bench.json").read_text())
    assert list(report["parts"]) == ["evaluation", "growth", "study"]
    (row,) = report["parts"]["evaluation"]["rows"]
    assert len(row["ours"]) == len(row["plain"]) == 2
    assert report["parts"]["evaluation"]["config"]["repeats"] == 2
    assert "commit" in report["parts"]["evaluation"]["provenance"]
    monkeypatch.setitem(
        bench.PARTS,
        "grid",
        lambda sizes: [bench.Row("slow", "s", [2], [2], [1.0], "×", ("≥", 3.0))],
    )
    # a missed target is no failure
    assert bench.main(["--profile", "smoke", "--only", "grid"]) == 0
    assert next(iter(json.loads((tmp_path / "data" / "bench.json").read_text())["parts"])) == "grid"
    lines = (tmp_path / "table_bench.md").read_text().splitlines()
    assert lines[2] == "| slow | 2 s | 2 s | 1 × | – | ≥ 3 × | no |"
    assert lines[4] == r"| g\|h | 2 s | – | – | – | – | – |"
    assert "grid: " in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "grit"], "Did you mean 'grid'"),
        (["--profile", "labtop"], "Did you mean 'laptop'"),
        (["--profile", "smoke", "--repeats", "0"], "repeats"),
    ],
)
def test_bad_input_is_named(arguments, message, capsys):
    assert bench.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_smoke_results_stay_under_build(monkeypatch):
    monkeypatch.delenv("SYMPO_FIGURES")
    assert bench.measure(SIZES, []) == profiles.root() / "build/smoke/figures/data/bench.json"


@pytest.mark.parametrize("name", ["grid", "growth", "roofline"])
def test_parts_run_and_sample_every_repeat(name):
    """On a processor, or on CUDA where there is one."""
    for row in map(bench.summarise, bench.PARTS[name](SIZES)):
        for samples in filter(None, (row["ours"], row["plain"], row["results"])):
            assert np.isfinite(samples).all()
            assert len(samples) == (1 if row["unit"] in ("GFLOP", "GB") else SIZES.repeats)
        assert min(row["ours"]) > 0
        assert ("met" in row) == (name != "roofline")


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_every_profile_has_sizes(profile, monkeypatch):
    monkeypatch.setattr(profiles, "read_profile", READ_PROFILE)
    sizes = profiles.section_config(bench.BenchConfig, "bench", profile)
    assert profile == "smoke" or sizes.repeats >= 5
    assert len(bench.list_runs(sizes)) == len(sizes.losses) * len(sizes.noise_rates)


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_the_benchmarked_sweep_is_what_trl_has_of_the_study(profile, monkeypatch):
    monkeypatch.setattr(profiles, "read_profile", READ_PROFILE)
    runs = bench._list_gold_runs(profiles.section_config(bench.BenchConfig, "bench", profile))
    assert {run["method"] for run in runs} == {"dpo", "rdpo"}
    assert {run["noise_rate"] for run in runs} == set(
        profiles.study_config("gold", profile).noise_rates
    )


@pytest.mark.parametrize(("method", "noise_rate"), [("dpo", 0.0), ("rdpo", 0.4)])
def test_plain_trl_and_the_sweep_train_the_same_policy(method, noise_rate, tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "read_profile", READ_PROFILE)
    runs = profiles.study_config("gold", "smoke", methods=[method], noise_rates=[noise_rate]).runs()
    run = next(run for run in runs if run["method"] == method and run["beta"] == 0.1)
    world = gold.build_world(run)
    pairs = preferences.flip_preferences(world.train, noise_rate, seed=run["seed"])
    world.model.save_pretrained(tmp_path)
    ours = align.train_run(run, world, pairs)["metrics"]
    plain = bench.train_plain_policy(run, world, pairs, str(tmp_path))
    assert ours["kl"] > 1e-3
    for name in ("kl", "win_rate", "reward", "length"):
        assert plain[name] == pytest.approx(ours[name], rel=0.01), name
    # TRL takes the mean over batches, of which the last is smaller
    for name in ("accuracy", "margin"):
        assert plain[name] == pytest.approx(ours[name], abs=0.05), name


def test_plain_steps_are_as_many_and_reach_the_same_loss(monkeypatch):
    monkeypatch.setattr(
        profiles, "read_profile", lambda profile: {**READ_PROFILE(profile), "bench": SECTION}
    )
    *speeds, loss = bench.bench_step(SIZES)
    # TRL's defaults are what is judged
    assert [speed.target is None for speed in speeds] == [False, True]
    for speed in speeds:
        assert len(speed.ours) == len(speed.plain) == len(speed.results) == SIZES.repeats
        assert speed.results == pytest.approx(np.divide(speed.ours, speed.plain))
    assert loss.ours == pytest.approx([loss.ours[0]] * SIZES.repeats)  # every repeat starts anew
    assert loss.ours == pytest.approx(loss.plain, rel=1e-3)
    assert loss.ours[0] != pytest.approx(np.log(2), abs=1e-5)  # it moved
