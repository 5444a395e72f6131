"""Preference pairs are made of flips alone, of whole texts, of no question of the test set, and TRL trains on them."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, load_dataset

import muscle_hf
from muscle_hf.cli import main
from muscle_hf.runs.pairs.preference_pairs import pairs_of_comparison

GSM8K = Path(__file__).parents[3] / "examples" / "data" / "gsm8k"
COLUMNS = ["prompt", "chosen", "rejected", "id", "chosen_from"]
# Broken, broken, repaired, kept, both wrong, broken where the new model says nothing.
FLIPS: dict[str, Any] = {
    "prompts": [f"ask {number}\n" for number in range(6)],
    "old": ["so 1", "so 2", "no", "so 4", "no", "so 6"],
    "new": ["not 7", "not 8", "so 3", "so 4", "nor", None],
    "references": ["1", "2", "3", "4", "5", "6"],
    "judge": lambda answer, right: answer.split()[-1] == right,
}


def _file(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _sides(folder: Path, *, whole: bool = True, questions: list[Any] | None = None) -> list[str]:
    """Write two files of three answers, the first two of which break."""
    asked = questions or ["first?", "second?", "third?"]
    files = []
    for name, answers in (("old", "123"), ("new", "783")):
        rows = [
            {"id": row, "question": asked[row], "prediction": answer, "reference": str(row + 1)}
            | ({"response": f"{name} says {answer}"} if whole else {})
            for row, answer in enumerate(answers)
        ]
        files.append(str(_file(folder / f"{name}.jsonl", rows)))
    return files


def test_a_pair_is_a_flip_with_the_old_answer_before_the_new_one_and_what_is_left_out_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pairs = muscle_hf.flip_pairs(**FLIPS, chosen="old")
    assert pairs.column_names == COLUMNS
    assert pairs.to_list() == [
        {"prompt": "ask 0\n", "chosen": "so 1", "rejected": "not 7", "id": 0, "chosen_from": "old"},
        {"prompt": "ask 1\n", "chosen": "so 2", "rejected": "not 8", "id": 1, "chosen_from": "old"},
    ]
    assert "2 pairs of 3 negative flips" in caplog.text
    assert "left out: 1 without the whole text of an answer" in caplog.text
    assert pairs.info.description.splitlines() == [record.getMessage() for record in caplog.records]


def test_a_right_sample_of_the_new_model_comes_before_the_old_answer_but_not_one_that_was_cut_off() -> None:
    class Sampled(list[list[str]]):
        finished = np.array([[True, False], [True, True]] + [[True, True]] * 4)

    samples = Sampled([["so 9", "cut 1"], ["so 9", "or 2"]] + [["so 0", "so 0"]] * 4)
    pairs = muscle_hf.flip_pairs(**FLIPS, samples=samples)
    assert (pairs["chosen"][:], pairs["chosen_from"][:]) == (["so 1", "or 2"], ["old", "new_sample"])
    # Prompts that nobody sampled have the old answer.
    pairs = muscle_hf.flip_pairs(**FLIPS, samples=[["or 1"], None, [], [], [], []])
    assert pairs["chosen_from"][:] == ["new_sample", "old"]
    assert muscle_hf.flip_pairs(**FLIPS, chosen="reference")["chosen"][:] == ["1", "2"]
    assert "no samples of the new model" in muscle_hf.flip_pairs(**FLIPS).info.description


def test_without_flips_there_is_an_empty_set_with_the_columns_and_a_word_on_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = muscle_hf.flip_pairs(**FLIPS | {"new": FLIPS["old"]})
    assert (empty.column_names, len(empty)) == (COLUMNS, 0)
    assert "no negative flips" in caplog.text
    old, new = _sides(tmp_path, whole=False)
    pairs = tmp_path / "pairs.jsonl"
    assert main(["compare", new, old, "--pairs", str(pairs)]) == 0  # it repairs two, and breaks none
    assert pairs.read_bytes() == b"" and f"wrote {pairs}, which is empty" in capsys.readouterr().err


def test_messages_stay_messages_with_answers_that_are_messages() -> None:
    asked = [[{"role": "system", "content": "be brief"}, {"role": "user", "content": f"ask {n}"}] for n in range(6)]
    pairs = muscle_hf.flip_pairs(**FLIPS | {"prompts": asked})
    assert pairs[0]["prompt"] == asked[0]
    assert pairs[0]["rejected"] == [{"role": "assistant", "content": "not 7"}]


@pytest.mark.parametrize("as_text", [False, True])
def test_messages_in_a_file_stay_messages(tmp_path: Path, as_text: bool) -> None:
    asked = [[{"role": "user", "content": f"ask\n{number}"}] for number in range(3)]
    files = _sides(tmp_path, questions=[json.dumps(one) for one in asked] if as_text else asked)
    pairs = muscle_hf.compare_runs(*files).preference_pairs()
    assert pairs["prompt"][:] == asked[:2]
    assert pairs[1]["chosen"] == [{"role": "assistant", "content": "old says 2"}]


def test_gsm8k_gives_the_88_flips_and_says_by_how_much_right_answers_are_longer() -> None:
    result = muscle_hf.compare_runs(str(GSM8K / "gpt3-6b.jsonl"), str(GSM8K / "gpt3-175b.jsonl"))
    made = pairs_of_comparison(result)
    assert len(made.pairs) == 88 and all(pair.chosen.rstrip()[-1] != "\n" for pair in made.pairs)
    (told,) = (line for line in made.lines if "words" in line)
    assert (
        "45.0 words on average, rejected ones 40.5; longer in 57 pairs, shorter in 30 (sign test, p = 0.005)" in told
    )
    fewer = pairs_of_comparison(result, max_length_ratio=1.25)
    lengths = [sorted((len(pair.chosen.split()), len(pair.rejected.split()))) for pair in fewer.pairs]
    # docs/learn-from-what-broke.md says so.
    assert len(fewer.pairs) == 34 and "longer in 21 pairs, shorter in 12 (sign test, p = 0.16)" in fewer.lines[2]
    assert all(most <= 1.25 * least for least, most in lengths)
    assert f"left out: {88 - len(fewer.pairs)} in which one answer is more than 1.25 times" in "\n".join(fewer.lines)


def test_texts_without_spaces_are_measured_in_characters() -> None:
    same = {"prompts": ["問\n"], "references": ["x"], "judge": lambda answer, _: answer[0] == "是"}
    pairs = muscle_hf.flip_pairs(old=["是" * 90], new=["不" * 30], **same)
    assert "90.0 characters on average, rejected ones 30.0" in pairs.info.description
    assert not len(muscle_hf.flip_pairs(old=["是" * 90], new=["不" * 30], max_length_ratio=2.9, **same))


@pytest.mark.parametrize(
    "held_out",
    [
        ["other", "  ASK  0 "],
        [{"question": "ask 1"}],
        Dataset.from_list(
            [{"messages": [{"role": "user", "content": "ask 0"}, {"role": "assistant", "content": "1"}]}]
        ),
        [{"conversations": [{"from": "human", "value": "ask 0"}, {"from": "gpt", "value": "1"}]}],
        [{"instruction": "ask", "input": "1"}],
    ],
    ids=["case and spaces", "rows", "messages", "ShareGPT", "alpaca"],
)
def test_a_question_of_the_test_set_is_refused_however_it_is_written(held_out: Any) -> None:
    with pytest.raises(muscle_hf.InputError, match=r"1 of 3 negative flips is asked in held_out too, .* 'ask [01]'"):
        muscle_hf.flip_pairs(**FLIPS, held_out=held_out)
    # Only what flipped is in a pair.
    assert len(muscle_hf.flip_pairs(**FLIPS, held_out=["ask 3", "other"])) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"judge": lambda *_: 1}, r"judge gives 1 for old\[0\]; it must say True or False"),
        ({"judge": lambda *_: None}, "judge gives null"),
        ({"judge": "exact"}, "judge is 'exact'; give a function of an answer"),
        # No answer would be right, and nothing seem to flip.
        (
            {"judge": None, "references": [1] * 6},
            r"references\[0\] is 1, and without a judge an answer is right where",
        ),
        ({"chosen": "best"}, "chosen is 'best', but must be one of 'new_sample_first', 'old', 'reference'"),
        ({"chosen": "old", "samples": [["a"]] * 6}, "samples would be ignored with chosen='old'"),
        ({"samples": [["a"]]}, "samples 1"),
        # A text is a sequence of texts: each letter would be a sample.
        ({"samples": ["a"] * 6}, r"samples\[0\] is 'a'; give a list of texts"),
        ({"samples": [[3]] * 6}, r"samples\[0\] is \[3\]; give a list of texts"),
        ({"old": ["so 1"]}, "prompts 6, old 1"),
        ({"old": "so 1 so"}, "old is 'so 1 so'; give a list"),
        ({"old": [1] * 6}, r"old\[0\] is 1; give the whole text"),
        ({"prompts": [], "old": [], "new": [], "references": []}, "prompts is empty"),
        ({"prompts": [""] * 6}, r"prompts\[0\] is ''; give a text, or a list of messages"),
        ({"prompts": [[{"role": "user"}]] * 6}, r"prompts\[0\] is"),
        ({"prompts": [[{"role": "assistant", "content": "a"}]] * 6}, "ends with a turn of the assistant"),
        (
            {"prompts": ["ask", *[[{"role": "user", "content": "a"}]] * 5]},
            "some prompts are texts and others messages",
        ),
        ({"max_length_ratio": 0.5}, "max_length_ratio is 0.5, but must be a number from 1 up"),
        ({"max_length_ratio": True}, "max_length_ratio is True"),
        ({"held_out": "ask 0"}, "held_out is 'ask 0'; give a list of prompts"),
        ({"held_out": []}, "held_out has no prompts"),
        ({"held_out": [{"text": "ask 0"}]}, "held_out, row 0 has none of the columns prompt, question"),
        ({"held_out": [3]}, "held_out, row 0 is 3"),
    ],
)
def test_bad_input_is_refused_with_what_was_expected(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(muscle_hf.InputError, match=message):
        muscle_hf.flip_pairs(**FLIPS | changed)


def test_answers_without_whole_texts_are_refused_and_the_way_out_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = _sides(tmp_path, whole=False)
    pairs = tmp_path / "pairs.jsonl"
    assert main(["compare", *files, "--pairs", str(pairs)]) == 2
    assert "have not the whole texts" in (told := capsys.readouterr().err) and "response=prediction" in told
    assert not pairs.exists()
    assert main(["compare", *files, "--pairs", str(pairs), "--columns", "response=prediction"]) == 0
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert [(row["chosen"], row["rejected"]) for row in rows] == [("1", "7"), ("2", "8")]
    no_questions = [str(_file(tmp_path / f"{n}.jsonl", [{"id": 0, "prediction": n, "reference": "1"}])) for n in "12"]
    with pytest.raises(muscle_hf.InputError, match="have no question beside the answers"):
        muscle_hf.compare_runs(*no_questions, columns={"response": "prediction"}).preference_pairs()


def test_the_command_refuses_what_would_do_nothing_replace_a_file_or_train_on_the_test_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, pairs = _sides(tmp_path), tmp_path / "pairs.jsonl"
    test = str(_file(tmp_path / "test.jsonl", [{"prompt": "Second? "}]))
    mine = _file(tmp_path / "mine.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    for words, told in (
        (["--pairs-chosen", "old"], "--pairs-chosen without --pairs FILE would do nothing"),
        (["--pairs", files[0]], "would replace"),
        (["--pairs", str(mine)], "would replace a file that compare has not written"),
        (["--pairs", str(tmp_path / "no" / "x")], "there is no folder"),
        (["--pairs", str(pairs), "--pairs-max-length-ratio", "0.9"], "must be a number from 1 up"),
        (["--pairs", str(pairs), "--pairs-held-out", test], f"1 of 2 negative flips is asked in {test} too"),
        (["--pairs", str(pairs), "--pairs-held-out", str(tmp_path / "none")], "none"),
    ):
        assert main(["compare", *files, *words]) == 2
        assert told in capsys.readouterr().err
        assert not pairs.exists()
    for chosen, text in (("old", "old says 1"), ("reference", "1")):  # its own file is replaced
        assert main(["compare", *files, "--pairs", str(pairs), "--pairs-chosen", chosen]) == 0
        assert json.loads(pairs.read_text().splitlines()[0])["chosen"] == text


def test_a_comparison_refuses_a_task_that_is_not_there_and_samples_that_it_does_not_have(tmp_path: Path) -> None:
    result = muscle_hf.compare_runs(*_sides(tmp_path))
    with pytest.raises(muscle_hf.InputError, match="there is no task 'x' in the comparison"):
        result.preference_pairs("x")
    with pytest.raises(muscle_hf.InputError, match=r"samples are taken by muscle_hf.flip_pairs"):
        result.preference_pairs(chosen="new_sample_first")
    assert result.preference_pairs(result.tasks[0].name)["id"][:] == [0, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_trl_trains_on_the_file_of_the_command_and_reads_prompt_answer_and_end(tmp_path: Path) -> None:
    from tiny_models import END, tiny_llama, tiny_tokenizer
    from trl import DPOConfig, DPOTrainer

    files, pairs = _sides(tmp_path, questions=["first?\n", "second?\n", "third?\n"]), tmp_path / "pairs.jsonl"
    assert main(["compare", *files, "--pairs", str(pairs)]) == 0
    logging.getLogger("trl").setLevel(logging.ERROR)
    rows = load_dataset("json", data_files=str(pairs), split="train", cache_dir=str(tmp_path / "cache"))
    tokenizer = tiny_tokenizer()
    model = tiny_llama(seed=1, tokenizer=tokenizer)
    before = model.lm_head.weight.detach().clone()
    options = {"max_steps": 1, "per_device_train_batch_size": 2, "report_to": "none", "bf16": False, "use_cpu": True}
    args = DPOConfig(output_dir=str(tmp_path / "out"), disable_tqdm=True, save_strategy="no", **options)
    reference = tiny_llama(seed=1, tokenizer=tokenizer)
    trainer = DPOTrainer(model, reference, args=args, train_dataset=rows, processing_class=tokenizer)
    row = next(iter(trainer.train_dataset))
    for side, answer in (("chosen", "old says 1"), ("rejected", "new says 7")):
        assert tokenizer.decode([*row["prompt_ids"], *row[f"{side}_ids"]]) == f"first?\n{answer}{END}"
    trainer.train()
    assert not before.equal(model.lm_head.weight)
