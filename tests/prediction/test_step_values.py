"""The value of a step is the model's own probability to get right from there, whoever else is asked beside it."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from questions import one_thread
from tiny_models import CHAT_TEMPLATE, tiny_llama, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from muscle_hf import ConfigurationError, InputError, StepValues, sample_answers, step_values

COLOURS = ("<end>", "red", "green", "blue")


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(name="colours", scope="module")
def _colours() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: token for token, word in enumerate(COLOURS)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=COLOURS[0], pad_token=COLOURS[0])


@pytest.fixture(name="model", scope="module")
def _model(colours: PreTrainedTokenizerFast) -> Any:
    return tiny_llama(seed=6, tokenizer=colours, initializer_range=0.15)


def _is_right(answer: str, reference: Any) -> bool:
    """Two colours or fewer, the last of which is the right one."""
    return len(answer.split()) <= 2 and answer.split()[-1:] == [reference]


def _values(
    model: Any, tokenizer: Any, *, prompts: Any = ("red blue",), answers: Any = (" green red",), **options: Any
) -> list[StepValues]:
    usual: dict[str, Any] = {"judge": _is_right, "references": ["blue"] * len(prompts), "separator": " "}
    usual |= {"rollouts": 4, "max_new_tokens": 3, "show_progress": False}
    return step_values(model, tokenizer, list(prompts), list(answers), **usual | options)


def _enumerated(model: Any, prompt: list[int], begun: list[int], tokens: int) -> float:
    """Add up the probabilities of all that could be drawn in so many tokens, and is right and ended."""
    total = 0.0
    for drawn in itertools.product(range(4), repeat=tokens):
        if 0 not in drawn:
            continue  # it never ended
        written = list(drawn[: drawn.index(0)])
        if drawn[len(written) + 1 :] != (0,) * (tokens - len(written) - 1):
            continue  # what would follow the end: each answer once
        if not _is_right(" ".join(COLOURS[token] for token in begun + written), "blue"):
            continue
        row = prompt + begun + written
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([row])).logits[0].double().log_softmax(-1)
        places = range(len(prompt + begun) - 1, len(row))
        total += float(sum(logs[place, token] for place, token in zip(places, [*written, 0], strict=True)).exp())
    return total


@pytest.mark.slow
@pytest.mark.parametrize("best_of", [1, 3])
def test_rollouts_give_another_value_than_the_sum_over_all_64_answers(colours, model, best_of) -> None:
    rollouts = 1_500
    (values,) = _values(model, colours, rollouts=rollouts, best_of=best_of, batch_size=rollouts)
    exact = np.array([_enumerated(model, [1, 3], begun, 3) for begun in ([], [2])])
    assert (exact > 0.01).all()
    expected = 1 - (1 - exact) ** best_of
    # The error of the best of K by the delta method; four standard deviations.
    error = best_of * (1 - exact) ** (best_of - 1) * np.sqrt(exact * (1 - exact) / rollouts)
    assert (np.abs(values.value[:2] - expected) < 4 * error).all()
    assert values.value[2] == 0 and values.interval[2].tolist() == [0, 0]
    assert (values.interval[:2, 0] < expected).all() and (expected < values.interval[:2, 1]).all()
    np.testing.assert_allclose(values.advantage, np.diff(values.value))


def test_values_are_counted_from_the_rollouts_and_what_never_ended_is_wrong(colours, model, caplog) -> None:
    (values,) = _values(model, colours, rollouts=40, max_new_tokens=1, judge=lambda *_: True)
    # In one token an answer can only end at once.
    for of_place, value in zip(values.rollouts, values.value, strict=False):
        assert value == sum(rollout.right for rollout in of_place) / 40
        assert all(rollout.right == rollout.finished == (rollout.tokens == ()) for rollout in of_place)
    assert 0 < values.unfinished < 80
    assert f"{values.unfinished} of 80 rollouts never ended in max_new_tokens and count as wrong" in caplog.text
    assert values.right and values.value[-1] == 1 and values.answer == " green red"


def test_neither_the_batch_nor_other_answers_decide_a_value(colours, model) -> None:
    (alone,) = _values(model, colours, rollouts=20, batch_size=1)
    prompts, answers = ["blue", "red blue", "red blue"], [" red red", " green red", " green blue"]
    together = _values(model, colours, prompts=prompts, answers=answers, rollouts=20, batch_size=64)
    assert together[1].rollouts == alone.rollouts
    # Equal beginnings are sampled once.
    assert together[2].rollouts[:2] == alone.rollouts
    assert _values(model, colours, rollouts=20, seed=1)[0].rollouts != alone.rollouts
    assert _values(model, colours, rollouts=20, temperature=0.01)[0].rollouts != alone.rollouts


def test_answers_sampled_with_the_same_seed_are_not_among_their_own_rollouts(colours, model) -> None:
    options = {"max_new_tokens": 3, "seed": 0, "show_progress": False}
    sampled = sample_answers(model, colours, ["red blue"], samples=20, **options).texts[0]
    rollouts = [rollout.text for rollout in _values(model, colours, rollouts=20)[0].rollouts[0]]
    assert sampled != rollouts
    assert np.mean([mine == theirs for mine, theirs in zip(sampled, rollouts, strict=True)]) < 0.5


def test_a_rollout_knows_which_of_several_ends_it_has(colours) -> None:
    several = tiny_llama(seed=6, tokenizer=colours, initializer_range=0.15)
    several.generation_config.eos_token_id = [0, 2]
    (values,) = _values(several, colours, rollouts=40)
    ends = {rollout.end for of_place in values.rollouts for rollout in of_place}
    assert {0, 2} <= ends <= {0, 2, None}
    assert all(2 not in rollout.tokens for of_place in values.rollouts for rollout in of_place)


def test_a_step_ends_with_the_separator_and_blank_ones_belong_to_the_one_before(colours, model) -> None:
    answers = ["\n\n red\n\n\n green\n", " red\n \n green"]
    options = {"prompts": ["red"] * 2, "answers": answers, "separator": "\n", "rollouts": 1}
    first, second = _values(model, colours, **options)
    assert (first.steps, second.steps) == (("\n\n red\n\n\n", " green\n"), (" red\n \n", " green"))
    assert [each.answer for each in (first, second)] == answers


def test_an_answer_of_one_step_has_values_but_no_pit(colours, model, caplog) -> None:
    single, _ = _values(model, colours, prompts=["red"] * 2, answers=[" green", " green red"])
    assert single.value.shape == (2,) and single.pit is None
    assert "1 answer of one step only" in caplog.text


def test_the_pit_goes_by_the_rule_that_is_named() -> None:
    common: dict[str, Any] = {"prompt": "", "question": "", "right": False, "rollouts": (), "tokens": ()}
    value = np.array([0.75, 0.25, 0.125, 0.25, 0.0])
    values = StepValues(steps=("a", "b", "c", "d"), value=value, interval=np.zeros((5, 2)), **common)
    rules = ("least_advantage", "lowest_value", "first_all_fail")
    assert values.pit == 0
    assert [values.pit_by(rule) for rule in rules] == [0, 3, 3]
    with pytest.raises(ConfigurationError, match="the rule of the pit is 'lowest', but must be one of least"):
        values.pit_by("lowest")


def test_without_references_a_judge_gets_the_prompt_and_without_a_judge_they_are_compared(colours, model) -> None:
    seen = []

    def judge(answer: str, prompt: Any) -> bool:
        seen.append(prompt)
        return answer.split()[-1:] == ["blue"]

    _values(model, colours, judge=judge, references=None)
    assert set(seen) == {"red blue"}
    (values,) = _values(model, colours, judge=None, references=["green red"])
    assert values.right


def test_a_conversation_is_read_with_the_part_of_its_answer_and_one_beginning() -> None:
    template = "<s>" + CHAT_TEMPLATE.replace("<s>", "")
    tokenizer = tiny_tokenizer(add_beginning=True, chat_template=template)
    model = tiny_llama(seed=3, tokenizer=tokenizer)
    asked = [{"role": "user", "content": "hi"}]
    options = {"separator": "\n", "rollouts": 2, "references": None, "judge": lambda *_: False}
    (values,) = _values(model, tokenizer, prompts=[asked], answers=["a\nb"], **options)
    rendered = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    assert rendered.startswith("<s>") and values.question == rendered.removeprefix("<s>")
    assert [tokenizer.decode(list(tokens)) for tokens in values.tokens] == [
        rendered,
        rendered + "a\n",
        rendered + "a\nb",
    ]
    assert values.prompt is asked


def test_rollouts_have_twice_the_longest_answer_by_default_but_no_more_than_the_context(colours) -> None:
    lengths = []
    for context in (64, 9):
        model = tiny_llama(seed=6, tokenizer=colours, initializer_range=0.15, context_length=context)
        values = _values(model, colours, rollouts=200, max_new_tokens=None, temperature=10.0)
        lengths.append(max(len(rollout.tokens) for each in values for rollout in each.rollouts[0]))
    assert lengths == [4, 4]
    # Five are read at most, of which two are the question.
    model = tiny_llama(seed=6, tokenizer=colours, initializer_range=0.15, context_length=7)
    (values,) = _values(model, colours, rollouts=50, max_new_tokens=None, temperature=10.0)
    assert max(len(rollout.tokens) for rollout in values.rollouts[0]) == 3


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"best_of": 5}, ConfigurationError, "best_of is 5, but there are only 4 rollouts"),
        ({"best_of": 0}, ConfigurationError, "best_of is 0; it must be an int of 1 or more"),
        ({"rollouts": 2.5}, ConfigurationError, "rollouts is 2.5"),
        ({"temperature": 0}, ConfigurationError, "temperature is 0"),
        ({"pit_rule": "lowest"}, ConfigurationError, "the rule of the pit is 'lowest'"),
        ({"separator": ""}, ConfigurationError, "separator is ''"),
        ({"judge": None, "references": None}, ConfigurationError, "neither a judge nor references"),
        ({"judge": "exact"}, InputError, "judge is 'exact'; give a function of an answer"),
        ({"judge": None, "references": [21]}, InputError, r"references\[0\] is 21, and without a judge"),
        ({"judge": lambda *_: 1}, InputError, r"judge gives 1 for answers\[0\]; it must say True or False"),
        (
            {"judge": lambda answer, _: "green red" in answer or None, "rollouts": 40},
            InputError,
            r"judge gives null for a rollout of answ",
        ),
        ({"answers": [" green red"] * 2}, InputError, "prompts 1, answers 2, references 1"),
        ({"references": []}, InputError, "references 0"),
        ({"answers": [""]}, InputError, r"answers\[0\] is '', which has no steps"),
        ({"answers": [None]}, InputError, r"answers\[0\] is null"),
        ({"separator": "\n"}, InputError, r"the answer has one step only, since the separator '\\n' is inside none"),
        ({"prompts": [], "answers": [], "references": []}, InputError, "prompts is empty"),
        ({"max_new_tokens": 500}, InputError, "prompt 0 has 2 tokens, and its answer may take 500 more"),
    ],
)
def test_what_has_no_value_is_refused(colours, model, changed, error, message) -> None:
    with pytest.raises(error, match=message):
        _values(model, colours, **changed)


def test_an_encoder_would_read_steps_as_a_part_of_the_question(colours) -> None:
    model = tiny_seq2seq("t5", seed=1, tokenizer=colours)
    with pytest.raises(InputError, match="is an encoder-decoder model, whose encoder would read the steps"):
        _values(model, colours)
