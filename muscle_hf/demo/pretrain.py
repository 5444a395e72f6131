"""Rebuild the two base models and the old task adapter of the demo from the text that ships with it.

`python -m muscle_hf.demo.pretrain --output-dir DIR` trains one byte-level BPE tokenizer and two Llama-architecture
language models from scratch: version 1 on part of the text, version 2 on all of it, for longer and from another seed.
The text is Wikipedia sentences and CLINC150's training utterances without their intents. Then it trains the task
adapter of version 1, as the demo itself trains that of version 2, without what makes that one quick. The test set is
never read. Two runs on one machine, with the same versions of the libraries, give the same bytes.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback, set_seed
from trl import SFTConfig, SFTTrainer

from ..training.cross_entropy import TrainingProgress
from ..training.quiet import quiet_libraries
from .data import read_intents, read_sentences
from .task import read_rows, train_task_adapter


@dataclass(frozen=True)
class Version:
    """How one base model is trained: its seed, how much of the text it sees, and how often."""

    seed: int
    share_of_texts: float
    epochs: int


VOCABULARY_SIZE = 3072
CONTEXT_LENGTH = 128
END_OF_TEXT, PADDING = "<|end|>", "<|pad|>"
# Version 1 is the weaker model that the team has in production: fewer texts, fewer epochs, another seed.
VERSIONS = {
    "base-v1": Version(seed=1, share_of_texts=0.6, epochs=6),
    "base-v2": Version(seed=2, share_of_texts=1.0, epochs=10),
}


def pretraining_texts() -> list[str]:
    """Return every text that the bases may see: Wikipedia sentences and unlabelled training utterances."""
    return [*read_sentences(), *(row["text"] for row in read_intents("train"))]


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train the byte-level BPE tokenizer that both versions share."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PADDING, END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=PADDING, model_max_length=CONTEXT_LENGTH
    )


def pretrain(tokenizer: PreTrainedTokenizerFast, texts: list[str], name: str, version: Version) -> LlamaForCausalLM:
    """Train one base model from scratch with next-token cross-entropy on packed text."""
    set_seed(version.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=scratch,
                seed=version.seed,
                num_train_epochs=version.epochs,
                per_device_train_batch_size=32,
                learning_rate=3e-3,
                lr_scheduler_type="cosine",
                warmup_steps=50,
                weight_decay=0.01,
                max_length=64,
                packing=True,
                packing_strategy="wrapped",
                shuffle_dataset=True,
                gradient_checkpointing=False,
                bf16=False,
                save_strategy="no",
                report_to="none",
                logging_strategy="no",
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=Dataset.from_dict({"text": texts}),
            processing_class=tokenizer,
            callbacks=[TrainingProgress(name)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return model


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes the place of `folder` once all of it is written."""
    draft = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    yield draft
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def save_in_half_precision(folder: Path) -> None:
    """Halve the weights on disk, which halves the wheel; every later step loads them in float32."""
    for path in folder.glob("*.safetensors"):
        draft = path.with_suffix(".tmp")
        save_file({name: weight.half() for name, weight in load_file(path).items()}, draft, metadata={"format": "pt"})
        draft.replace(path)


def build_old_adapter(base: Path, output_dir: Path) -> None:
    """Train the task adapter of version 1 and leave only what a team would ship."""
    with tempfile.TemporaryDirectory() as scratch:
        train_task_adapter(
            base,
            Path(scratch),
            read_rows("train", 3000),
            read_rows("val", 1500),
            seed=1,
            epochs=8,
            learning_rate=2e-3,
            description="task adapter on base v1",
            quickly=False,
        )
        shutil.copy(Path(scratch) / "adapter_model.safetensors", output_dir)
        config = json.loads((Path(scratch) / "adapter_config.json").read_text(encoding="utf-8"))
        # The path of the machine that built it means nothing to others.
        config["base_model_name_or_path"] = None
        # PEFT writes a set here, in an order that changes from run to run.
        config["target_modules"] = sorted(config["target_modules"])
        (output_dir / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Build everything below a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True, help="receives base-v1, base-v2 and task-on-v1")
    parser.add_argument("--only", choices=[*VERSIONS, "task-on-v1"], help="build only this one")
    arguments = parser.parse_args()
    # The order in which threads add floats decides the last bits, so their number is part of the recipe.
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    quiet_libraries()
    texts = pretraining_texts()
    tokenizer = build_tokenizer(texts)
    for name, version in VERSIONS.items():
        if arguments.only not in (None, name):
            continue
        kept = Dataset.from_dict({"text": texts}).shuffle(seed=version.seed)
        kept = kept.select(range(round(len(kept) * version.share_of_texts)))
        model = pretrain(tokenizer, kept["text"][:], name, version)
        with replacing(arguments.output_dir / name) as draft:
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
            save_in_half_precision(draft)
    if arguments.only in (None, "task-on-v1"):
        base = arguments.output_dir / "base-v1"
        if not (base / "config.json").exists():
            parser.error(f"task-on-v1 is trained on {base}, which is not there yet; build base-v1 first")
        with replacing(arguments.output_dir / "task-on-v1") as draft:
            build_old_adapter(base, draft)
            save_in_half_precision(draft)


if __name__ == "__main__":
    main()
