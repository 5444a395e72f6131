"""Pairs of steps share all that stood before the pit; TRL trains on the rest of an answer, and on steps only ours."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from questions import one_thread
from tiny_models import END, tiny_llama, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq
from trl import DPOConfig, DPOTrainer

import muscle_hf
from muscle_hf import ConfigurationError, InputError, StepDPOTrainer, StepValues, step_pairs, step_values
from muscle_hf.prediction.step_values import Rollout

TEXTS = {"prompt": "ask\n", "steps": ("one\n", "two\n", "bad\n", "end"), "good": "three\nfour"}


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    with one_thread():
        yield


def _values(
    *,
    value: Any = (0.5, 0.5, 0.75, 0.0, 0.0),
    steps: Any = TEXTS["steps"],
    right: bool = False,
    prompt: Any = "ask\n",
    written_end: int = 2,
) -> StepValues:
    """What the rollouts of a model could have been: from before the pit, the second of three is right."""
    tokenizer = tiny_tokenizer()
    rollouts = [
        Rollout(text, tuple(tokenizer(text)["input_ids"]), is_right, end)
        for text, is_right, end in (("cut", False, None), (TEXTS["good"], True, written_end), ("other", True, 2))
    ]
    question = prompt if isinstance(prompt, str) else "user: ask\n"
    texts = [question + "".join(steps[:count]) for count in range(len(steps) + 1)]
    return StepValues(
        prompt=prompt,
        question=question,
        steps=tuple(steps),
        right=right,
        value=np.array(value),
        interval=np.zeros((len(value), 2)),
        rollouts=(tuple(rollouts),) * len(steps),
        tokens=tuple(tuple(row) for row in tokenizer(texts)["input_ids"]),
    )


def _options(folder: Path, **more: Any) -> DPOConfig:
    quiet = {"report_to": "none", "bf16": False, "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
    options = {"max_steps": 1, "per_device_train_batch_size": 2, "dataloader_pin_memory": False} | quiet
    return DPOConfig(output_dir=str(folder), **options | more)


def _trainer(kind: type[Any], rows: Any, folder: Path, **more: Any) -> Any:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(seed=1, tokenizer=tokenizer)
    args = _options(folder, **more)
    return kind(model, copy.deepcopy(model), args=args, train_dataset=rows, processing_class=tokenizer)


def test_a_pair_begins_with_the_steps_before_the_pit_and_prefers_the_first_right_rollout(caplog) -> None:
    pairs = step_pairs([_values(right=True, value=(0.5, 0.5, 0.75, 0.5, 1.0)), _values()])
    assert pairs.to_list() == [
        {
            "prompt": "ask\none\ntwo\n",
            "chosen": "three\nfour",
            "rejected": "bad\nend",
            "id": 1,
            "chosen_from": "rollout",
        }
    ]
    assert "1 pair of 1 wrong answer; chosen is a right rollout in 1" in caplog.text
    assert "no pairs of 1 right answer" in caplog.text
    assert "chosen answers have 2.0 words on average, rejected ones 2.0" in pairs.info.description


def test_step_pairs_can_be_joined_to_flip_pairs() -> None:
    flips = muscle_hf.flip_pairs(prompts=["a\n"], old=["b"], new=["c"], references=["b"])
    assert len(concatenate_datasets([flips, step_pairs([_values()])])) == 2


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_rejected_step_ends_without_an_end_token_and_a_chosen_answer_with_one(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    pairs = step_pairs([_values(), _values()], end="step")
    trainer = _trainer(StepDPOTrainer, pairs, tmp_path)
    before = trainer.model.lm_head.weight.detach().clone()
    assert trainer.train_dataset.to_list() == pairs.to_list()
    batch = next(iter(trainer.get_train_dataloader()))
    for row, text in ((0, f"ask\none\ntwo\nthree\nfour{END}"), (2, "ask\none\ntwo\nbad\n")):
        tokens = batch["input_ids"][row][batch["attention_mask"][row].bool()]
        assert tokenizer.decode(tokens) == text
    trained = batch["input_ids"][2][batch["completion_mask"][2].bool()]
    assert tokenizer.decode(trained) == "bad\n"
    trainer.train()
    assert not before.equal(trainer.model.lm_head.weight)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_plain_dpo_trains_on_the_rest_with_both_ends_and_fails_on_steps(tmp_path: Path) -> None:
    logging.getLogger("trl").setLevel(logging.ERROR)
    trainer = _trainer(DPOTrainer, step_pairs([_values(), _values()]), tmp_path)
    row = next(iter(trainer.train_dataset))
    for side, text in (("chosen", "three\nfour"), ("rejected", "bad\nend")):
        assert tiny_tokenizer().decode([*row["prompt_ids"], *row[f"{side}_ids"]]) == f"ask\none\ntwo\n{text}{END}"
    with pytest.raises(KeyError, match="chosen"):
        _trainer(DPOTrainer, step_pairs([_values()], end="step"), tmp_path)


def test_tokens_that_merge_where_a_step_begins_are_in_both_sides_and_not_in_the_prompt() -> None:

    values = _values(value=(0.5, 0.0, 0.0), steps=("a", "b"))
    (row,) = step_pairs([replace(values, tokens=((7, 8, 9), (7, 8, 5), (7, 8, 5, 6)))], end="step").to_list()
    drawn = list(values.rollouts[0][1].tokens)
    assert (row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) == ([7, 8], [9, *drawn, 2], [5])


def test_a_chosen_answer_ends_as_the_model_ended_it_and_not_with_the_tokenizers_end() -> None:
    # As of models whose turns end with one token and whose tokenizer names another.
    (row,) = step_pairs([_values(written_end=1)], end="step").to_list()
    assert (row["chosen_ids"][-1], row["chosen_ids"].count(2)) == (1, 0)


def test_lengths_are_told_of_what_is_trained_a_step_or_the_rest() -> None:
    for end, words in (("rest", "2.0"), ("step", "1.0")):
        assert f"rejected ones {words};" in step_pairs([_values()], end=end).info.description


@pytest.mark.parametrize("end", ["rest", "step"])
def test_without_pairs_the_set_is_empty_with_its_columns_and_says_why(tmp_path, end, caplog) -> None:
    no_pit = _values(value=(0.0, 0.0, 0.25, 0.25, 0.25))
    single = _values(value=(0.5, 0.0), steps=("one",))

    hopeless = replace(_values(), rollouts=((),) * 4)
    empty = step_pairs([no_pit, single, hopeless], end=end)
    columns = ["prompt", "chosen", "rejected"] if end == "rest" else ["prompt_ids", "chosen_ids", "rejected_ids"]
    assert (empty.column_names, len(empty)) == ([*columns, "id", "chosen_from"], 0)
    for reason in ("1 in which no step stands out", "1 of one step only", "1 without a right rollout"):
        assert f"left out: {reason}" in caplog.text
    assert len(step_pairs([], end=end)) == 0 and "no wrong answers, so there are no pairs" in caplog.text
    with pytest.raises(InputError, match=r"train_dataset has no pairs; its description"):
        _trainer(StepDPOTrainer, empty, tmp_path)
    if end == "step":
        some = step_pairs([_values()], end=end)
        with pytest.raises(InputError, match="eval_dataset has no pairs"):
            StepDPOTrainer("model", args=_options(tmp_path), train_dataset=some, eval_dataset={"eval_dataset": empty})
        with pytest.raises(InputError, match="train_dataset is of the kind IterableDataset; give what step_pairs"):
            _trainer(StepDPOTrainer, some.to_iterable_dataset(), tmp_path)
        with pytest.raises(InputError, match="the eval data set has no pairs"):
            _trainer(StepDPOTrainer, some, tmp_path).evaluate(empty)
        foreign = some.map(lambda row: {"chosen_ids": [*row["chosen_ids"], 123_456]})
        with pytest.raises(
            InputError, match=r"the train data set has the token id 123456, but the tokenizer has \d+ tok"
        ):
            _trainer(StepDPOTrainer, foreign, tmp_path)


@pytest.mark.parametrize(
    ("values", "changed", "error", "message"),
    [
        ([_values], {"end": "prefix"}, ConfigurationError, "end is 'prefix', but must be one of 'rest', 'step'"),
        ([_values], {"end": "step", "max_length_ratio": 2}, ConfigurationError, "max_length_ratio would be ignored"),
        ([_values], {"max_length_ratio": 0.5}, InputError, "max_length_ratio is 0.5"),
        ([_values], {"held_out": ["ASK "]}, InputError, "1 of 1 wrong answer is asked in held_out too"),
        ([_values], {"held_out": []}, InputError, "held_out has no prompts"),
        ([dict], {}, InputError, r"values\[0\] is an object; give what step_values returns"),
    ],
)
def test_what_makes_no_pair_is_refused(values, changed, error, message) -> None:
    with pytest.raises(error, match=message):
        step_pairs([make() for make in values], **changed)
    with pytest.raises(InputError, match="; give the list that step_values returns"):
        step_pairs(_values())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"chosen_ids": None}, "row 0 of the train data set: chosen_ids is null; a list of token ids"),
        ({"prompt_ids": [-1]}, "prompt_ids is .* a list of token ids of 0 and more"),
        ({"rejected_ids": []}, "rejected_ids has no tokens"),
        ({"chosen_ids": [5, 6], "rejected_ids": [5, 6]}, "are the same, which teaches nothing"),
    ],
)
def test_a_pair_that_teaches_half_or_nothing_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    pair = {"prompt_ids": [4], "chosen_ids": [5, 2], "rejected_ids": [6]} | changed
    with pytest.raises(InputError, match=message):
        _trainer(StepDPOTrainer, Dataset.from_list([pair]), tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_pairs_that_are_read_as_tensors_are_pairs(tmp_path: Path, kind: str) -> None:
    pair = {"prompt_ids": [4], "chosen_ids": [5, 2], "rejected_ids": [6, 2]}
    _trainer(StepDPOTrainer, Dataset.from_list([pair]).with_format(kind), tmp_path)
    with pytest.raises(InputError, match="rejected_ids has no tokens"):
        _trainer(StepDPOTrainer, Dataset.from_list([pair | {"rejected_ids": []}]).with_format(kind), tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_steps_are_not_trained_without_pairs_or_with_an_encoder_decoder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train_dataset is missing"):
        _trainer(StepDPOTrainer, None, tmp_path)
    tokenizer = tiny_tokenizer()
    model, args = tiny_seq2seq("t5", 1, tokenizer), _options(tmp_path, gradient_checkpointing=False)
    pairs = step_pairs([_values()], end="step")
    with pytest.raises(ConfigurationError, match="The model is an encoder-decoder"):
        StepDPOTrainer(model, copy.deepcopy(model), args=args, train_dataset=pairs, processing_class=tokenizer)


def test_a_conversation_of_the_test_set_is_known_again() -> None:
    asked = [{"role": "user", "content": "Ask"}]
    assert step_pairs([_values(prompt=asked)])[0]["prompt"] == "user: ask\none\ntwo\n"
    with pytest.raises(InputError, match="is asked in held_out too"):
        step_pairs([_values(prompt=asked)], held_out=[{"question": "ask"}])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_texts_are_sent_to_the_plain_trainer_and_a_step_that_would_be_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has the columns prompt, chosen, .* make them with step_pairs"):
        _trainer(StepDPOTrainer, step_pairs([_values()]), tmp_path)
    with pytest.raises(InputError, match=r"the longest pair of the train data set has .* but max_length is 8"):
        _trainer(StepDPOTrainer, step_pairs([_values()], end="step"), tmp_path, max_length=8)


@pytest.mark.slow
def test_a_pair_of_a_real_model_holds_the_tokens_that_it_drew() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(seed=3, tokenizer=tokenizer)
    values = step_values(
        model,
        tokenizer,
        ["what is"] * 2,
        ["a\nb\nc", "the\nsky"],
        judge=lambda answer, _: len(answer) % 3 == 0,
        rollouts=6,
        max_new_tokens=60,
        show_progress=False,
    )
    for row in step_pairs(values, end="step"):
        each = values[row["id"]]
        rollout = next(rollout for rollout in each.rollouts[each.pit] if rollout.right)
        assert row["prompt_ids"] + row["chosen_ids"] == [*each.tokens[each.pit], *rollout.tokens, 2]
        assert tuple(row["prompt_ids"] + row["rejected_ids"]) == each.tokens[each.pit + 1]


def test_dpo_on_pairs_of_steps_has_the_optimum_of_the_advantage_weighted_likelihood() -> None:
    """The theorem of arXiv 2406.14532 on a table: three steps of three choices, Q by enumeration."""
    beta, choices, depth = 0.5, 3, 3
    draw = torch.Generator().manual_seed(0)
    states = [state for length in range(depth) for state in product(range(choices), repeat=length)]
    reference = {s: torch.randn(choices, generator=draw, dtype=torch.float64).log_softmax(-1) for s in states}
    right = dict(zip(product(range(choices), repeat=depth), torch.rand(27, generator=draw) < 0.4, strict=True))

    def value(state: tuple[int, ...]) -> torch.Tensor:
        if len(state) == depth:
            return right[state].double()
        return sum(reference[state][a].exp() * value((*state, a)) for a in range(choices))  # type: ignore[return-value]

    for state in states:
        old = reference[state].exp()
        advantage = torch.stack([value((*state, a)) - value(state) for a in range(choices)])
        logits = torch.zeros(choices, dtype=torch.float64, requires_grad=True)
        weighted = torch.zeros(choices, dtype=torch.float64, requires_grad=True)

        def dpo(logits: torch.Tensor = logits, old: torch.Tensor = old, advantage: torch.Tensor = advantage) -> Any:
            ratio = logits.log_softmax(-1) - old.log()
            margin = beta * (ratio[:, None] - ratio[None, :])
            # Both steps are drawn from the model; which one is better, by their advantages.
            preferred = (advantage[:, None] - advantage[None, :]).sigmoid()
            drawn = old[:, None] * old[None, :] * preferred
            return -(drawn * torch.nn.functional.logsigmoid(margin)).sum()

        def likelihood(
            logits: torch.Tensor = weighted, old: torch.Tensor = old, advantage: torch.Tensor = advantage
        ) -> Any:
            return -(old * (advantage / beta).exp() * logits.log_softmax(-1)).sum()

        for loss, start in ((dpo, logits), (likelihood, weighted)):
            optimizer = torch.optim.LBFGS(
                [start],
                lr=1,
                max_iter=200,
                tolerance_grad=1e-12,
                tolerance_change=1e-16,
                line_search_fn="strong_wolfe",
            )

            def closure(loss: Any = loss, optimizer: Any = optimizer) -> Any:
                optimizer.zero_grad()
                result = loss()
                result.backward()
                return result

            optimizer.step(closure)
        torch.testing.assert_close(logits.softmax(-1), weighted.softmax(-1), atol=1e-4, rtol=0)
