"""Benchmarks: both sides do the same work, work is counted right, the report is faithful."""

import json
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from sympo import preferences
from sympo.book.bench import functions, grid, growth, policies, report, roofline, timing
from sympo.book.bench.__main__ import main
from sympo.book.bench.config import BenchConfig
from sympo.book.bench.timing import Row
from sympo.studies import mnist, profiles, sources
from sympo.studies.alignment import gold, sweep
from sympo.studies.mnist import network
from sympo.studies.mnist.fast import chunks, kernels
from sympo.studies.mnist.study import count_workers, open_pool

SECTION = {
    "repeats": 3,
    "losses": ["logistic", "ramp"],
    "noise_rates": [0.0, 0.4],
    "pairs": 24,
    "batch": 24,
    "plain_models": 1,
    "test_images": 10,
    "growth_models": [1, 2],
    "growth_pairs": [12, 24],
    "matmul_size": 16,
    "copy_mib": 1,
    "gold_seeds": 1,
    "step_pairs": 192,
}
READ_PROFILE = profiles.read_profile
SIZES = BenchConfig(study="bench", profile="smoke", **SECTION)


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path, random_mnist):
    """Random images in place of MNIST, a profile with tiny benchmarks, a folder for the report."""
    images = random_mnist(100, 20)
    monkeypatch.setattr(sources, "mnist", lambda: images)
    monkeypatch.setattr(profiles, "read_profile", lambda profile: {"bench": SECTION})
    monkeypatch.setenv("SYMPO_FIGURES", str(tmp_path))
    # the textbook's convolutions, on a GPU
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return images


class TestTiming:
    def test_functions_take_turns_after_a_call_of_each(self):
        calls = []
        sides = [lambda: calls.append("ours"), lambda: calls.append("plain")]
        times = timing.time_in_turn(sides, repeats=3)
        assert calls == ["ours", "plain"] + ["ours", "plain"] * 3
        assert [len(column) for column in times] == [3, 3]

    def test_the_ratio_is_paired_and_per_model(self):
        sides = [lambda: time.sleep(0.02), lambda: time.sleep(0.06)]
        row = timing.compare("sleep", *sides, shares=(4, 2), repeats=3)
        for ours, plain, ratio in zip(row.ours, row.plain, row.results, strict=True):
            assert ours == pytest.approx(0.005, rel=0.5)
            assert plain == pytest.approx(0.03, rel=0.5)
            assert ratio == pytest.approx(plain / ours)

    def test_peak_memory_is_that_of_the_other_process(self):
        held = np.ones(2**26)  # 512 MiB here, which must not count
        code = "import time; held = bytearray(b'x') * 2**28; time.sleep(0.5)"
        peak = timing.measure_peak(exec, code)
        assert 2**28 < peak < 2**28 + held.nbytes / 2
        with pytest.raises(RuntimeError, match="exit status"):
            timing.measure_peak(exec, "raise SystemExit(3)")

    def test_the_share_of_others_leaves_oneself_out(self, monkeypatch):
        monkeypatch.setattr(timing.psutil, "cpu_count", lambda: 4)
        readings = iter([(10.0, 100.0, 5.0), (12.0, 107.0, 8.0)])  # wall, all busy, own
        monkeypatch.setattr(timing.Watch, "_read", staticmethod(lambda: next(readings)))
        assert timing.Watch().others() == (7 - 3) / (2 * 4)

    def test_own_work_is_seen(self):
        wall, busy, own = timing.Watch._read()
        deadline = time.process_time() + 0.2
        while time.process_time() < deadline:
            pass
        now = timing.Watch._read()
        assert 0.15 < now[2] - own <= now[0] - wall + 0.05
        assert now[1] - busy > 0.1  # the system counts in hundredths of a second


class TestGrid:
    @pytest.mark.nightly
    def test_both_sides_train_the_same_models(self, data, monkeypatch):
        """With the batch of all pairs, whose order means nothing, and with dropout off."""

        def keep_all(images, generator):
            return torch.ones(384, images)

        monkeypatch.setattr(chunks, "draw_masks", keep_all)
        monkeypatch.setattr(network, "DROPOUT", 0.0)
        runs = grid.list_runs(SIZES)
        expected = {(name, rate) for name in ("logistic", "ramp") for rate in (0, 0.4)}
        assert {(run.method, run.rate_pos) for run in runs} == expected
        device = timing.device()
        ordered = chunks.list_chunks(runs, workers=count_workers(device), device=device)
        plain = [grid.prepare_plain(run, data) for chunk in ordered for run in chunk]
        together = grid.prepare_chunks(runs, data)
        seen = []
        with open_pool(device) as pool:
            for _ in range(4):
                trained = grid.train_together(pool, together)
                risks = torch.cat([risk for risk, _ in trained])
                fitted = torch.cat([labels.float().mean(1) for _, labels in trained])
                ours = torch.stack([risks, fitted], 1).cpu()
                (steps,) = zip(*[train() for train in plain], strict=True)
                torch.testing.assert_close(ours, torch.tensor(steps), rtol=2e-4, atol=2e-5)
                seen.append(risks)
        assert (seen[-1] < seen[0] - 0.01).all()  # they moved

    def test_both_sides_evaluate_the_same_rewards(self, data):
        (chunk,) = grid.prepare_chunks(grid.list_runs(SIZES)[:1], data)
        device = timing.device()
        images = torch.from_numpy(data.test_images).to(device)
        ours = mnist.evaluate_rewards(chunk.grid, images[None])
        textbook = mnist.initial_network(0).to(device)
        plain = grid.evaluate_plainly(textbook, grid.to_floats(data.test_images).to(device))
        torch.testing.assert_close(ours[0], plain)
        assert not textbook.training

    def test_the_plain_loop_visits_every_pair_in_batches(self, data):
        steps = grid.prepare_plain(replace(grid.list_runs(SIZES)[0], batch=10), data)()
        assert len(steps) == 3
        for (_, accuracy), size in zip(steps, (10, 10, 4), strict=True):
            assert round(accuracy * size, 4) % 1 == 0

    def test_slope_is_that_of_a_power_law(self, monkeypatch):
        seconds = {1: 0.5, 2: 1.0, 4: 2.0}  # linear
        monkeypatch.setattr(grid, "prepare_chunks", lambda runs, data: len(runs))
        monkeypatch.setattr(grid, "train_together", lambda pool, count: count)
        monkeypatch.setattr(timing, "time_call", lambda function: seconds[function()])
        runs = [[None] * count for count in seconds]
        row = growth.fit_growth([1, 2, 4], runs, None, repeats=3)
        assert row.results == pytest.approx([1.0] * 3)
        monkeypatch.setattr(timing, "time_call", lambda function: seconds[function()] ** 2)
        row = growth.fit_growth([1, 2, 4], runs, None, repeats=2)
        assert row.results == pytest.approx([2, 2])


class TestWork:
    def test_is_counted_as_by_hand(self):
        a = torch.ones(3, 5)
        b = torch.ones(5, 7)
        flops, moved = roofline.count_work(lambda: a.T.contiguous().view(3, 5) @ b)
        assert flops == 2 * 3 * 5 * 7
        # the copy reads and writes; transposing and viewing do nothing
        assert moved == 4 * (2 * 15 + 15 + 35 + 21)
        product = partial(torch.mm, out=torch.empty(3, 7))
        _, moved = roofline.count_work(lambda: product(a.T.contiguous().view(3, 5), b))
        assert moved == 4 * (2 * 15 + 15 + 35 + 21)

    def test_in_place_counts_twice(self):
        _, moved = roofline.count_work(lambda: torch.empty(100).fill_(1.0))
        assert moved == 4 * 200
        add = torch._foreach_add_
        _, moved = roofline.count_work(lambda: add([torch.ones(5), torch.ones(7)], 1.0))
        # filled; then read and written, though nothing is returned
        assert moved == 4 * 12 * (1 + 2)

    def test_of_compiled_loops_counts_though_pytorch_does_not_see_it(self):
        maps = np.ones((6, 12, 12 * kernels.TILE), np.float32)
        weights = np.ones((4, 6, 5, 5, 4), np.float32)
        bias = np.ones(16, np.float32)
        sums = np.empty((4, 16, 4 * kernels.TILE), np.float32)
        pooled = np.empty((16, 4, 4 * kernels.TILE), np.float32)
        winners = np.empty(pooled.shape, np.uint8)
        arrays = (maps, weights, bias, sums, pooled, winners)
        _, moved = roofline.count_work(lambda: kernels.convolve(*arrays))
        assert moved == sum(array.nbytes for array in arrays)

    def test_of_both_steps_is_that_of_the_networks_layers(self, data):
        """Forward each layer's products; backward twice that.

        But once for the first layer: images need no gradient.
        """
        layers = {"conv1": 6 * 25 * 576, "conv2": 16 * 150 * 64, "dense": 256 * 64 + 64 * 64 + 64}
        convolutions = 2 * layers["conv1"] + 3 * layers["conv2"]
        run = grid.list_runs(SIZES)[0]
        flops, _ = roofline.count_work(grid.prepare_plain(run, data))
        assert flops == 2 * 48 * (convolutions + 3 * layers["dense"])
        (chunk,) = grid.prepare_chunks([run], data)
        ours, _ = roofline.count_work(chunk.train_epoch)
        forward = layers["conv1"] + layers["conv2"] + 3 * layers["dense"]
        # Backwards at most one place of each pooling window in four has a gradient.
        backward = (layers["conv1"] + 2 * layers["conv2"]) / 4
        assert 2 * 48 * forward < ours < 2 * 48 * (forward + backward)


class TestReport:
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
    def test_the_median_is_judged(self, target, met):
        row = Row("x", "s", [1, 2, 9], [4, 5, 6], [1.0, 100.0, 3.0], "×", target)
        summary = report.summarise(row)
        assert (summary["median"], summary["low"], summary["high"]) == (3.0, 1.0, 100.0)
        assert (summary["median_ours"], summary["median_plain"]) == (2.0, 5.0)
        assert summary.get("met") is met

    def test_the_command_writes_json_and_table_and_keeps_other_parts(
        self, tmp_path, monkeypatch, capsys
    ):
        def count(sizes):
            return [Row("g|h", "s", [sizes.repeats])]

        monkeypatch.setitem(report.PARTS, "growth", count)
        monkeypatch.setitem(report.PARTS, "study", lambda sizes: [])
        only = ["--only", "evaluation,growth,study", "--repeats", "2"]
        assert main(["--profile", "smoke", *only]) == 0
        parts = json.loads((tmp_path / "data" / "bench.json").read_text())["parts"]
        assert list(parts) == ["evaluation", "growth", "study"]
        (row,) = parts["evaluation"]["rows"]
        assert len(row["ours"]) == len(row["plain"]) == 2
        assert parts["evaluation"]["config"]["repeats"] == 2
        assert "commit" in parts["evaluation"]["provenance"]
        slow = Row("slow", "s", [2], [2], [1.0], "×", ("≥", 3.0))
        monkeypatch.setitem(report.PARTS, "grid", lambda sizes: [slow])
        # a missed target is no failure
        assert main(["--profile", "smoke", "--only", "grid"]) == 0
        parts = json.loads((tmp_path / "data" / "bench.json").read_text())["parts"]
        assert next(iter(parts)) == "grid"
        lines = (tmp_path / "table_bench.md").read_text().splitlines()
        assert lines[2] == "| slow | 2 s | 2 s | 1 × | – | ≥ 3 × | no |"
        assert lines[4] == r"| g\|h | 2 s | – | – | – | – | – |"
        assert "grid: " in capsys.readouterr().out
        assert not list(tmp_path.rglob("*.csv"))

    def test_the_committed_table_is_that_of_the_committed_samples(self, tmp_path, repository):
        committed = repository / "figures/laptop"
        parts = json.loads((committed / "data/bench.json").read_text(encoding="utf-8"))["parts"]
        assert set(parts) <= set(report.PARTS)
        report.write_report(parts, tmp_path / "data" / "bench.json")
        for name in ("table_bench.md", "data/bench.json"):
            assert (tmp_path / name).read_bytes() == (committed / name).read_bytes()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--only", "grit"], "Did you mean 'grid'"),
            (["--profile", "labtop"], "Did you mean 'laptop'"),
            (["--profile", "smoke", "--repeats", "0"], "repeats"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message, capsys):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

    def test_parts_are_committed_when_asked_and_the_others_stay(self, tmp_path, monkeypatch):
        monkeypatch.setattr(profiles, "root", lambda: tmp_path)
        monkeypatch.delenv("SYMPO_FIGURES")
        row = timing.Row("what", "s", ours=[1.0], plain=[], results=[], result_unit="", target=None)
        monkeypatch.setattr(report, "PARTS", {"grid": lambda config: [row], "gold": None})
        sizes = SIZES.model_copy(update={"profile": "laptop"})
        committed = tmp_path / "figures/laptop/data/bench.json"
        old = report.measure_part(sizes, "grid")
        report.write_report({"gold": old, "grid": old}, committed)
        before = committed.read_bytes()
        path = report.measure(sizes, ["grid"])
        assert path == tmp_path / "build/laptop/figures/data/bench.json"
        assert set(report.read_parts(path)) == {"grid"}
        assert committed.read_bytes() == before
        assert report.commit_parts(path, ["grid"], profile="laptop") == committed
        assert report.read_parts(committed) == {**report.read_parts(path), "gold": old}

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--profile", "smoke"], "mean nothing"),
            (["--profile", "laptop", "--repeats", "1"], "an exercise"),
        ],
    )
    def test_what_is_no_evidence_is_not_committed(self, arguments, reason, monkeypatch, capsys):
        monkeypatch.delenv("SYMPO_FIGURES")
        monkeypatch.setattr("sympo.book.bench.__main__.measure", lambda *args: pytest.fail("began"))
        assert main([*arguments, "--only", "grid", "--commit"]) == 2
        assert reason in capsys.readouterr().err

    def test_smoke_results_stay_under_build(self, monkeypatch):
        monkeypatch.delenv("SYMPO_FIGURES")
        expected = profiles.root() / "build/smoke/figures/data/bench.json"
        assert report.measure(SIZES, []) == expected


def test_import_loads_nothing_heavy():
    seconds, loaded = functions.bench_import(SIZES)
    assert len(seconds.ours) == len(seconds.plain) == len(seconds.results) == 3
    assert loaded.results == [0.0]


@pytest.mark.parametrize("name", ["grid", "growth", "roofline", "functions"])
def test_parts_run_and_sample_every_repeat(name):
    """On a processor, or on CUDA where there is one."""
    for row in map(report.summarise, report.PARTS[name](SIZES)):
        for samples in filter(None, (row["ours"], row["plain"], row["results"])):
            assert np.isfinite(samples).all()
            assert len(samples) == (1 if row["unit"] in ("GFLOP", "GB") else SIZES.repeats)
        assert min(row["ours"]) > 0
        assert ("met" in row) == (name in ("grid", "growth"))


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_every_profile_has_sizes(profile, monkeypatch):
    monkeypatch.setattr(profiles, "read_profile", READ_PROFILE)
    sizes = profiles.section_config(BenchConfig, "bench", profile)
    assert profile == "smoke" or sizes.repeats >= 5
    assert len(grid.list_runs(sizes)) == len(sizes.losses) * len(sizes.noise_rates)


class TestPolicies:
    @pytest.fixture(autouse=True)
    def studies(self, monkeypatch):
        """The profiles' own studies beside the tiny benchmarks."""

        def read(profile):
            return {**READ_PROFILE(profile), "bench": SECTION}

        monkeypatch.setattr(profiles, "read_profile", read)

    @pytest.mark.parametrize("profile", profiles.PROFILES)
    def test_the_sweep_is_what_trl_has_of_the_study(self, profile):
        section = READ_PROFILE(profile)["bench"]
        runs = policies.list_runs(BenchConfig(study="bench", profile=profile, **section))
        assert {run.method for run in runs} == {"dpo", "rdpo"}
        rates = profiles.study_config("gold", profile).noise_rates
        assert {run.noise_rate for run in runs} == set(rates)

    @pytest.mark.nightly
    @pytest.mark.parametrize(("method", "noise_rate"), [("dpo", 0.0), ("rdpo", 0.4)])
    def test_plain_trl_and_the_sweep_train_the_same_policy(self, method, noise_rate, tmp_path):
        changes = {"methods": [method], "noise_rates": [noise_rate]}
        runs = profiles.study_config("gold", "smoke", **changes).runs()
        run = next(run for run in runs if run.method == method and run.beta == 0.1)
        world = gold.build_world(run.world)
        pairs = preferences.flip_preferences(world.train, noise_rate, seed=run.seed)
        world.model.save_pretrained(tmp_path)
        ours = sweep.train_run(run, world, pairs).metrics
        plain = policies.train_plain_policy(run, world, pairs, str(tmp_path))
        assert ours["kl"] > 1e-3
        for name in ("kl", "win_rate", "reward", "length"):
            assert plain[name] == pytest.approx(ours[name], rel=0.01), name
        # TRL takes the mean over batches, of which the last is smaller
        for name in ("accuracy", "margin"):
            assert plain[name] == pytest.approx(ours[name], abs=0.05), name

    @pytest.mark.nightly
    def test_plain_steps_are_as_many_and_reach_the_same_loss(self):
        *speeds, loss = policies.bench_step(SIZES)
        # TRL's defaults are what is judged
        assert [speed.target is None for speed in speeds] == [False, True]
        for speed in speeds:
            assert len(speed.ours) == len(speed.plain) == len(speed.results) == SIZES.repeats
            assert speed.results == pytest.approx(np.divide(speed.ours, speed.plain))
        assert loss.ours == pytest.approx(
            [loss.ours[0]] * SIZES.repeats
        )  # every repeat starts anew
        assert loss.ours == pytest.approx(loss.plain, rel=1e-3)
        assert loss.ours[0] != pytest.approx(np.log(2), abs=1e-5)  # it moved
