"""Answers of encoder-decoders: those that the model gives alone, whatever the batch, and what it cannot be asked."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import END, tiny_tokenizer
from tiny_seq2seq import tiny_seq2seq, tiny_seq2seq_adapter
from tokenizers import processors

from muscle_hf import InputError, choose_answers, generate_answers, sample_answers
from muscle_hf.cli import main

TOKENIZER = tiny_tokenizer()
PROMPTS = ["transfer ten dollars", "what", "please freeze my account, I lost the card", "book a table for four"]


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_answers_are_greedy_and_no_batch_size_decides_them(kind: str) -> None:
    model = tiny_seq2seq(kind, 4, TOKENIZER)
    together = generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=5, show_progress=False)
    alone = generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=5, batch_size=1, show_progress=False)
    assert together.texts == alone.texts
    assert len(set(together.texts)) > 1
    for number, prompt in enumerate(PROMPTS):
        ids = torch.tensor([TOKENIZER(prompt)["input_ids"]])
        read, log_likelihood, said = [model.config.decoder_start_token_id], 0.0, []
        for _ in range(5):  # by hand, without a cache
            with torch.no_grad():
                logits = model(input_ids=ids, decoder_input_ids=torch.tensor([read])).logits[0, -1]
            token = int(logits.argmax())
            log_likelihood += logits.log_softmax(-1)[token].item()
            if token == TOKENIZER.eos_token_id:
                break
            read.append(token)
            said.append(token)
        assert together.texts[number] == TOKENIZER.decode(said, skip_special_tokens=True)
        assert together.log_likelihoods[number] == pytest.approx(log_likelihood, rel=1e-4)


def test_a_tokenizer_may_close_what_an_encoder_reads() -> None:
    closing = tiny_tokenizer()
    closing.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, closing.eos_token_id)]
    )
    assert closing("what")["input_ids"][-1] == closing.eos_token_id
    model = tiny_seq2seq("t5", 4, closing)
    assert len(generate_answers(model, closing, PROMPTS, max_new_tokens=3, show_progress=False).texts) == len(PROMPTS)


def test_samples_of_an_encoder_decoder_do_not_repeat_the_prompt() -> None:
    model = tiny_seq2seq("bart", 4, TOKENIZER)
    drawn = sample_answers(model, TOKENIZER, PROMPTS[:2], samples=3, max_new_tokens=4, seed=1, show_progress=False)
    again = sample_answers(
        model, TOKENIZER, PROMPTS[:2], samples=3, max_new_tokens=4, seed=1, batch_size=1, show_progress=False
    )
    assert drawn.texts == again.texts
    assert all(not text.startswith(PROMPTS[0]) for text in drawn.texts[0])


def test_what_cannot_be_asked_is_refused() -> None:
    model = tiny_seq2seq("bart", 4, TOKENIZER)
    with pytest.raises(InputError, match="choices are scored by causal"):
        choose_answers(model, TOKENIZER, ["what"], [["a", "b"]], show_progress=False)
    with pytest.raises(InputError, match="hold 64 each"):
        generate_answers(model, TOKENIZER, ["word " * 80], max_new_tokens=4, show_progress=False)
    with pytest.raises(InputError, match="hold 64 each"):
        generate_answers(model, TOKENIZER, ["what"], max_new_tokens=65, show_progress=False)
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = None
    with pytest.raises(InputError, match="decoder_start_token_id"):
        generate_answers(model, TOKENIZER, ["what"], max_new_tokens=4, show_progress=False)


@pytest.mark.slow
def test_predict_asks_an_adapter_on_an_encoder_decoder(tmp_path: Path) -> None:
    base = tiny_seq2seq("t5", 1, TOKENIZER)
    base.save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    base.config.name_or_path = base.name_or_path = str(tmp_path / "base")
    adapted = tiny_seq2seq_adapter(base, 11)
    adapted.save_pretrained(tmp_path / "adapter")
    rows = "".join(json.dumps({"prompt": prompt, "completion": "savings"}) + "\n" for prompt in PROMPTS)
    (tmp_path / "data.jsonl").write_text(rows, encoding="utf-8")
    out = tmp_path / "answers.jsonl"
    words = ["predict", str(tmp_path / "adapter"), str(tmp_path / "data.jsonl"), "--max-new-tokens", "4"]
    assert main([*words, "--output", str(out)]) == 0
    said = [json.loads(line)["prediction"] for line in out.read_text(encoding="utf-8").splitlines()]
    expected = generate_answers(adapted, TOKENIZER, PROMPTS, max_new_tokens=4, show_progress=False).texts
    assert said == [text.strip() for text in expected]
    assert main([*words, "--output", str(out), "--engine", "vllm"]) == 2
