"""Verdicts on stored answers: asked once, in both orders, kept through failures, and at a price."""

import json
import sys
from io import StringIO

import pytest
from loopback import KEY, longer_wins, shown

from sympo import __main__ as command
from sympo.judge import EndpointJudge, compare, write_question
from sympo.stats import wilson
from sympo.studies import plan, profiles, records
from sympo.studies.alignment import judging, offline
from sympo.studies.records import Result

PROMPTS = 9


@pytest.fixture(autouse=True)
def build(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    return tmp_path


@pytest.fixture
def config():
    return profiles.study_config("hh", "smoke")


@pytest.fixture
def runs(config):
    """Records of every policy of the config: its answers are longer than the chosen ones."""
    folder = plan.records_folder("smoke")
    for run in [*config.runs(), *config.probe_runs()]:
        rows = [
            {
                "prompt": f"and {i}?",
                "dialogue": [{"role": "user", "content": f"and {i}?"}],
                "policy": f"{run.method}, {run.noise}, seed {run.seed}: {i}",
                "sft": f"{i} long " * 9,
                "chosen": f"{i}",
            }
            for i in range(PROMPTS)
        ]
        metrics = {"generations": rows, "validation": 0.5}
        records.save(
            run, Result(metrics, []), folder=folder, version=offline.VERSION, provenance={}
        )
    return offline.load_shared(config)


@pytest.fixture
def server(endpoint):
    """An endpoint for which the longer answer is the better one."""
    return endpoint(longer_wins)


def make_contest(runs, build, *, opponent="chosen", model="m"):
    (contest, *_) = judging.list_contests(runs, opponent, EndpointJudge(model), build / "judged")
    return contest


def judge_all(contest, limit=None, **options):
    """How many pairs were asked about."""
    waiting = len(contest.list_waiting(limit))
    judging.judge_policy(contest, EndpointJudge("m", retries=0, **options), limit)
    return waiting


def count_requests(server):
    return sum(server.tries.values())


def test_policies_are_those_at_the_shared_setting(config, runs):
    shared = [run.config() for run in config.runs() if run.beta == config.beta]
    assert [record["config"] for record in runs] == shared
    assert len(shared) < len([*config.runs(), *config.probe_runs()])


def test_every_pair_is_asked_about_once_and_in_both_orders(runs, build, server):
    contest = make_contest(runs, build)
    assert judge_all(contest) == PROMPTS
    assert count_requests(server) == 2 * PROMPTS
    assert judge_all(contest) == 0
    assert count_requests(server) == 2 * PROMPTS
    rows = contest.record["metrics"]["generations"]
    columns = [[row[name] for row in rows] for name in ("dialogue", "policy", "chosen")]
    expected = compare(EndpointJudge("m"), *columns)
    said = judging.summarise(contest)
    assert said["win_rate"] == expected.win_rate.estimate == 1
    assert said["win_rate_low"] == wilson(PROMPTS, PROMPTS).low
    assert (said["judged"], said["unparsed"], said["win_rate_second"]) == (PROMPTS, 0, 1)
    # against the SFT model's long answers the same policy loses
    other = make_contest(runs, build, opponent="sft")
    judge_all(other)
    assert judging.summarise(other)["win_rate"] == 0


def test_a_failure_costs_nothing_that_came(runs, build, endpoint):
    down = (503, {}, b"{}")
    server = endpoint(lambda q, _: longer_wins(q) if count_requests(server) <= 8 else down)
    contest = make_contest(runs, build)
    with pytest.raises(ConnectionError):
        judge_all(contest, workers=1)
    assert judging.summarise(contest)["judged"] == 4
    server.behave = longer_wins
    before = count_requests(server)
    assert judge_all(contest) == PROMPTS - 4
    assert count_requests(server) - before == 2 * (PROMPTS - 4)
    assert judging.summarise(contest)["judged"] == PROMPTS


def test_half_a_pair_is_no_pair_and_its_other_half_is_all_that_is_asked(runs, build, endpoint):
    down = (503, {}, b"{}")
    # the policy's answer is the longer one: silent where it is shown second
    server = endpoint(lambda q, _: longer_wins(q) if len(shown(q)[0]) > 9 else down)
    contest = make_contest(runs, build)
    judge_all(contest, give_up=99)
    assert judging.summarise(contest)["judged"] == 0
    judge = EndpointJudge("m")
    assert judging.estimate_cost([contest], judge).requests == PROMPTS
    server.behave = longer_wins
    assert judge_all(contest) == PROMPTS
    assert sorted(server.tries.values()) == [1] * PROMPTS + [2] * PROMPTS
    assert judging.summarise(contest)["judged"] == PROMPTS


def test_a_limit_takes_the_first_prompts_and_a_larger_one_goes_on(runs, build, server):
    contest = make_contest(runs, build)
    assert judge_all(contest, 2) == 2
    assert judge_all(contest, 2) == 0
    assert contest.list_waiting() == contest.list_pairs()[2:]
    assert judge_all(contest) == PROMPTS - 2


def test_replies_belong_to_what_was_asked_and_to_who_was(runs, build, server):
    contest = make_contest(runs, build)
    judge_all(contest)
    contest.record["metrics"]["generations"][1]["policy"] = "trained anew"
    assert [pair.policy for pair in contest.list_waiting()] == ["trained anew"]
    assert judging.summarise(contest)["judged"] == PROMPTS - 1
    assert len(make_contest(runs, build, model="another").list_waiting()) == PROMPTS
    (found,) = judging.find_contests(contest.record, build / "judged")
    assert (found.opponent, found.judge, found.path) == (
        "chosen",
        EndpointJudge("m").identity,
        contest.path,
    )


def test_a_reply_that_never_came_is_asked_for_again_and_an_odd_one_is_not(runs, build, endpoint):
    down = (503, {"Retry-After": "0.01"}, b"{}")
    said = {"0": "They are both fine.", "1": down, "2": (400, {}, b"{}")}
    server = endpoint(lambda q, _: said.get(min(shown(q), key=len), longer_wins(q)))
    contest = make_contest(runs, build)
    judge_all(contest)
    summary = judging.summarise(contest)
    assert (summary["judged"], summary["unparsed"], summary["win_rate"]) == (PROMPTS - 1, 2, 1)
    assert contest.list_judged() == [i for i in range(PROMPTS) if i != 1]
    assert [pair.opponent for pair in contest.list_waiting()] == ["1"]
    del said["1"]
    assert judge_all(contest) == 1
    assert contest.list_judged() == list(range(PROMPTS))
    assert judging.summarise(contest)["unparsed"] == 2
    assert max(server.tries.values()) == 2
    assert KEY not in contest.path.read_text()


def test_two_processes_keep_what_either_paid_for(runs, build, endpoint):
    def ask_beside(question, tries):
        # while this one waits for its first reply, another process judges everything
        server.behave = longer_wins
        judge_all(contest)
        return 0.0

    server = endpoint(ask_beside)
    contest = make_contest(runs, build)
    judge_all(contest, workers=1)
    assert contest.list_judged() == list(range(PROMPTS))
    assert judging.summarise(contest)["win_rate"] == 1
    judge_lines = [line for line in contest.path.read_text().splitlines() if '"judge"' in line]
    assert len(judge_lines) == 1


def test_a_judge_without_a_verdict_has_no_win_rate(runs, build, endpoint):
    endpoint(lambda *_: "I cannot say.")
    contest = make_contest(runs, build)
    judge_all(contest)
    said = judging.summarise(contest)
    assert said["unparsed"] == PROMPTS
    assert said["win_rate"] != said["win_rate"]


def test_a_judge_that_always_takes_the_second_shows_it(runs, build, endpoint):
    endpoint(lambda *_: "Verdict: B")
    contest = make_contest(runs, build)
    judge_all(contest)
    said = judging.summarise(contest)
    # asked as the paper asks, the policy would win everything
    assert (said["win_rate"], said["win_rate_second"]) == (0.5, 1)
    assert (said["swayed"], said["position_bias"]) == (1, -0.5)


def test_a_damaged_file_is_one_sentence(runs, build, server):
    contest = make_contest(runs, build)
    judge_all(contest)
    contest.path.write_text("{}\n")
    with pytest.raises(ValueError, match="line 1 is no reply of a judge: move"):
        contest.list_waiting()


def test_the_cost_is_that_of_the_questions(runs, build, server):
    contests = judging.list_contests(runs, "chosen", EndpointJudge("m"), build / "judged")
    cost = judging.estimate_cost(contests, EndpointJudge("m"), 3)
    questions = [
        write_question(row["dialogue"], *pair)
        for record in runs
        for row in record["metrics"]["generations"][:3]
        for pair in ((row["policy"], row["chosen"]), (row["chosen"], row["policy"]))
    ]
    assert cost.requests == len(questions)
    assert cost.read == sum(map(len, questions)) / 4
    assert cost.written == 16 * len(questions)
    expected = cost.read / 1e6 * 0.15 + cost.written / 1e6 * 0.6
    assert cost.price((0.15, 0.6)) == pytest.approx(expected)
    judge_all(contests[0], 3)
    assert judging.estimate_cost(contests, EndpointJudge("m"), 3).requests == len(questions) - 6


# The command


def run_judge(*arguments):
    return command.main(["judge", "hh", "--profile=smoke", *arguments])


def test_nothing_is_asked_before_it_is_confirmed(runs, endpoint, capsys, monkeypatch):
    server = endpoint(longer_wins)
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))  # no terminal
    assert run_judge("--prices", "0.15", "0.6") == 2
    shown = capsys.readouterr()
    requests = 2 * PROMPTS * len(runs)
    assert f"{len(runs)} policies against chosen, judged by gpt-4o-mini\n{requests} re" in shown.out
    assert "at these prices 0.00" in shown.out
    assert shown.err == "nothing was asked: answer y, or give --yes\n"
    assert not server.tries


def test_a_person_who_says_yes_is_obeyed(runs, endpoint, monkeypatch):
    server = endpoint(longer_wins)
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert run_judge("--limit=1") == 0
    assert count_requests(server) == 2 * len(runs)


def test_the_end_of_the_input_means_no(runs, endpoint, capsys, monkeypatch):
    server = endpoint(longer_wins)
    monkeypatch.setattr(sys, "stdin", StringIO(""))  # Ctrl-D
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert run_judge() == 2
    assert "nothing was asked" in capsys.readouterr().err
    assert not server.tries


def test_an_address_that_is_none_is_one_sentence(runs, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://[::1/v1")
    assert run_judge("--yes") == 2
    assert capsys.readouterr().err.startswith("OPENAI_BASE_URL is no address")


def test_the_command_judges_once_and_says_what_came_out(runs, build, endpoint, capsys):
    server = endpoint(longer_wins)
    assert run_judge("--yes") == 0
    shown = capsys.readouterr().out
    assert shown.count("against chosen: win rate 1.000") == len(runs)
    asked = count_requests(server)
    assert asked == 2 * PROMPTS * len(runs)
    # nothing is left, so that nobody has to confirm it
    assert run_judge() == 0
    assert count_requests(server) == asked
    texts = [path.read_text() for path in (build / "smoke" / "judged").iterdir()]
    assert len(texts) == len(runs)
    assert not any(KEY in text for text in [shown, *texts])
    heads = [json.loads(text.partition("\n")[0]) for text in texts]
    assert {head["judge"]["model"] for head in heads} == {"gpt-4o-mini"}
    total = 2 * PROMPTS
    assert shown.count(f"{total} of {total} replies, ") == len(runs)


def test_a_dead_endpoint_leaves_what_was_judged(runs, build, endpoint, capsys):
    down = (503, {"Retry-After": "0.01"}, b"{}")
    # nothing is answered about the second policy
    second = runs[1]["metrics"]["generations"][0]["policy"].partition(":")[0]
    server = endpoint(lambda q, _: down if second in q else longer_wins(q))
    assert run_judge("--yes") == 1
    assert "left 8 requests in a row without a reply" in capsys.readouterr().err
    files = sorted((build / "smoke" / "judged").iterdir())
    # the first line names the judge
    assert sorted(len(path.read_text().splitlines()) - 1 for path in files) == [0, 2 * PROMPTS]
    server.behave = longer_wins
    assert run_judge("--yes") == 0
    first = runs[0]["metrics"]["generations"][0]["policy"]
    assert all(tries == 1 for question, tries in server.tries.items() if first in question)


def test_without_records_it_is_one_sentence(capsys):
    assert run_judge("--yes") == 2
    assert "no seed of hh with these settings is complete" in capsys.readouterr().err


def test_without_a_key_it_is_one_sentence(runs, endpoint, capsys, monkeypatch):
    endpoint(longer_wins)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert run_judge("--yes") == 2
    assert capsys.readouterr().err.startswith("OPENAI_API_KEY is not set")


def test_without_the_package_it_says_what_to_install(runs, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    assert run_judge("--yes") == 2
    assert "pip install 'sympo[judge]'" in capsys.readouterr().err
