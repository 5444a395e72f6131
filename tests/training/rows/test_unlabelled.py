"""Unlabelled prompts: who answers, what is kept on disk, and how many rows are mixed in."""

import errno
import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CHAT_TEMPLATE, TEXTS, tiny_llama, tiny_tokenizer
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from muscle_hf.errors import ConfigurationError, InputError
from muscle_hf.losses.compatibility import NEW, OLD, PRODUCT
from muscle_hf.prediction.generate import Answers, generate_answers
from muscle_hf.training.rows.unlabelled import (
    answered_rows,
    check_unlabelled,
    mixed,
    rows_to_mix_in,
    warn_about_weights,
    with_given_teachers,
)

MODELS = {"old": "v1", "new": "v2"}


@pytest.fixture(autouse=True, scope="module")
def _no_progress_bars() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


class Model:
    """Answers with its name and the prompt, and remembers what it was asked."""

    def __init__(
        self, name: str, totals: dict[str, float] | None = None, counts: dict[str, int] | None = None
    ) -> None:
        self.name = name
        self.totals, self.counts = totals or {}, counts or {}
        self.unfinished: set[str] = set()
        self.asked: list[list[Any]] = []

    def __call__(self, prompts: Sequence[Any]) -> Answers:
        self.asked.append(list(prompts))
        texts = [one if isinstance(one, str) else one[-1]["content"] for one in prompts]
        return Answers(
            texts=[f" {self.name}: {text}\n" for text in texts],
            log_likelihoods=np.array([self.totals.get(text, -1.0) for text in texts]),
            token_counts=np.array([self.counts.get(text, 1) for text in texts], dtype=np.int64),
            finished=np.array([text not in self.unfinished for text in texts]),
        )


def _flat(model: Model) -> list[str]:
    return [prompt for some in model.asked for prompt in some]


def _prompts(*texts: str) -> Dataset:
    return Dataset.from_dict({"prompt": list(texts)})


def _chats(*texts: str) -> Dataset:
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in texts]})


def _answer(dataset: Dataset, folder: Path, **options: Any) -> Dataset:
    nobody = {"ask_old": lambda prompts: pytest.fail("asked"), "ask_new": lambda prompts: pytest.fail("asked")}
    given = {"teacher": "old", "fingerprint": MODELS, "block_size": 32, "show_progress": False}
    return answered_rows(dataset, folder=folder, **nobody | given | options)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestWhoAnswers:
    @pytest.mark.parametrize(("teacher", "name", "number"), [("old", "v1", OLD), ("new", "v2", NEW)])
    def test_the_other_model_is_asked_or_learned_from(self, tmp_path, teacher, name, number) -> None:
        models = {"old": Model("v1"), "new": Model("v2")}
        rows = _answer(
            _prompts("a", "b"), tmp_path, teacher=teacher, ask_old=models["old"], ask_new=models["new"]
        ).to_list()
        assert rows == [{"prompt": one, "completion": f" {name}: {one}\n", "teacher": number} for one in ("a", "b")]
        assert {role: len(model.asked) for role, model in models.items()} == {"old": 0, "new": 0} | {teacher: 1}

    def test_the_longer_answer_counts_as_less_sure_or_a_tie_goes_to_the_new_model(self, tmp_path) -> None:
        # Per token: a -2 against -3, b -2 against -1, c -0.5 against -0.5. By sums b would go to the old model.
        old = Model("v1", {"a": -4.0, "b": -2.0, "c": -0.5}, {"a": 2, "b": 1, "c": 1})
        new = Model("v2", {"a": -3.0, "b": -4.0, "c": -1.0}, {"a": 1, "b": 4, "c": 2})
        rows = _answer(_prompts("a", "b", "c"), tmp_path, teacher="more_confident", ask_old=old, ask_new=new)
        assert rows["teacher"][:] == [OLD, NEW, OLD]
        assert rows["completion"][:] == [" v1: a\n", " v2: b\n", " v1: c\n"]

    def test_a_product_learns_from_one_model_or_has_the_answers_of_the_less_sure(self, tmp_path) -> None:
        old, new = Model("v1", {"a": -1.0, "b": -5.0}), Model("v2", {"a": -2.0, "b": -2.0})
        rows = _answer(_prompts("a", "b"), tmp_path, teacher="product", ask_old=old, ask_new=new)
        assert rows["teacher"][:] == [PRODUCT, PRODUCT]
        assert rows["completion"][:] == [" v1: a\n", " v2: b\n"]
        log = Dataset.from_dict({"prompt": ["a"], "completion": ["x"]})
        assert _answer(log, tmp_path, teacher="product").to_list() == [
            {"prompt": "a", "completion": "x", "teacher": PRODUCT}
        ]

    def test_the_surer_of_two_real_models_is_not_found(self, tmp_path) -> None:
        tokenizer = tiny_tokenizer()
        models = {sureness: _chain(tokenizer, ["sky: blue"], sureness) for sureness in (3.0, 9.0)}
        asks = {sureness: _asking(model, tokenizer) for sureness, model in models.items()}
        dataset = _prompts("the sky:")
        for old, new, teacher in ((9.0, 3.0, OLD), (3.0, 9.0, NEW)):
            rows = _answer(
                dataset, tmp_path / str(old), teacher="more_confident", ask_old=asks[old], ask_new=asks[new]
            ).to_list()
            assert rows == [{"prompt": "the sky:", "completion": " blue", "teacher": teacher}]
        # Every step's logits are the sureness once and 0 elsewhere.
        (kept,) = _kept(tmp_path / "9.0", "old")
        expected = 9.0 - np.log(np.exp(9.0) + len(tokenizer) - 1)
        assert kept["log_likelihood"] / kept["tokens"] == pytest.approx(expected, rel=1e-2)

    def test_an_unfinished_answer_teaches_to_stop_halfway(self, tmp_path, caplog) -> None:
        old = Model("v1")
        old.unfinished = {"b"}
        rows = _answer(_prompts("a", "b", "c"), tmp_path, ask_old=old)
        assert rows["prompt"][:] == ["a", "c"]
        assert "1 of 3 answers to unlabelled_dataset did not end within unlabelled_max_new_tokens" in caplog.text

    def test_only_the_chosen_answer_has_to_end(self, tmp_path) -> None:
        old, new = Model("v1", {"a": -1.0, "b": -5.0}), Model("v2", {"a": -2.0, "b": -2.0})
        new.unfinished = {"a", "b"}
        rows = _answer(_prompts("a", "b"), tmp_path, teacher="more_confident", ask_old=old, ask_new=new)
        assert rows["prompt"][:] == ["a"]

    def test_no_finished_answer_gives_an_empty_data_set(self, tmp_path) -> None:
        old = Model("v1")
        old.unfinished = {"a"}
        with pytest.raises(InputError, match=r"1 of 1 answers .* leaves nothing to learn"):
            _answer(_prompts("a"), tmp_path, ask_old=old)

    def test_rows_are_asked_that_an_epoch_does_not_have(self, tmp_path) -> None:
        names, old, new = "abcdefghij", Model("v1"), Model("v2")
        rows = _answer(_prompts(*names), tmp_path, teacher="product", ask_old=old, ask_new=new, needed=4, seed=7)
        # The rows that were drawn from the answers to all of them, before only what is drawn was asked.
        as_before = [names[row] for row in rows_to_mix_in(2, 10, 2.0, seed=7)]
        assert rows["prompt"][:] == as_before
        assert sorted(_flat(old)) == sorted(_flat(new)) == as_before

    def test_a_log_is_drawn_from_otherwise_than_prompts(self, tmp_path) -> None:
        log = Dataset.from_dict({"prompt": list("abcdefghij"), "completion": list("ABCDEFGHIJ")})
        rows = _answer(log, tmp_path, needed=4, seed=7)
        assert rows["completion"][:] == ["ABCDEFGHIJ"[row] for row in rows_to_mix_in(2, 10, 2.0, seed=7)]

    def test_an_answer_without_end_costs_a_row_of_the_epoch(self, tmp_path, caplog) -> None:
        drawn, names = np.random.default_rng(7).permutation(10)[:6], "abcdefghij"
        old = Model("v1")
        old.unfinished = {names[drawn[0]], names[drawn[4]]}
        rows = _answer(_prompts(*names), tmp_path, ask_old=old, needed=4, seed=7)
        assert rows["prompt"][:] == sorted(names[row] for row in drawn[[1, 2, 3, 5]])
        assert sorted(_flat(old)) == sorted(names[row] for row in drawn)
        assert "2 of 6 answers to unlabelled_dataset did not end" in caplog.text

    def test_a_log_of_prompts_is_asked_to_its_end_where_no_answer_ends(self, tmp_path) -> None:
        old = Model("v1")
        old.unfinished = {*"abcdefghij"}
        with pytest.raises(InputError, match=r"4 of 4 answers .* leaves nothing to learn"):
            _answer(_prompts(*"abcdefghij"), tmp_path, ask_old=old, needed=4)

    def test_an_empty_answer_is_lost(self, tmp_path) -> None:
        def silent(prompts: Sequence[Any]) -> Answers:
            return Answers([""], np.array([-0.1]), np.array([1]), np.array([True]))

        rows = _answer(_prompts("a"), tmp_path, ask_old=silent)
        assert rows.to_list() == [{"prompt": "a", "completion": "", "teacher": OLD}]

    def test_a_conversation_gets_a_text_that_trl_cannot_add_to_it(self, tmp_path) -> None:
        rows = _answer(_chats("hello"), tmp_path, ask_old=Model("v1"))
        assert rows[0]["completion"] == [{"role": "assistant", "content": " v1: hello\n"}]
        assert rows[0]["prompt"] == [{"role": "user", "content": "hello"}]


class TestLog:
    def test_the_answers_of_a_log_are_asked_again(self, tmp_path) -> None:
        log = Dataset.from_dict({"prompt": ["a", "b"], "completion": [" x", ""], "date": [1, 2]})
        rows = _answer(log, tmp_path, ask_old=lambda prompts: pytest.fail("asked"))
        assert rows.to_list() == [
            {"prompt": "a", "completion": " x", "teacher": OLD},
            {"prompt": "b", "completion": "", "teacher": OLD},
        ]
        assert _files(tmp_path) == []

    def test_a_log_of_conversations_may_hold_texts_or_messages(self, tmp_path) -> None:
        messages = [[{"role": "assistant", "content": "x"}]]
        for completion in (["x"], messages):
            rows = _answer(_chats("a").add_column("completion", completion), tmp_path)
            assert rows["completion"][:] == messages

    @pytest.mark.parametrize("teacher", ["new", "more_confident"])
    def test_another_teacher_is_said_to_have_given_the_answers_of_a_log(self, teacher) -> None:
        log = Dataset.from_dict({"prompt": ["a"], "completion": ["x"]})
        with pytest.raises(ConfigurationError, match=f'taken for the old model.*unlabelled_teacher="?.?{teacher}'):
            check_unlabelled(log, teacher=teacher)

    def test_a_row_of_a_log_without_answer_is_learned_from(self) -> None:
        log = Dataset.from_dict({"prompt": ["a", "b"], "completion": ["x", None]})
        with pytest.raises(InputError, match="row 1: completion is None"):
            check_unlabelled(log, teacher="old")
        log = _prompts("a").add_column("completion", [[{"role": "assistant", "content": "x"}]])
        assert check_unlabelled(log, teacher="old").to_list() == [{"prompt": "a", "completion": "x"}]


class TestKept:
    def test_prompts_are_asked_twice(self, tmp_path) -> None:
        old = Model("v1")
        first = _answer(_prompts("a", "b", "a"), tmp_path, ask_old=old)
        assert sorted(chain(*old.asked)) == ["a", "b"]
        again = _answer(_prompts("a", "b", "a"), tmp_path)  # without a model
        assert again.to_list() == first.to_list()
        assert len(again) == 3

    def test_one_more_prompt_asks_all_of_them_again(self, tmp_path) -> None:
        _answer(_prompts("a", "b"), tmp_path, ask_old=Model("v1"))
        old = Model("v1")
        rows = _answer(_prompts("c", "b", "a"), tmp_path, ask_old=old)
        assert old.asked == [["c"]]
        assert rows["completion"][:] == [" v1: c\n", " v1: b\n", " v1: a\n"]

    def test_a_killed_run_asks_everything_again_or_keeps_half_a_block(self, tmp_path) -> None:
        texts = [f"{'x' * (index % 5)}{index}" for index in range(10)]
        whole = _answer(_prompts(*texts), tmp_path / "whole", ask_old=Model("v1"), block_size=3)
        killed = Model("v1")

        def ask(prompts: Sequence[Any]) -> Answers:
            if len(killed.asked) == 2:
                raise KeyboardInterrupt
            return killed(prompts)

        with pytest.raises(KeyboardInterrupt):
            _answer(_prompts(*texts), tmp_path / "out", ask_old=ask, block_size=3)
        assert len(_kept(tmp_path / "out", "old")) == 6
        resumed = Model("v1")
        rows = _answer(_prompts(*texts), tmp_path / "out", ask_old=resumed, block_size=3)
        assert rows.to_list() == whole.to_list()
        assert sorted(chain(*killed.asked, *resumed.asked)) == sorted(texts)

    def test_a_kill_while_writing_leaves_a_block_that_cannot_be_read(self, tmp_path, monkeypatch) -> None:
        # A full disk leaves what is there, and no half line; Ctrl-C what was written by then.
        for failure, kept in ((OSError(errno.ENOSPC, "No space left on device"), 0), (KeyboardInterrupt(), 1)):

            def fails(descriptor: int, failure: BaseException = failure) -> None:
                raise failure

            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", fails)
                with pytest.raises(type(failure)):
                    _answer(_prompts("a", "c"), tmp_path, ask_old=Model("v1"), block_size=1)
            assert len(_kept(tmp_path, "old")) == kept
        assert len(_answer(_prompts("a", "c"), tmp_path, ask_old=Model("v1"))) == 2
        whole = _kept(tmp_path, "old")
        # A kill leaves a line without its end: it is asked again, whatever it says, with its whole batch, in which a
        # figure may be rounded otherwise than alone.
        (path,) = tmp_path.rglob("answers.jsonl")
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(whole[0] | {"prompt": "b"}))
        old = Model("v1")
        assert len(_answer(_prompts("a", "b"), tmp_path, ask_old=old)) == 2
        assert old.asked == [["a", "b"]] and [row["prompt"] for row in _kept(tmp_path, "old")] == ["a", "c", "b"]
        path.write_bytes(path.read_bytes()[:10])
        assert len(_answer(_prompts("a", "b"), tmp_path, ask_old=Model("v1"))) == 2

    def test_a_cut_batch_is_asked_in_others_or_all_before_it_again(self, tmp_path) -> None:
        _answer(_prompts(*"abcdefg"), tmp_path, ask_old=Model("v1"), block_size=3)
        (path,) = tmp_path.rglob("answers.jsonl")
        whole = path.read_bytes()
        path.write_bytes(b"\n".join(whole.splitlines()[:5])[:-1])  # the fifth lacks its end
        (said,) = tmp_path.rglob("decided_by.json")
        before = said.read_bytes()
        said.write_bytes(before[:9])
        old = Model("v1")
        _answer(_prompts(*"abcdefg"), tmp_path, ask_old=old, block_size=3)
        assert old.asked == [["d", "e", "f"], ["g"]]
        assert (path.read_bytes(), said.read_bytes()) == (whole, before)

    def test_real_answers_change_when_they_are_kept_or_resumed(self, tmp_path) -> None:
        tokenizer = tiny_tokenizer()
        model = tiny_llama(seed=3, tokenizer=tokenizer)
        prompts = [text[: 5 + 3 * index] for index, text in enumerate(TEXTS)]
        ask = _asking(model, tokenizer, max_new_tokens=4, batch_size=1)
        # The token that answers begin with most often becomes an end token, or no answer would end.
        begins = [tokenizer(text)["input_ids"][0] for text in ask(prompts).texts]
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, max(set(begins), key=begins.count)]
        alone = ask(prompts)
        ended = [index for index, finished in enumerate(alone.finished) if finished]
        assert 0 < len(ended) < len(prompts)
        ask = _asking(model, tokenizer, max_new_tokens=4)
        for path, block_size in ((tmp_path / "small", 2), (tmp_path / "large", 256)):
            for _ in range(2):
                rows = _answer(_prompts(*prompts), path, ask_old=ask, block_size=block_size)
                assert rows["prompt"][:] == [prompts[index] for index in ended]
                assert rows["completion"][:] == [alone.texts[index] for index in ended]
        kept = {row["prompt"]: row["log_likelihood"] for row in _kept(tmp_path / "small", "old")}
        np.testing.assert_allclose([kept[prompt] for prompt in prompts], alone.log_likelihoods, rtol=1e-5)

    def test_answers_of_another_model_are_used(self, tmp_path, caplog) -> None:
        fingerprint = MODELS | {"max_new_tokens": 64}
        _answer(_prompts("a"), tmp_path, ask_old=Model("v1"), fingerprint=fingerprint)
        assert not caplog.records
        rows = _answer(_prompts("a"), tmp_path, ask_old=Model("v0"), fingerprint=fingerprint | {"old": "v0"})
        assert rows["completion"][:] == [" v0: a\n"]
        assert "are asked again: old 'v1' there, 'v0' now." in caplog.text
        # Nothing was deleted: going back costs nothing.
        assert _answer(_prompts("a"), tmp_path, fingerprint=fingerprint)["completion"][:] == [" v1: a\n"]

    def test_another_new_model_makes_the_answers_of_the_old_one_worthless(self, tmp_path) -> None:
        _answer(_prompts("a"), tmp_path, ask_old=Model("v1"))
        new = Model("v3", {"a": -9.0})
        rows = _answer(
            _prompts("a"), tmp_path, teacher="more_confident", ask_new=new, fingerprint=MODELS | {"new": "v3"}
        )
        assert rows["teacher"][:] == [OLD]

    def test_a_damaged_file_is_taken_for_answers(self, tmp_path) -> None:
        _answer(_prompts("a"), tmp_path, ask_old=Model("v1"))
        (path,) = tmp_path.rglob("answers.jsonl")
        text = path.read_text(encoding="utf-8")
        path.write_text(text[:-5] + "\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"answers\.jsonl, line 1 is not JSON"):
            _answer(_prompts("a"), tmp_path, ask_old=Model("v1"))
        path.write_text(text + '{"prompt": "b", "completion": "x"}\n', encoding="utf-8")
        with pytest.raises(InputError, match=r"line 2: this is no kept answer, or it is damaged\. Delete the file"):
            _answer(_prompts("a"), tmp_path, ask_old=Model("v1"))

    def test_line_separators_and_other_alphabets_break_a_line(self, tmp_path) -> None:
        texts = ["a\u2028b\r\nc", "日本\x85語", '"\\']
        _answer(_prompts(*texts), tmp_path, ask_old=Model("v1"))
        assert _answer(_prompts(*texts), tmp_path)["completion"][:] == [f" v1: {text}\n" for text in texts]

    def test_conversations_that_differ_only_in_filled_up_fields_are_asked_twice(self, tmp_path) -> None:
        _answer(_chats("a"), tmp_path, ask_old=Model("v1"))
        padded = Dataset.from_dict({"prompt": [[{"role": "user", "content": "a", "name": None}]]})
        assert len(_answer(padded, tmp_path)) == 1

    def test_the_longest_prompt_runs_out_of_memory_late(self, tmp_path) -> None:
        old = Model("v1")
        _answer(_prompts("a", "ccc", "bb"), tmp_path, ask_old=old, block_size=2)
        assert old.asked == [["ccc", "bb"], ["a"]]

    def test_progress_goes_to_stdout_or_cannot_be_silenced(self, tmp_path, capsys, monkeypatch) -> None:
        monkeypatch.setattr("muscle_hf.progress._SECONDS_BETWEEN_LINES", 0)
        _answer(_prompts("a", "b"), tmp_path, ask_old=Model("v1"), show_progress=True)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Answers of the old model: 2 of 2 answers" in shown.err
        # What is kept counts as done.
        _answer(_prompts("a", "b", "d"), tmp_path, ask_old=Model("v1"), show_progress=True)
        assert "Answers of the old model: 3 of 3 answers" in capsys.readouterr().err
        _answer(_prompts("a", "c"), tmp_path, ask_old=Model("v1"))
        _answer(_prompts("a", "c"), tmp_path, show_progress=True)  # nothing is asked
        assert capsys.readouterr() == ("", "")


class TestRefusals:
    @pytest.mark.parametrize(
        ("dataset", "message"),
        [
            (_prompts("a").to_iterable_dataset(), "is a stream"),
            (DatasetDict(train=_prompts("a")), "is a DatasetDict"),
            ([{"prompt": "a"}], "is a list"),
            (Dataset.from_dict({"text": ["a"]}), "has the columns text, which is no shape that is known"),
            (Dataset.from_dict({"prompt": []}), "has no rows"),
            (_prompts("a", ""), "row 1: prompt is ''"),
            (Dataset.from_dict({"prompt": [3]}), "row 0: prompt is 3"),
            (Dataset.from_dict({"prompt": ["a", "b", None]}), "row 2: prompt is None"),
            (Dataset.from_dict({"prompt": [[{"role": "user", "content": "a"}], []]}), r"row 1: prompt is \[\]"),
            (
                Dataset.from_dict({"prompt": [[{"from": "robot", "value": "a"}]]}),
                r"row 0: prompt has a turn from 'robot'",
            ),
            (_prompts("a").add_column("tools", ['["add"]']), "row 0 has tools, which the models could not be asked"),
        ],
    )
    def test_rows_that_cannot_be_learned_from_are_accepted(self, tmp_path, dataset, message) -> None:
        with pytest.raises(InputError, match=message):
            check_unlabelled(dataset, teacher="old")
        with pytest.raises(InputError, match=message):
            _answer(dataset, tmp_path, ask_old=Model("v1"))
        assert _files(tmp_path) == []

    def test_a_misspelt_teacher_is_taken_for_another(self) -> None:
        with pytest.raises(ConfigurationError, match=r"unlabelled_teacher='more_confidant'.*'more_confident'\?"):
            check_unlabelled(_prompts("a"), teacher="more_confidant")

    def test_a_prompt_that_does_not_fit_is_named_by_its_number_in_a_block(self, tmp_path) -> None:
        tokenizer = tiny_tokenizer()
        ask = _asking(tiny_llama(seed=3, tokenizer=tokenizer), tokenizer)
        with pytest.raises(InputError, match=r"unlabelled_dataset: row 3 has 140 tokens.*unlabelled_max_new_tokens"):
            _answer(_prompts("a", "b", "a", "Z" * 140), tmp_path, ask_old=ask)

    @pytest.mark.parametrize(("column", "is_told"), [("importance", True), ("other", False), (None, False)])
    def test_weights_of_unlabelled_rows_are_not_read_in_silence(self, caplog, column, is_told) -> None:
        warn_about_weights(Dataset.from_dict({"prompt": ["a"], "importance": [2.0]}), column)
        assert ("The weights of unlabelled_dataset (importance) are not read" in caplog.text) is is_told

    def test_prompts_of_the_training_set_go_unnoticed(self, caplog) -> None:
        labelled = Dataset.from_dict({"prompt": ["a", "b"], "completion": ["x", "y"]})
        check_unlabelled(_prompts("a", "c", "a"), teacher="old", labelled=labelled)
        assert "2 of 3 rows of unlabelled_dataset have a prompt that train_dataset has as well" in caplog.text
        caplog.clear()
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]
        check_unlabelled(_chats("a", "c"), teacher="old", labelled=Dataset.from_dict({"messages": [messages]}))
        assert "1 of 2 rows" in caplog.text
        caplog.clear()
        for other in (None, labelled.to_iterable_dataset(), Dataset.from_dict({"text": ["a"]}), labelled.select([1])):
            check_unlabelled(_prompts("a"), teacher="old", labelled=other)
        assert not caplog.records


class TestTokens:
    """What TRL makes of an answered row has to be what the model has generated."""

    def test_white_space_before_an_answer_is_stripped_or_its_end_is_lost(self, tmp_path) -> None:
        tokenizer = tiny_tokenizer()
        model = _chain(tokenizer, ["sky: blue"])
        rows = _answer(_prompts("the sky:"), tmp_path, ask_old=_asking(model, tokenizer))
        assert rows["completion"][:] == [" blue"]
        (encoded,) = _prepared(rows, tokenizer, tmp_path)
        expected = tokenizer("the sky: blue")["input_ids"] + [tokenizer.eos_token_id]
        prompt = tokenizer("the sky:")["input_ids"]
        assert encoded["input_ids"] == expected
        assert encoded["labels"] == [-100] * len(prompt) + expected[len(prompt) :]
        with torch.no_grad():
            generated = model(input_ids=torch.tensor([expected])).logits[0].argmax(-1).tolist()
        assert generated[len(prompt) - 1 : -1] == expected[len(prompt) :]

    def test_a_conversation_is_trained_on_other_tokens_than_it_was_asked_with(self, tmp_path) -> None:
        tokenizer = tiny_tokenizer(chat_template=CHAT_TEMPLATE)
        model = _chain(tokenizer, ["assistant\nblue"])
        rows = _answer(_chats("the sky?"), tmp_path, ask_old=_asking(model, tokenizer))
        assert rows["completion"][:] == [[{"role": "assistant", "content": "blue"}]]
        (encoded,) = _prepared(rows, tokenizer, tmp_path)
        assert tokenizer.decode(encoded["input_ids"]) == "<s>user\nthe sky?</s><s>assistant\nblue</s>"
        trained = [label for label in encoded["labels"] if label != -100]
        assert trained == [*tokenizer("blue")["input_ids"], tokenizer.eos_token_id]

    def test_a_teacher_is_named_at_some_tokens_only(self) -> None:
        encoded = Dataset.from_dict({"input_ids": [[5, 6, 7], [8]], "teacher": [OLD, NEW]})
        assert with_given_teachers(encoded)["given_teachers"][:] == [[1, 1, 1], [2]]


def _encoded(count: int, role: int, **columns: list[Any]) -> Dataset:
    ids = [[100 * role + index] for index in range(count)]
    given_teachers = {"given_teachers": [[role]] * count} if role else {}
    return Dataset.from_dict({"input_ids": ids, "labels": ids} | given_teachers | columns)


class TestMixed:
    def test_all_unlabelled_rows_are_not_taken_once(self) -> None:
        both = mixed(_encoded(2, 0), _encoded(3, 1), None, seed=0)
        assert both["input_ids"][:] == [[0], [1], [100], [101], [102]]
        assert both["given_teachers"][:] == [[0], [0], [1], [1], [1]]

    @pytest.mark.slow
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 9), st.integers(1, 9), st.floats(0.1, 5), st.integers(0, 2**32 - 1))
    def test_a_row_comes_twice_while_another_waits(self, labelled, unlabelled, ratio, seed) -> None:
        count = round(ratio * labelled)
        if not count:
            return
        ids = [one for (one,) in mixed(_encoded(labelled, 0), _encoded(unlabelled, 1), ratio, seed)["input_ids"]]
        assert ids[:labelled] == list(range(labelled))
        times = Counter(ids[labelled:])
        assert sum(times.values()) == count
        assert set(times) <= set(range(100, 100 + unlabelled))
        assert {times[100 + index] for index in range(unlabelled)} <= {count // unlabelled, -(-count // unlabelled)}

    def test_the_seed_does_not_decide_the_sample(self) -> None:
        def sample(seed: int) -> list[Any]:
            return mixed(_encoded(5, 0), _encoded(90, 1), 2.0, seed)["input_ids"][5:]  # type: ignore[no-any-return]

        assert sample(1) == sample(1)
        assert sample(1) != sample(2)

    def test_the_numbers_are_not_said(self, caplog) -> None:
        caplog.set_level(logging.INFO)
        mixed(_encoded(4, 0), _encoded(3, 1), 2.0, seed=7)
        said = "4 labelled and 8 unlabelled rows an epoch, of 3 unlabelled ones: 2 times all of them, and 2 drawn with"
        assert f"{said} seed 7" in caplog.text

    def test_other_columns_stop_the_mixing_or_travel_along(self) -> None:
        labelled = _encoded(1, 0, prompt=["a"], source=["x"])
        unlabelled = _encoded(1, 1, prompt=[[{"role": "user", "content": "b"}]], teacher=[1])
        both = mixed(labelled, unlabelled, None, seed=0)
        assert both.column_names == ["input_ids", "labels", "given_teachers"]

    def test_weights_of_the_labelled_rows_are_lost_or_fall_on_the_others(self) -> None:
        labelled = _encoded(2, 0, token_weights=[[0.5], [3.0]])
        assert mixed(labelled, _encoded(1, 1), None, seed=0)["token_weights"][:] == [[0.5], [3.0], [1.0]]

    def test_shorter_integers_stop_the_mixing(self) -> None:
        narrow = datasets.List(datasets.Value("int16"))
        labelled = _encoded(1, 0).cast_column("input_ids", narrow)
        assert mixed(labelled, _encoded(1, 1), None, seed=0).features["input_ids"] == narrow

    @pytest.mark.parametrize("ratio", [0, -1.0, float("nan"), float("inf"), True, "2"])
    def test_a_ratio_without_meaning_is_accepted(self, ratio) -> None:
        with pytest.raises(ConfigurationError, match="unlabelled_ratio="):
            mixed(_encoded(1, 0), _encoded(1, 1), ratio, seed=0)

    def test_a_ratio_that_gives_no_row_is_accepted(self) -> None:
        with pytest.raises(ConfigurationError, match="with 2 labelled rows gives no unlabelled row"):
            mixed(_encoded(2, 0), _encoded(9, 1), 0.2, seed=0)


def _chain(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], sureness: float = 20.0) -> LlamaForCausalLM:
    """Return a model that goes on with the next token of a text, and ends after its last."""
    size = len(tokenizer)
    model = tiny_llama(seed=0, tokenizer=tokenizer, hidden_size=4 * -(-size // 4), layers=1, tie_word_embeddings=False)
    head = torch.zeros_like(model.lm_head.weight)
    for text in texts:
        tokens = tokenizer(text)["input_ids"]
        for token, following in zip(tokens, [*tokens[1:], tokenizer.eos_token_id], strict=True):
            head[following, token] = sureness
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, model.config.hidden_size))
        model.model.norm.weight.fill_(model.config.hidden_size**-0.5)  # undoes the norm's scale
        model.lm_head.weight.copy_(head)
    return model


def _asking(model: Any, tokenizer: Any, max_new_tokens: int = 8, batch_size: int = 32) -> Any:
    options = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "show_progress": False}
    return lambda prompts: generate_answers(model, tokenizer, prompts, **options)


def _kept(folder: Path, role: str) -> list[dict[str, Any]]:
    lines = [path.read_text("utf-8").split("\n") for path in sorted(folder.glob(f"{role}-*/answers.jsonl"))]
    return [json.loads(line) for line in chain(*lines) if line]


def _prepared(rows: Dataset, tokenizer: Any, folder: Path) -> Dataset:
    """Encode rows as the trainer does."""
    trainer = SFTTrainer(
        model=tiny_llama(seed=1, tokenizer=tokenizer),
        args=SFTConfig(
            output_dir=str(folder / "trainer"), bf16=False, use_cpu=True, report_to="none", completion_only_loss=True
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    return trainer.train_dataset
