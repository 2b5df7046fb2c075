"""Judges ask in both orders, and no verdict is no loss."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sympo.judge import (
    Comparison,
    ModelJudge,
    Reply,
    RewardJudge,
    compare,
    parse_verdict,
)

answers = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), min_size=1, max_size=12)
scores = st.sampled_from([1.0, 0.5, 0.0, None])


def scripted(forward, backward):
    """A judge that gives prepared scores: each pair's with a shown first, then with b."""
    scores = [score for pair in zip(forward, backward, strict=True) for score in pair]
    return lambda *_: [Reply(s, "" if s is not None else "mute") for s in scores]


def run(forward, backward) -> Comparison:
    blank = [""] * len(forward)
    return compare(scripted(forward, backward), blank, blank, blank)


# Both orders


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (1, 0, 1), (0, 1, 0), (0.5, 0.5, 0.5),  # both orders agree
        # the order decided
        (1, 1, 0.5), (0, 0, 0.5), (1, 0.5, 0.5), (0.5, 1, 0.5), (0, 0.5, 0.5), (0.5, 0, 0.5),
        (None, 0, None), (1, None, None), (None, None, None),
    ],
)  # fmt: skip
def test_a_win_is_a_win_in_both_orders(first, second, verdict):
    assert run([first], [second]).scores == [verdict]


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=20))
def test_missing_verdicts_are_neither_wins_nor_losses(replies):
    forward, backward = zip(*replies, strict=True)
    result = run(forward, backward)
    parsed = [pair for pair in replies if None not in pair]
    assert result.unparsed == len(replies) - len(parsed)
    mute = [*forward, *backward].count(None)
    assert result.missing == ({"mute": mute} if mute else {})
    if not parsed:
        assert math.isnan(result.position_bias)
        with pytest.raises(ValueError, match=r"no pair has a verdict.*mute"):
            result.win_rate  # noqa: B018
    else:
        alone = run(*zip(*parsed, strict=True))
        assert result.win_rate == alone.win_rate
        assert result.swayed == alone.swayed
        assert result.position_bias == alone.position_bias


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=20))
def test_naming_the_other_answer_a_turns_the_result_over(replies):
    forward, backward = zip(*replies, strict=True)
    ours = run(forward, backward)
    theirs = run(backward, forward)
    assert theirs.scores == [None if s is None else 1 - s for s in ours.scores]
    assert (theirs.swayed, theirs.unparsed) == (ours.swayed, ours.unparsed)
    if ours.parsed:
        assert theirs.position_bias == pytest.approx(ours.position_bias)
        assert theirs.win_rate.low == pytest.approx(1 - ours.win_rate.high)


def test_a_judge_that_always_takes_the_first_shows_as_bias_and_decides_nothing():
    result = run([1] * 7, [1] * 7)
    assert (result.scores, result.swayed, result.position_bias) == ([0.5] * 7, 7, 0.5)


def test_the_win_rate_is_the_wilson_interval_over_parsed_pairs():
    # 7 wins, 3 losses: the interval's published closed form, z = 1.96.
    result = run([1] * 7 + [0] * 3 + [None], [0] * 7 + [1] * 3 + [1])
    z = 1.959963984540054
    n = 10
    p = 0.7
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [p, (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n), n]
    assert list(result.win_rate) == pytest.approx(expected)


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 prompts, 1 answers_a and 2 answers_b"):
        compare(RewardJudge(len), ["", ""], ["a"], ["b", "c"])
    with pytest.raises(ValueError, match="1 replies for 2 pairs, each in both orders"):
        compare(lambda *_: [Reply(1.0)], ["", ""], ["a", "b"], ["b", "c"])


# Rewards


@given(answers)
def test_the_reward_judge_prefers_the_higher_reward_in_any_order(pairs):
    a, b = map(list, zip(*pairs, strict=True))
    result = compare(RewardJudge(len), [""] * len(a), a, b)
    assert result.scores == [(len(x) > len(y)) + (len(x) == len(y)) / 2 for x, y in pairs]
    assert (result.swayed, result.position_bias, result.unparsed) == (0, 0, 0)


def test_a_reward_that_is_not_a_number_is_no_verdict():
    result = compare(RewardJudge(float), ["", ""], ["nan", "1"], ["0", "inf"])
    assert (result.scores, result.missing) == ([None, 0], {"reward is NaN": 2})


CHAT = "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }} e {% endfor %}"


def tiny_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<pad>", "<unk>", "s", "u", "a", "e", *"bcdfghij"]
    vocabulary = {word: number for number, word in enumerate(known)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", chat_template=CHAT
    )


def tiny_model(**options):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    # With dropout, so that a judge in training mode would give itself away.
    config = LlamaConfig(
        vocab_size=14,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        attention_dropout=0.5,
        num_labels=1,
    )
    config.update(options)
    return LlamaForSequenceClassification(config).train()


@pytest.fixture(scope="module")
def reward_model():
    return ModelJudge(tiny_model(), tiny_tokenizer(), batch_size=3)


WORDS = ["b", "c d", "f g h i j b c", "", "j j", "h b"]


def test_the_model_judge_scores_a_batch_as_the_model_scores_each_dialogue(reward_model):
    prompts = ["b c", [{"role": "system", "content": "d"}, {"role": "user", "content": "b"}]] * 3
    scored = reward_model.score(prompts, WORDS)
    for prompt, answer, reward in zip(prompts, WORDS, scored, strict=True):
        written = "u b c e" if isinstance(prompt, str) else "s d e u b e"
        vocabulary = reward_model.tokenizer.get_vocab()
        ids = torch.tensor([[vocabulary[word] for word in f"{written} a {answer} e".split()]])
        with torch.no_grad():
            # The head on the last token, by hand: no padding, no dropout.
            hidden = reward_model.model.model(ids).last_hidden_state[0, -1]
        assert reward == pytest.approx(reward_model.model.score(hidden).item(), abs=1e-6)


def test_the_model_judge_is_blind_to_the_order(reward_model):
    result = compare(reward_model, ["b"] * 6, WORDS, WORDS[1:] + WORDS[:1])
    rewards = reward_model.score(["b"] * 6, WORDS)
    pairs = zip(rewards, rewards[1:] + rewards[:1], strict=True)
    assert result.scores == [float(first > second) for first, second in pairs]
    assert (result.swayed, result.position_bias) == (0, 0)


def test_a_dialogue_that_is_too_long_has_no_verdict_and_is_not_cut(reward_model):
    result = compare(reward_model, ["b", "b"], ["b " * 30, "c"], ["c", "b " * 18])
    assert result.scores[0] is None
    assert result.scores[1] is not None  # 24 tokens: just fits
    assert result.missing == {"too long": 2}


def test_a_saved_reward_model_loads_without_code_or_pickle(tmp_path, reward_model):
    reward_model.model.save_pretrained(tmp_path)
    reward_model.tokenizer.save_pretrained(tmp_path)
    loaded = ModelJudge.load(str(tmp_path))
    expected = reward_model.score(["b"] * 6, WORDS)
    assert loaded.score(["b"] * 6, WORDS) == pytest.approx(expected, abs=1e-6)
    (tmp_path / "model.safetensors").unlink()
    torch.save(reward_model.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        ModelJudge.load(str(tmp_path))


def test_a_revision_holds_for_the_tokenizer_as_well(tmp_path, reward_model, monkeypatch):
    # else transformers asks the hub about models of its own all the same, and waits for an answer
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--o--judge"
    first, second = "1" * 40, "2" * 40
    for revision, template in ((first, CHAT), (second, CHAT.replace("e", "j"))):
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = template
        reward_model.model.save_pretrained(repository / "snapshots" / revision)
        tokenizer.save_pretrained(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(second)
    place = {"cache_dir": tmp_path, "local_files_only": True}
    assert ModelJudge.load("o/judge", **place).tokenizer.chat_template != CHAT
    pinned = ModelJudge.load("o/judge", revision=first, **place)
    assert pinned.tokenizer.chat_template == CHAT


def test_a_model_or_tokenizer_that_cannot_judge_is_refused(reward_model):
    with pytest.raises(ValueError, match="one output, not 2"):
        ModelJudge(tiny_model(num_labels=2), reward_model.tokenizer)
    bare = tiny_tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="lacks a chat template"):
        ModelJudge(reward_model.model, bare)


# Replies of a language model


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Verdict: A", 1),
        ("verdict: b", 0),
        ("**Verdict: tie**", 0.5),
        ("A", 1),
        (" [[B]].\n", 0),
        ("Tie.", 0.5),
        ("Verdict: A or B", None),
        ("Verdict: C", None),
        ("A\nB", None),
        ("A is better because B is rude", None),
        ("I cannot judge this", None),
        ("Both", None),
        ("AB", None),
        ("", None),
        ("  \n", None),
        (None, None),
        ("Answer 1 says: Verdict: A\nVerdict: B", None),
        # an answer named as its tag is
        ("Verdict: answer_A", 1),
        ("Verdict: Answer B", 0),
        ("<answer_B>", 0),
        ("Verdict: answer tie", None),
        # reasoning is no part of the reply, whether or not the server gives its opening tag
        ("<think>\nVerdict: B? No.\n</think>\n\nVerdict: A", 1),
        ("B is short.</think>Verdict: tie", 0.5),
        ("<think>Verdict: A", None),
        ("<think>Verdict: A</think>", None),
    ],
)
def test_only_one_clear_verdict_is_read(text, score):
    assert parse_verdict(text).score == score
    assert (parse_verdict(text).reason == "") == (score is not None)
