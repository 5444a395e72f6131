"""Choices are compared with a model that reads each of them alone, whole, without padding and without a cache."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from questions import BATCH_SIZES, CHOICES, PROMPTS, no_logged_warnings, one_thread, reference_score
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

import muscle_hf.prediction.choose
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.prediction.choose import choose_answers


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    with one_thread(), no_logged_warnings():
        yield


@pytest.fixture(name="tokenizer")
def _tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(name="model")
def _model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return tiny_llama(seed=3, tokenizer=tokenizer)


@pytest.fixture(name="alone")
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the way of a model that cannot share what choices start with."""
    monkeypatch.setattr(muscle_hf.prediction.choose, "can_share", lambda model: False)


def _choose(model: Any, tokenizer: Any, prompts: Any = PROMPTS, choices: Any = CHOICES, **options: Any) -> Any:
    return choose_answers(model, tokenizer, prompts, choices, **{"show_progress": False} | options)


def _reference(model: Any, tokenizer: Any, prompts: Any = PROMPTS, choices: Any = CHOICES) -> list[list[float]]:
    return [
        [reference_score(model, tokenizer, prompt, " " + choice) for choice in of_prompt]
        for prompt, of_prompt in zip(prompts, choices, strict=True)
    ]


def _assert_close(chosen: Any, expected: list[list[float]], **tolerance: float) -> None:
    for index, scores in enumerate(expected):
        np.testing.assert_allclose(chosen.scores[index], scores, **tolerance)
        assert chosen.indices[index] == np.argmax(scores)


def _record(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Note the shape of every input that the model reads from now on, but for the trial of `can_share`."""
    shapes: list[tuple[int, int]] = []
    can_share = muscle_hf.prediction.choose.can_share
    monkeypatch.setattr(muscle_hf.prediction.choose, "can_share", lambda model: (can_share(model), shapes.clear())[0])
    embeddings = model.get_input_embeddings()
    embeddings.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)))
    return shapes


def _disturb(model: LlamaForCausalLM, size: float) -> None:
    """Make every batch of more than one row round differently, as kernels do, but far worse."""

    def hook(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        if logits.shape[0] == 1:
            return logits
        generator = torch.Generator().manual_seed(logits.shape[0])
        return logits + size * (2 * torch.rand(logits.shape, generator=generator) - 1)

    model.lm_head.register_forward_hook(hook)


class TestScores:
    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", BATCH_SIZES)
    @pytest.mark.parametrize("normalization", ["sum", "characters"])
    def test_scores_are_not_those_of_one_full_pass_each(self, model, tokenizer, batch_size, normalization) -> None:
        prompts = [prompt + " " * (i % 3) for i, prompt in enumerate(PROMPTS)]
        chosen = _choose(model, tokenizer, prompts, batch_size=batch_size, normalization=normalization)
        expected = _reference(model, tokenizer, prompts)
        if normalization == "characters":
            expected = [
                [score / len(choice) for score, choice in zip(scores, choices, strict=True)]
                for scores, choices in zip(expected, CHOICES, strict=True)
            ]
        _assert_close(chosen, expected, rtol=1e-5)
        assert len(set(chosen.indices.tolist())) > 1

    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", BATCH_SIZES)
    def test_a_model_that_cannot_share_gets_other_scores(self, model, tokenizer, alone, batch_size) -> None:
        chosen = _choose(model, tokenizer, batch_size=batch_size)
        _assert_close(chosen, _reference(model, tokenizer), rtol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("tied", [False, True])
    def test_double_precision_is_rounded_to_single(self, tokenizer, tied) -> None:
        model = tiny_llama(seed=3, tokenizer=tokenizer, tie_word_embeddings=tied).double()
        chosen = _choose(model, tokenizer, batch_size=5)
        _assert_close(chosen, _reference(model, tokenizer), rtol=0, atol=1e-10)

    def test_normalization_has_no_effect(self, model, tokenizer) -> None:
        # The long choice costs more in all but less for each character.
        prompt, choices = "what is the balance?", ["no", "the balance of my checking account"]
        by_sum = _choose(model, tokenizer, [prompt], [choices])
        by_characters = _choose(model, tokenizer, [prompt], [choices], normalization="characters")
        assert by_sum.indices.tolist() == [0]
        assert by_characters.indices.tolist() == [1]
        np.testing.assert_allclose(by_characters.scores[0], by_sum.scores[0] / [2, 34], rtol=1e-6)

    @pytest.mark.parametrize("batch_size", [1, 2, 64])
    def test_a_long_choice_changes_the_scores_of_the_short_ones(self, model, tokenizer, batch_size) -> None:
        prompts, choices = ["a", PROMPTS[1]], [["Z" * 90, "Q", "Z" * 40, "no"], ["no", "the weather in Paris" * 3]]
        chosen = _choose(model, tokenizer, prompts, choices, batch_size=batch_size)
        _assert_close(chosen, _reference(model, tokenizer, prompts, choices), rtol=1e-5)

    def test_choices_that_start_alike_or_with_one_another_are_mixed_up(self, model, tokenizer, monkeypatch) -> None:
        choices = [["the card", "the card I lost", "the weather", "the card I lost", "the card I"]]
        expected = _reference(model, tokenizer, PROMPTS[:1], choices)
        shapes = _record(model, monkeypatch)
        _assert_close(_choose(model, tokenizer, PROMPTS[:1], choices), expected, rtol=1e-5)
        shared = tokenizer(PROMPTS[0] + " the")["input_ids"]
        assert shapes[0] == (1, len(shared))

    def test_a_merge_over_the_border_of_the_prompt_is_scored_with_the_wrong_tokens(self, model, tokenizer) -> None:
        prompt, choices = "the weath", ["er in Paris", "er", "ed wool", "Q"]
        whole = tokenizer("the weather in Paris")["input_ids"]
        context = tokenizer(prompt)["input_ids"]
        assert whole[: len(context)] != context  # or else nothing is merged here
        readable = [one for one in choices if len(tokenizer(prompt + one)["input_ids"]) > len(context)]
        chosen = _choose(model, tokenizer, [prompt], [readable], delimiter="")
        expected = [[reference_score(model, tokenizer, prompt, one) for one in readable]]
        assert len(readable) > 2
        _assert_close(chosen, expected, rtol=1e-5)

    def test_white_space_at_the_end_of_a_prompt_is_scored_as_part_of_the_prompt(self, model, tokenizer) -> None:
        inside = _choose(model, tokenizer, ["the weather "], [["in", "Paris"]], delimiter="")
        between = _choose(model, tokenizer, ["the weather"], [["in", "Paris"]])
        np.testing.assert_array_equal(inside.scores[0], between.scores[0])

    def test_a_conversation_is_asked_without_the_generation_prompt_or_with_two_beginnings(self) -> None:
        tokenizer = tiny_tokenizer(add_beginning=True, chat_template=CHAT_TEMPLATE)
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        texts = ["<s>user\nwhich colour?</s><s>assistant\n", "which colour?"]
        prompts = [[{"role": "user", "content": "which colour?"}], texts[1]]
        choices = [["blue", "I lost the card", "no"]] * 2
        chosen = _choose(model, tokenizer, prompts, choices, delimiter="")
        expected = [
            [reference_score(model, tokenizer, text, choice, special=not index) for choice in choices[0]]
            for index, text in ((1, texts[0]), (0, texts[1]))
        ]
        _assert_close(chosen, expected, rtol=1e-5)

    def test_equal_choices_or_questions_get_different_scores(self, model, tokenizer) -> None:
        chosen = _choose(model, tokenizer, [PROMPTS[0]] * 3, [["no", "no"], ["yes", "no"], ["no", "no"]], batch_size=2)
        assert chosen.scores[0][0] == chosen.scores[0][1]
        assert chosen.indices[0] == chosen.indices[2] == 0
        np.testing.assert_allclose(chosen.scores[1][1], chosen.scores[0][0], rtol=1e-6)

    def test_the_order_of_the_questions_is_lost(self, model, tokenizer) -> None:
        chosen = _choose(model, tokenizer, batch_size=3)
        backwards = _choose(model, tokenizer, PROMPTS[::-1], CHOICES[::-1], batch_size=3)
        assert backwards.indices[::-1].tolist() == chosen.indices.tolist()

    @pytest.mark.slow
    def test_an_adapter_is_ignored(self, tokenizer) -> None:
        base = tiny_llama(seed=3, tokenizer=tokenizer)
        before = _choose(base, tokenizer)
        model = tiny_adapter(base, seed=5)
        adapted = _choose(model, tokenizer)
        _assert_close(adapted, _reference(model, tokenizer), rtol=1e-5)
        assert not np.allclose(adapted.scores[0], before.scores[0])
        with model.disable_adapter():
            np.testing.assert_allclose(_choose(model, tokenizer).scores[0], before.scores[0], rtol=1e-6)

    def test_half_precision_fails_or_is_far_off(self, model, tokenizer) -> None:
        expected = _reference(model, tokenizer)
        chosen = _choose(model.bfloat16(), tokenizer)
        for scores, exact in zip(chosen.scores, expected, strict=True):
            np.testing.assert_allclose(scores, exact, rtol=0.05)


class TestNearTies:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("choices", "size"), [(["Q", "W", "Z", "K", "X"], 1e-4), (["Q Q", "W Z", "Z Q", "W W", "K X"], 1e-5)]
    )
    def test_a_near_tie_is_decided_by_the_batch_size(self, tokenizer, choices, size) -> None:
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        with torch.no_grad():
            model.model.norm.weight.mul_(size)
        # As many tokens each, or the longer choice would lose by far.
        alone = _choose(model, tokenizer, choices=[choices] * len(PROMPTS), batch_size=1)
        _disturb(model, 1e-4)
        unsafe = _choose(model, tokenizer, choices=[choices] * len(PROMPTS), batch_size=7, tie_margin=0)
        assert unsafe.indices.tolist() != alone.indices.tolist()
        for batch_size in BATCH_SIZES:
            chosen = _choose(model, tokenizer, choices=[choices] * len(PROMPTS), batch_size=batch_size)
            assert chosen.indices.tolist() == alone.indices.tolist()
            for scores, same in zip(chosen.scores, alone.scores, strict=True):
                np.testing.assert_array_equal(scores, same)

    def test_half_precision_is_asked_again_without_being_told(self, model, tokenizer, monkeypatch) -> None:
        shapes = _record(model.bfloat16(), monkeypatch)
        _choose(model, tokenizer, ["a", "b"], [["Q", "Q W", "W Q"]] * 2)
        assert [rows for rows, _ in shapes] == [2, 4]
        _choose(model, tokenizer, ["a", "b"], [["Q", "Q W", "W Q"]] * 2, tie_margin=99.0)
        assert [rows for rows, _ in shapes] == [2, 4, 1, 1, 1, 1, 1, 1]


class TestWork:
    def test_choices_of_one_token_each_take_a_pass_of_their_own(self, model, tokenizer, monkeypatch) -> None:
        letters = ["A", "B", "C", "D"]
        expected = [reference_score(model, tokenizer, "Answer:", letter) for letter in letters]
        shapes = _record(model, monkeypatch)
        chosen = _choose(model, tokenizer, ["Answer:"], [letters], delimiter="", batch_size=64)
        assert shapes == [(1, len(tokenizer("Answer:")["input_ids"]))]
        np.testing.assert_allclose(chosen.scores[0], expected, rtol=1e-5)

    @pytest.mark.parametrize("training", [False, True])
    def test_a_prompt_is_read_again_for_each_choice(self, model, tokenizer, monkeypatch, training) -> None:
        choices = ["maybe so", "I lost the card", "the weather in Paris"]
        lengths = [len(tokenizer(" " + choice)["input_ids"]) - 1 for choice in choices]
        context = len(tokenizer(PROMPTS[1])["input_ids"])
        if training:
            # Gradient checkpointing turns the cache off where a model is in training; trainers do so in its config.
            model = tiny_adapter(model, seed=5, lora_dropout=0.5).train()
            model.config.use_cache = False
            base = model.get_base_model()
            (getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable)()
        shapes = _record(model, monkeypatch)
        _choose(model, tokenizer, [PROMPTS[1]], [choices], tie_margin=0)
        assert shapes == [(1, context), (3, max(lengths))]

    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", [1, 2, 5, 7])
    def test_more_sequences_than_the_batch_size_are_in_memory(self, model, tokenizer, monkeypatch, batch_size) -> None:
        shapes = _record(model, monkeypatch)
        _choose(model, tokenizer, batch_size=batch_size, tie_margin=0)
        assert max(rows for rows, _ in shapes) <= batch_size
        if batch_size > 2:
            assert max(rows for rows, _ in shapes) == batch_size

    def test_the_cache_holds_more_prompts_than_their_choices_fit_into_the_batch(
        self, model, tokenizer, monkeypatch
    ) -> None:
        shapes = _record(model, monkeypatch)
        _choose(model, tokenizer, choices=[["Q W", "W Q", "Z K", "K"]] * len(PROMPTS), batch_size=8, tie_margin=0)
        assert [rows for rows, _ in shapes] == [2, 6] * 6  # " K" is scored with the prompt

    def test_short_choices_are_padded_like_the_longest_of_all(self, model, tokenizer, monkeypatch) -> None:
        shapes = _record(model, monkeypatch)
        choices = ["Q" + " W" * length for length in (1, 20, 2, 19)]
        _choose(model, tokenizer, PROMPTS[:1], [choices], batch_size=2, tie_margin=0)
        short, long = len(tokenizer(choices[2])["input_ids"]), len(tokenizer(choices[1])["input_ids"])
        assert [rows for rows, _ in shapes] == [1, 2, 1]  # the shortest choice is what all of them start with
        assert shapes[1][1] - shapes[2][1] == long - short

    def test_the_longest_prompts_come_last_so_that_memory_runs_out_late(self, model, tokenizer, monkeypatch) -> None:
        shapes = _record(model, monkeypatch)
        _choose(model, tokenizer, choices=[["Q", "W"]] * len(PROMPTS), batch_size=3, tie_margin=0)
        widths = [width for _, width in shapes]
        assert widths == sorted(widths, reverse=True)
        assert len(widths) > 3

    def test_a_progress_bar_goes_to_stdout_or_cannot_be_silenced(self, model, tokenizer, capsys, monkeypatch) -> None:
        monkeypatch.setattr("muscle_hf.progress._SECONDS_BETWEEN_LINES", 0)
        _choose(model, tokenizer, show_progress=True, description="Asking v1")
        shown = capsys.readouterr()
        assert shown.out == ""
        assert re.search(r"Asking v1: (\d+) of \1 after 00:0", shown.err)
        _choose(model, tokenizer)
        assert capsys.readouterr() == ("", "")


def test_training_goes_on_in_another_state(tokenizer) -> None:
    base = tiny_llama(seed=3, tokenizer=tokenizer)
    model = tiny_adapter(base, seed=5, lora_dropout=0.5)
    expected = _choose(model, tokenizer)
    model.train()
    model.get_base_model().model.layers[0].eval()
    model.config.use_cache = False
    (getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable)()
    checkpointing = [vars(module).get("gradient_checkpointing") for module in model.modules()]
    modes = [module.training for module in model.modules()]
    tokenizer.padding_side, tokenizer.pad_token = "right", None
    for scores, same in zip(_choose(model, tokenizer).scores, expected.scores, strict=True):
        np.testing.assert_array_equal(scores, same)
    assert [module.training for module in model.modules()] == modes
    assert model.config.use_cache is False
    assert [vars(module).get("gradient_checkpointing") for module in model.modules()] == checkpointing
    assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", None)
    assert torch.is_grad_enabled()
    loss = model(**tokenizer(PROMPTS[0], return_tensors="pt"), use_cache=False).logits.sum()
    loss.backward()  # what was cached while asking can be trained with


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _no_call(self, model, monkeypatch) -> None:
        """Every refusal comes before the model is asked anything."""
        monkeypatch.setattr(model, "forward", lambda *args, **kwargs: pytest.fail("the model was asked"))

    def test_a_choice_is_cut_silently(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match="prompt 1 has 1 tokens, and its answer may take 131 more"):
            _choose(model, tokenizer, ["a", "a"], [["Z"], ["Z", "Z" * 130]])

    def test_an_empty_prompt_fails_inside_the_model(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match="prompt 1 has no tokens"):
            _choose(model, tokenizer, ["a", "  "], [["b"], ["c"]])

    def test_an_empty_prompt_is_refused_although_there_is_a_beginning(self) -> None:
        tokenizer = tiny_tokenizer(add_beginning=True)
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        assert len(_choose(model, tokenizer, [""], [["b", "c"]]).indices) == 1

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ([["b"]], "2 prompts but 1 lists"),
            ([["b"], []], "prompt 1 has no choices"),
            ([["b"], "yes"], "choices of prompt 1 are 'yes'"),
            ([["b"], ["c", None]], "choices of prompt 1"),
            ([["Z"], ["Z", ""]], "choice '' of prompt 1 adds no token"),
        ],
    )
    def test_choices_that_cannot_be_chosen_get_a_score(self, model, tokenizer, choices, message) -> None:
        with pytest.raises(InputError, match=message):
            _choose(model, tokenizer, ["a", "a"], choices, delimiter="")

    def test_an_empty_choice_is_divided_by_its_zero_characters(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match="prompt 0 has an empty choice"):
            _choose(model, tokenizer, ["a"], [["b", ""]], normalization="characters")

    @pytest.mark.parametrize("value", ["8", 2.5, True, None, float("nan"), 0])
    def test_a_batch_size_without_meaning_is_accepted(self, model, tokenizer, value) -> None:
        with pytest.raises(ConfigurationError, match=f"batch_size is {value!r}; it must be an int"):
            _choose(model, tokenizer, batch_size=value)

    @pytest.mark.parametrize("value", ["0.1", True, float("nan"), 1j, -1.0])
    def test_a_tie_margin_without_meaning_is_accepted(self, model, tokenizer, value) -> None:
        with pytest.raises(ConfigurationError, match=r"tie_margin is .*; it must be a number"):
            _choose(model, tokenizer, tie_margin=value)

    def test_an_unknown_normalization_is_taken_for_the_sum(self, model, tokenizer) -> None:
        with pytest.raises(ConfigurationError, match="normalization is 'tokens'"):
            _choose(model, tokenizer, normalization="tokens")


def test_nan_scores_become_an_answer(tokenizer) -> None:
    model = tiny_llama(seed=3, tokenizer=tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="prompt 0 are NaN"):
        _choose(model, tokenizer)
