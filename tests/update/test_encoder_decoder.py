"""`muscle-hf update` where the new base is an encoder-decoder: the whole way to a card, and what is refused before."""

import json
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM
from tiny_models import tiny_llama, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter
from transformers import AutoConfig, AutoTokenizer

from muscle_hf import ConfigurationError, InputError, ModelMismatchError, generate_answers
from muscle_hf.cli import main
from muscle_hf.update.kinds import ENCODER_DECODER, kind_of_base
from muscle_hf.update.options import read_options
from muscle_hf.update.plan import Plan, make_plan

WORDS = ("balance", "transfer", "freeze")
ROWS = [{"prompt": f"what is it, number {number}?", "completion": WORDS[number % len(WORDS)]} for number in range(24)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two T5 bases with tokenizers, a task adapter on the old one, and rows; a causal base."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = tiny_tokenizer()
    for version in (1, 2):
        base = tiny_seq2seq("t5", version, tokenizer)
        base.save_pretrained(folder / f"base-v{version}")
        tokenizer.save_pretrained(folder / f"base-v{version}")
        if version == 1:
            base.config.name_or_path = base.name_or_path = str(folder / "base-v1")
            tiny_seq2seq_adapter(base, 11, r=2, target_modules=["q", "v"]).save_pretrained(folder / "task-on-v1")
    tiny_llama(3, tokenizer, hidden_size=16, layers=1).save_pretrained(folder / "causal")
    tokenizer.save_pretrained(folder / "causal")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (folder / "chat.jsonl").write_text(
        "".join(
            json.dumps({"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "b"}]})
            + "\n"
            for n in range(20)
        ),
        encoding="utf-8",
    )
    return folder


def _words(models: Path, out: Path, *more: str, base: str = "base-v2", data: str = "data.jsonl") -> list[str]:
    return [
        *("--old-adapter", str(models / "task-on-v1"), "--new-base", str(models / base)),
        *("--dataset", str(models / data), "--output-dir", str(out)),
        *("--num-train-epochs", "1", "--per-device-train-batch-size", "4", "--use-cpu", "true", *more),
    ]


def _plan(models: Path, out: Path, *more: str, base: str = "base-v2", data: str = "data.jsonl") -> Plan:
    return make_plan(read_options(_words(models, out, *more, base=base, data=data)))


@pytest.mark.slow
def test_an_update_of_a_t5_goes_from_an_old_adapter_to_a_card(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    out = tmp_path / "out"
    words = ["update", *_words(models, out, "--measure-flips", "--teacher-cache", "hidden", "--report-to", "none")]
    words += ["--contrastive-weight", "0.5", "--dataloader-drop-last", "true", "--per-device-eval-batch-size", "2"]
    assert main(words) == 0
    card = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "- contrastive weight: 0.5" in card
    assert "pipeline_tag: text2text-generation" in card
    assert "AutoModelForSeq2SeqLM" in card
    assert "control: same steps more" in card
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["task_type"] == "SEQ_2_SEQ_LM"
    answers = [json.loads(line) for line in (out / "answers" / "compatibility.jsonl").read_text().splitlines()]
    asked = {row["prompt"]: row["completion"] for row in ROWS}
    assert len(answers) == 5  # a fifth of the rows
    model = AutoPeftModelForSeq2SeqLM.from_pretrained(out / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(out / "adapter")
    questions = [row["question"] for row in answers]
    assert [asked[question] for question in questions] == [row["reference"] for row in answers]
    longest = _plan(models, tmp_path / "again").max_new_tokens
    again = generate_answers(model, tokenizer, questions, max_new_tokens=longest, show_progress=False)
    assert [text.strip() for text in again.texts] == [row["prediction"] for row in answers]
    capsys.readouterr()
    assert main(words) == 0  # finished before
    assert "finished before" in capsys.readouterr().out


def test_what_is_lost_to_the_lengths_is_known_before_anything_is_trained(models: Path, tmp_path: Path) -> None:
    plan = _plan(models, tmp_path, "--max-prompt-length", "3", "--max-completion-length", "2")
    whole, cut = _plan(models, tmp_path).encoded["training"], plan.encoded["training"]
    assert (whole.cut_rows, whole.lost_tokens) == (0, 0)
    assert cut.cut_rows == cut.rows
    assert cut.trained_tokens == 2 * cut.rows < whole.trained_tokens
    assert cut.tokens == whole.tokens


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (["--packing", "true"], ConfigurationError, "packing cannot be given"),
        (["--contrast-flips", "true"], ConfigurationError, "contrast_flips cannot be given: the rows"),
        (["--contrastive-temperature", "2"], ConfigurationError, "would be ignored: contrastive_weight is 0"),
        (
            ["--contrastive-weight", "1", "--per-device-train-batch-size", "1"],
            ConfigurationError,
            "Batches of 1 have no other target",
        ),
        (["--max-length", "8"], ConfigurationError, "max_length cannot be given"),
        (["--kind", "choice"], ConfigurationError, "kind=choice"),
        (["--unlabelled-dataset", "prompts.jsonl"], ConfigurationError, "unlabelled_dataset"),
        (["--alignment", "chunks"], ConfigurationError, "alignment"),
        (["--old-endpoint", "http://localhost:1/v1"], ConfigurationError, "old_endpoint"),
    ],
)
def test_options_that_encoder_decoders_do_not_have_are_refused(
    models: Path, tmp_path: Path, more: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        _plan(models, tmp_path, *more)


def test_the_kind_of_a_base_is_read_from_the_commit_that_is_loaded(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    read = AutoConfig.from_pretrained
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda name, **options: asked.append(options) or read(name))
    base, loading = str(models / "base-v2"), {"revision": "abc", "trust_remote_code": True, "dtype": "float32"}
    for given in (loading, json.dumps(loading)):
        assert kind_of_base(base, {"model_init_kwargs": given}) is ENCODER_DECODER
    assert asked == [{"revision": "abc", "trust_remote_code": True}] * 2


def test_models_of_two_kinds_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatchError, match="encoder-decoders"):
        _plan(models, tmp_path, base="causal")
    with pytest.raises(ConfigurationError, match="Write max_length"):
        _plan(models, tmp_path, "--max-prompt-length", "8", base="causal")


def test_the_contrastive_term_is_an_option_of_encoder_decoders_alone(models: Path, tmp_path: Path) -> None:
    words = ["--contrastive-weight", "0.5", "--dataloader-drop-last", "true"]
    with pytest.raises(ConfigurationError, match="2 rows are less than one batch of 8"):
        _plan(models, tmp_path, *words)
    words += ["--per-device-eval-batch-size", "2"]
    assert _plan(models, tmp_path, *words).config.contrastive_weight == 0.5
    with pytest.raises(ConfigurationError, match=r"contrastive_weight cannot be given: new_base=.* no such option\.$"):
        _plan(models, tmp_path, *words, base="causal")


def test_conversations_without_a_chat_template_are_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="chat template"):
        _plan(models, tmp_path, data="chat.jsonl")
