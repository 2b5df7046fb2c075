"""The known-reward world against VADER itself, enumeration and counted frequencies."""

import numpy as np
import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from sympo import preferences, stats
from sympo.studies.alignment import gold

PROMPTS = gold.list_prompts()


def reviews(count):
    generator = np.random.default_rng(0)
    prompts = [PROMPTS[i] for i in generator.integers(len(PROMPTS), size=count)]
    return prompts, [gold.write_review(prompt, generator) for prompt in prompts]


def pairs(count):
    generator = np.random.default_rng(1)
    prompts, first = reviews(count)
    return prompts, [
        (a, gold.write_review(p, generator)) for p, a in zip(prompts, first, strict=True)
    ]


def test_reward_is_vader():
    analyzer = SentimentIntensityAnalyzer()
    texts = [*reviews(50)[1], "", "What a LOVELY day!!! :)"]
    assert [gold.reward(text) for text in texts] == [
        analyzer.polarity_scores(text)["compound"] for text in texts
    ]


def test_only_adjectives_have_a_sentiment():
    lexicon = SentimentIntensityAnalyzer().lexicon
    things = {thing for place in gold.PLACES.values() for thing in place} | {
        *gold.EVERYWHERE,
        *gold.NEUTRAL,
    }
    assert not things & lexicon.keys()
    assert all(lexicon[word] > 0 for word in gold.GOOD)
    assert all(lexicon[word] < 0 for word in gold.BAD)


def test_labels_follow_bradley_terry():
    rewards = np.array([0.1, 0.3])
    uniform = np.random.default_rng(0).random(20_000)
    share = stats.wilson(int(gold.prefer_first(*rewards, uniform).sum()), len(uniform), level=0.999)
    assert share.low < 1 / (1 + np.exp(0.2 / gold.TEMPERATURE)) < share.high


def test_pairs_are_labelled_by_bradley_terry():
    labelled = gold.label_pairs(*pairs(3000), seed=0)
    gain = np.subtract(labelled["gold_chosen"], labelled["gold_rejected"])
    expected = 1 / (1 + np.exp(-abs(gain) / gold.TEMPERATURE))
    spread = np.sqrt((expected * (1 - expected)).sum())
    assert abs((gain > 0).sum() + (gain == 0).sum() / 2 - expected.sum()) < 3.5 * spread
    assert 0.05 < (gain < 0).mean() < 0.5  # the labels are random, as Bradley–Terry says


def test_labels_do_not_depend_on_order_or_other_rows():
    prompts, answers = pairs(200)
    labelled = gold.label_pairs(prompts, answers, seed=0)
    swapped = gold.label_pairs(prompts[50:], [(b, a) for a, b in answers[50:]], seed=0)
    assert labelled["chosen"][-len(swapped) :] == swapped["chosen"][:]
    assert labelled["chosen"][:] != gold.label_pairs(prompts, answers, seed=1)["chosen"][:]


def test_pairs_without_information_are_dropped():
    prompt = PROMPTS[0]
    assert (
        len(gold.label_pairs([prompt] * 2, [("a good day", "a good day"), ("a", "b")], seed=0)) == 1
    )
    ordered = gold.order_pairs([prompt] * 2, [("a bad day", "a good day"), ("a", "b")])
    assert [row[0]["content"] for row in ordered["chosen"]] == ["a good day"]


def test_flips_nest_and_swap_the_rewards_too():
    labelled = gold.label_pairs(*pairs(500), seed=0)
    low, high = (preferences.flip_preferences(labelled, rate, seed=0) for rate in (0.2, 0.4))
    low_flips, high_flips = (np.array(pairs["is_flipped"]) for pairs in (low, high))
    assert high_flips[low_flips].all()
    assert 0.1 < low_flips.mean() < high_flips.mean() < 0.5
    for data, flips in ((low, low_flips), (high, high_flips)):
        expected = np.where(flips, labelled["gold_rejected"], labelled["gold_chosen"])
        assert np.array_equal(data["gold_chosen"], expected)
        assert [gold.reward(row[0]["content"]) for row in data["chosen"]] == data["gold_chosen"][:]


def test_flips_are_independent_of_labels():
    labelled = gold.label_pairs(*pairs(3000), seed=0)
    flipped = np.array(preferences.flip_preferences(labelled, 0.4, seed=0)["is_flipped"])
    wrong = np.less(labelled["gold_chosen"], labelled["gold_rejected"])
    share = stats.wilson(int(flipped[wrong].sum()), int(wrong.sum()), level=0.999)
    assert share.low < 0.4 < share.high


def test_prompts_are_disjoint():
    train, held_out = gold.split_prompts(PROMPTS, held_out=20)
    texts = [{prompt[0]["content"] for prompt in part} for part in (train, held_out)]
    assert len(texts[1]) == 20
    assert texts[0] | texts[1] == {prompt[0]["content"] for prompt in PROMPTS}
    assert not texts[0] & texts[1]
    with pytest.raises(ValueError, match="held_out = 0"):
        gold.split_prompts(PROMPTS, held_out=0)


def test_reviews_fit_their_prompt_and_the_tokenizer():
    tokenizer = gold.tiny_tokenizer()
    for prompt, review in zip(*reviews(200), strict=True):
        things = {*gold.PLACES[prompt[0]["content"].split()[0]], *gold.EVERYWHERE}
        clauses = review.replace(" but ", " and ").split(" and ")
        assert {clause.split()[0] for clause in clauses} <= things
        ids = tokenizer(review)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == review
        whole = tokenizer.apply_chat_template(
            [*prompt, {"role": "assistant", "content": review}], tokenize=False
        )
        assert whole.split() == [*prompt[0]["content"].split(), *review.split(), "<eos>"]
        assert whole.startswith(
            tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=False)
        )


def judged(words):
    """Whether `words` are an adjective, or a degree and an adjective."""
    adjectives = {*gold.GOOD, *gold.NEUTRAL, *gold.BAD}
    degrees = {degree for degree in gold.DEGREES if degree}
    return words[-1:] and words[-1] in adjectives and (len(words) == 1 or {*words[:-1]} <= degrees)


def parse(prompt, answer):
    """The rules of a review, one by one, without a regular expression."""
    words = answer.split(" ")
    links = [place for place, word in enumerate(words) if word in gold.LINKS]
    if len(links) != 1 or len(words) > 7:
        return False
    first, second = words[: links[0]], words[links[0] + 1 :]
    things = {*gold.PLACES[prompt[0]["content"].split()[0]], *gold.EVERYWHERE}
    return all(
        (
            len(first) in (2, 3) and len(second) in (2, 3),
            {*first[:1], *second[:1]} <= things,
            first[:1] != second[:1],
            judged(first[1:]) and judged(second[1:]),
        )
    )


def test_what_is_a_review():
    generator = np.random.default_rng(2)
    words = sorted(gold.tiny_tokenizer().get_vocab())
    kinds = set()
    for prompt, review in zip(*reviews(300), strict=True):
        assert gold.is_review(prompt, review)
        # a word replaced, dropped or added: what comes out may be a review or not
        broken = review.split()
        place = generator.integers(len(broken))
        broken[place : place + generator.integers(2)] = generator.choice(
            words, generator.integers(2)
        )
        answer = " ".join(broken)
        assert gold.is_review(prompt, answer) == bool(parse(prompt, answer))
        kinds.add(gold.is_review(prompt, answer))
    assert kinds == {True, False}
    assert not gold.is_review(PROMPTS[0], "")
    thing = gold.list_things(PROMPTS[0])[0]
    assert not gold.is_review(PROMPTS[0], f"{thing} good and {thing} bad")


def test_seeds_draw_the_weights():
    tokenizer = gold.tiny_tokenizer()
    one, same, other = (gold.tiny_model(tokenizer, seed=seed).lm_head.weight for seed in (0, 0, 1))
    assert one.equal(same)
    assert not one.equal(other)
