"""Answers are compared with a model asked one question at a time, in full, without padding and without a cache."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from other_tokenizers import sentencepiece_tokenizer
from questions import BATCH_SIZES, PROMPTS, no_logged_warnings, one_thread
from tiny_classifiers import tiny_classifier
from tiny_models import CHAT_TEMPLATE, tiny_adapter, tiny_llama, tiny_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import GenerationConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import muscle_hf.prediction.generate
from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.prediction.generate import Answers, continuation, generate_answers


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    with one_thread(), no_logged_warnings():
        yield


@pytest.fixture(name="tokenizer")
def _tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="module", name="usual_token")
def _usual_token() -> int:
    """A token that the model really comes to: to the tokenizer's end token it hardly ever does."""
    tokenizer = tiny_tokenizer()
    model = tiny_llama(seed=3, tokenizer=tokenizer)
    tokens = [token for prompt in PROMPTS for token in _reference(model, tokenizer, prompt, 8, ends=[])[0]]
    return max(set(tokens), key=tokens.count)


@pytest.fixture(name="model")
def _model(tokenizer: PreTrainedTokenizerFast, usual_token: int) -> LlamaForCausalLM:
    model = tiny_llama(seed=3, tokenizer=tokenizer)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, usual_token]
    return model


def _reference(
    model: Any, tokenizer: PreTrainedTokenizerFast, prompt: str, steps: int, ends: list[int]
) -> tuple[list[int], float]:
    row, answer, log_likelihood = tokenizer(prompt)["input_ids"], [], 0.0
    for _ in range(steps):
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([row + answer])).logits[0, -1].double().log_softmax(-1)
        token = int(logs.argmax())
        log_likelihood += float(logs[token])
        if token in ends:
            break
        answer.append(token)
    return answer, log_likelihood


def _generate(model: Any, tokenizer: Any, prompts: Any = PROMPTS, **options: Any) -> Answers:
    return generate_answers(model, tokenizer, prompts, **{"max_new_tokens": 8, "show_progress": False} | options)


def _disturb(model: LlamaForCausalLM, size: float) -> None:
    """Make every batch of more than one row round differently, as kernels do, but far worse."""

    def hook(module: object, inputs: object, logits: torch.Tensor) -> torch.Tensor:
        if logits.shape[0] == 1:
            return logits
        generator = torch.Generator().manual_seed(logits.shape[0])
        return logits + size * (2 * torch.rand(logits.shape, generator=generator) - 1)

    model.lm_head.register_forward_hook(hook)


class TestGenerate:
    @pytest.mark.slow
    @pytest.mark.parametrize("batch_size", BATCH_SIZES)
    def test_an_answer_is_not_what_the_model_says_alone(self, model, tokenizer, batch_size) -> None:
        answers = _generate(model, tokenizer, batch_size=batch_size)
        expected = [_reference(model, tokenizer, one, 8, model.generation_config.eos_token_id) for one in PROMPTS]
        assert answers.texts == [tokenizer.decode(tokens, skip_special_tokens=True) for tokens, _ in expected]
        np.testing.assert_allclose(answers.log_likelihoods, [value for _, value in expected], rtol=1e-5)

    def test_an_answer_runs_past_its_end_token_or_leaves_it_out_of_the_likelihood(self, model, tokenizer) -> None:
        answers = _generate(model, tokenizer, max_new_tokens=8)
        expected = [_reference(model, tokenizer, one, 8, model.generation_config.eos_token_id)[0] for one in PROMPTS]
        assert answers.finished.tolist() == [len(tokens) < 8 for tokens in expected]
        assert answers.token_counts.tolist() == [min(len(tokens) + 1, 8) for tokens in expected]
        assert answers.finished.any()
        assert not answers.finished.all()
        assert len(set(answers.token_counts.tolist())) > 2
        np.testing.assert_array_equal(answers.mean_log_likelihoods, answers.log_likelihoods / answers.token_counts)

    def test_the_end_token_of_the_tokenizer_is_missed_where_the_model_names_another(self, model, tokenizer) -> None:
        expected = _generate(model, tokenizer)
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id[1])
        model.generation_config.eos_token_id = 2
        answers = _generate(model, tokenizer)
        assert answers.finished.tolist() == expected.finished.tolist()

    def test_a_model_without_any_end_token_cannot_answer(self, model, tokenizer) -> None:
        model.generation_config.eos_token_id = None
        tokenizer.eos_token = None
        answers = _generate(model, tokenizer, batch_size=7)
        assert not answers.finished.any()
        assert answers.token_counts.tolist() == [8] * len(PROMPTS)

    @pytest.mark.slow
    def test_a_near_tie_is_decided_by_the_batch_size(self, tokenizer) -> None:
        # All logits lie within a thousandth, so that rounding of 1e-4 decides often.
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        with torch.no_grad():
            model.model.norm.weight.mul_(5e-4)
        alone = _generate(model, tokenizer, batch_size=1)
        _disturb(model, 1e-4)
        assert _generate(model, tokenizer, batch_size=7, tie_margin=0).texts != alone.texts
        for batch_size in (2, 5, 64):
            answers = _generate(model, tokenizer, batch_size=batch_size)
            assert answers.texts == alone.texts
            np.testing.assert_allclose(answers.log_likelihoods, alone.log_likelihoods, atol=8 * 4e-4)

    @pytest.mark.slow
    def test_exact_ties_are_decided_by_the_batch_size(self, tokenizer) -> None:
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        with torch.no_grad():
            model.model.norm.weight.zero_()
        alone = _generate(model, tokenizer, batch_size=1)
        _disturb(model, 1e-4)
        assert _generate(model, tokenizer, batch_size=3).texts == alone.texts

    @pytest.mark.slow
    def test_half_precision_is_asked_again_without_being_told(self, model, tokenizer, monkeypatch) -> None:
        rows: list[int] = []
        original = muscle_hf.prediction.generate._generate
        monkeypatch.setattr(
            muscle_hf.prediction.generate, "_generate", lambda *args: rows.append(len(args[1])) or original(*args)
        )
        _generate(model.bfloat16(), tokenizer, batch_size=6)
        assert rows == [6, 6]
        with torch.autocast("cpu", torch.bfloat16):
            _generate(model.float(), tokenizer, batch_size=6)
        assert rows == [6, 6] * 2
        _generate(model, tokenizer, batch_size=6, tie_margin=0.1)
        assert len(rows) > 6
        assert set(rows[4:]) == {6, 1}

    def test_the_order_of_the_prompts_is_lost(self, model, tokenizer) -> None:
        answers = _generate(model, tokenizer, batch_size=3)
        backwards = _generate(model, tokenizer, PROMPTS[::-1], batch_size=3)
        assert backwards.texts[::-1] == answers.texts
        assert len(set(answers.texts)) > len(set(PROMPTS)) // 2

    def test_equal_prompts_get_different_answers(self, model, tokenizer) -> None:
        answers = _generate(model, tokenizer, [PROMPTS[0], PROMPTS[1], PROMPTS[0]], batch_size=2)
        assert answers.texts[0] == answers.texts[2]

    def test_the_longest_prompts_come_last_so_that_memory_runs_out_late(self, model, tokenizer, monkeypatch) -> None:
        lengths: list[int] = []
        original = muscle_hf.prediction.generate._generate
        monkeypatch.setattr(
            muscle_hf.prediction.generate,
            "_generate",
            lambda *args: lengths.extend(map(len, args[1])) or original(*args),
        )
        _generate(model, tokenizer, tie_margin=0, batch_size=3)
        assert lengths == sorted(lengths, reverse=True)
        assert len(set(lengths)) > 3

    def test_penalties_and_sampling_of_one_model_change_its_answers(self, model, tokenizer) -> None:
        expected = _generate(model, tokenizer)
        model.generation_config = GenerationConfig(
            do_sample=True,
            temperature=3.0,
            top_k=2,
            repetition_penalty=5.0,
            suppress_tokens=list(range(50, 150)),
            max_length=40,
            min_length=30,
            eos_token_id=model.generation_config.eos_token_id,
        )
        assert _generate(model, tokenizer).texts == expected.texts

    def test_a_conversation_is_asked_without_the_generation_prompt_or_with_two_beginnings(self) -> None:
        tokenizer = tiny_tokenizer(add_beginning=True, chat_template=CHAT_TEMPLATE)
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        prompt = [{"role": "user", "content": "which colour?"}]
        answers = _generate(model, tokenizer, [prompt, "which colour?"])
        plain = tiny_tokenizer()  # the same merges, and no beginning of its own
        texts = ["<s>user\nwhich colour?</s><s>assistant\n", "<s>which colour?"]
        assert answers.texts == _generate(model, plain, texts).texts
        assert answers.texts[0] != answers.texts[1]


class TestModelAndTokenizerStayAsTheyWere:
    @pytest.mark.slow
    def test_an_adapter_is_ignored(self, tokenizer) -> None:
        base = tiny_llama(seed=3, tokenizer=tokenizer)
        before = _generate(base, tokenizer).texts
        model = tiny_adapter(base, seed=5)
        adapted = _generate(model, tokenizer).texts
        expected = [_reference(model, tokenizer, prompt, 8, [tokenizer.eos_token_id])[0] for prompt in PROMPTS]
        assert adapted == [tokenizer.decode(tokens, skip_special_tokens=True) for tokens in expected]
        assert adapted != before
        with model.disable_adapter():
            assert _generate(model, tokenizer).texts == before

    @pytest.mark.parametrize("fails", [False, True])
    def test_training_goes_on_in_another_state(self, tokenizer, fails, monkeypatch) -> None:
        base = tiny_llama(seed=3, tokenizer=tokenizer)
        base.generation_config.temperature = 0.7
        model = tiny_adapter(base, seed=5, lora_dropout=0.5)
        expected = _generate(model, tokenizer).texts
        model.train()
        model.get_base_model().model.layers[0].eval()
        model.config.use_cache = False
        # The second name is the one before transformers 5.23.
        (getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable)()
        checkpointing = [vars(module).get("gradient_checkpointing") for module in model.modules()]
        settings, modes = base.generation_config, [module.training for module in model.modules()]
        frozen = copy.deepcopy(settings.to_dict())
        tokenizer.padding_side, tokenizer.pad_token = "right", None
        if fails:
            monkeypatch.setattr(torch.Tensor, "topk", lambda *args: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                _generate(model, tokenizer)
            monkeypatch.undo()
        else:
            assert _generate(model, tokenizer).texts == expected
        assert [module.training for module in model.modules()] == modes
        assert base.generation_config is settings
        assert settings.to_dict() == frozen
        assert model.config.use_cache is False
        assert [vars(module).get("gradient_checkpointing") for module in model.modules()] == checkpointing
        assert (tokenizer.padding_side, tokenizer.pad_token) == ("right", None)
        assert torch.is_grad_enabled()
        loss = model(**tokenizer(PROMPTS[0], return_tensors="pt"), use_cache=False).logits.sum()
        loss.backward()  # what was cached while asking can be trained with

    def test_settings_on_the_adapter_reach_the_base(self, tokenizer) -> None:
        model = tiny_adapter(tiny_llama(seed=3, tokenizer=tokenizer), seed=5)
        expected = _generate(model, tokenizer).texts
        model.generation_config = GenerationConfig(repetition_penalty=9.0, eos_token_id=tokenizer.eos_token_id)
        assert _generate(model, tokenizer).texts == expected
        assert model.generation_config.repetition_penalty == 9.0

    def test_a_progress_bar_goes_to_stdout_or_cannot_be_silenced(self, model, tokenizer, capsys, monkeypatch) -> None:
        monkeypatch.setattr("muscle_hf.progress._SECONDS_BETWEEN_LINES", 0)
        _generate(model, tokenizer, show_progress=True, description="Asking v1")
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Asking v1: 12 of 12 after 00:0" in shown.err
        _generate(model, tokenizer)
        assert capsys.readouterr() == ("", "")


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _no_call(self, model, monkeypatch) -> None:
        """Every refusal comes before the model is asked anything."""
        monkeypatch.setattr(model, "forward", lambda *args, **kwargs: pytest.fail("the model was asked"))

    @pytest.mark.parametrize("prompts", [[], "one text"])
    def test_no_prompts_or_one_string_are_taken_for_prompts(self, model, tokenizer, prompts) -> None:
        with pytest.raises(InputError, match="at least one prompt"):
            _generate(model, tokenizer, prompts)

    def test_a_name_or_a_classifier_is_taken_for_a_loaded_model(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match=r"model is 'org/model'; give a loaded one"):
            _generate("org/model", tokenizer)
        with pytest.raises(InputError, match="BertForSequenceClassification writes no answers; give a language model"):
            _generate(tiny_classifier(1, tokenizer), tokenizer)
        with pytest.raises(InputError, match=r"tokenizer is None; give a loaded one"):
            _generate(model, None)

    def test_a_prompt_is_cut_silently(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match=r"prompt 1 has 140 tokens, and its answer may take 8 more.*holds 128"):
            _generate(model, tokenizer, ["a", "Z" * 140])

    def test_a_prompt_that_just_fits_is_refused(self, tokenizer) -> None:
        model = tiny_llama(seed=3, tokenizer=tokenizer, context_length=12)
        assert _generate(model, tokenizer, ["ZZZZ"], max_new_tokens=8).token_counts[0] > 0
        with pytest.raises(InputError, match="prompt 0 has 5 tokens"):
            _generate(model, tokenizer, ["ZZZZZ"], max_new_tokens=8)

    def test_an_empty_prompt_fails_inside_the_model(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match="prompt 1 has no tokens"):
            _generate(model, tokenizer, ["a", ""])

    def test_an_empty_prompt_is_refused_although_there_is_a_beginning(self) -> None:
        tokenizer = tiny_tokenizer(add_beginning=True)
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        assert len(_generate(model, tokenizer, [""]).texts) == 1

    @pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"batch_size": 0}, {"tie_margin": -1.0}])
    def test_options_without_meaning_are_accepted(self, model, tokenizer, options) -> None:
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            _generate(model, tokenizer, **options)

    @pytest.mark.parametrize("name", ["max_new_tokens", "batch_size"])
    @pytest.mark.parametrize("value", ["8", 2.5, True, None, float("nan")])
    def test_a_count_of_another_type_fails_without_naming_the_option(self, model, tokenizer, name, value) -> None:
        with pytest.raises(ConfigurationError, match=f"{name} is {value!r}; it must be an int"):
            _generate(model, tokenizer, **{name: value})

    @pytest.mark.parametrize("value", ["0.1", True, float("nan"), 1j])
    def test_a_tie_margin_that_is_no_number_fails_without_naming_the_option(self, model, tokenizer, value) -> None:
        with pytest.raises(ConfigurationError, match=r"tie_margin is .*; it must be a number"):
            _generate(model, tokenizer, tie_margin=value)

    def test_the_tokenizer_of_a_larger_model_indexes_out_of_the_embeddings(self, model, tokenizer) -> None:
        tokenizer.add_tokens(["<new>"])
        with pytest.raises(InputError, match=r"prompt 1 holds the token id 320.*320 embeddings"):
            _generate(model, tokenizer, ["a", "<new>"])

    def test_a_tokenizer_that_ends_every_prompt_asks_after_the_end(self, model, tokenizer) -> None:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", tokenizer.eos_token_id)]
        )
        with pytest.raises(InputError, match="puts its end token '</s>' after every text"):
            _generate(model, tokenizer)

    def test_a_conversation_without_template_or_a_number_is_asked(self, model, tokenizer) -> None:
        with pytest.raises(InputError, match="prompt 0 is a conversation, but the tokenizer has no chat template"):
            _generate(model, tokenizer, [[{"role": "user", "content": "a"}]])
        with pytest.raises(InputError, match="prompt 1 is 3"):
            _generate(model, tokenizer, ["a", 3])

    def test_a_chat_template_that_fails_ends_in_its_own_error(self, model) -> None:
        tokenizer = tiny_tokenizer(chat_template="{{ raise_exception('no system') if messages[1:] }}a")
        turn = {"role": "user", "content": "a"}
        with pytest.raises(InputError, match="prompt 1 cannot be written by the tokenizer's chat template: no system"):
            _generate(model, tokenizer, [[turn], [turn, turn]])


def test_nan_scores_become_an_answer(tokenizer) -> None:
    model = tiny_llama(seed=3, tokenizer=tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="prompt 0 are NaN"):
        _generate(model, tokenizer)


def test_the_space_before_an_answer_is_kept_where_a_tokenizer_drops_it_at_the_start() -> None:
    tokenizer = sentencepiece_tokenizer()
    prompt, whole = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("the lake", "the lake the lake")
    )
    answer = whole[len(prompt) :]
    assert tokenizer.decode(answer) == "the lake"
    assert continuation(tokenizer, prompt, answer) == " the lake"
