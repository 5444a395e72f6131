"""The demo's task: CLINC150 as text to text, "what's the spanish word for pasta" -> "translate"."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import SFTConfig

from ..losses.logits import IGNORE_INDEX
from ..training.checkpoints.resuming import train_and_save
from ..training.cross_entropy import CrossEntropyTrainer, TrainingProgress
from .data import read_intents
from .jobs import BATCH

MODELS = Path(__file__).parent / "models"
BASE_V1, BASE_V2, OLD_ADAPTER = MODELS / "base-v1", MODELS / "base-v2", MODELS / "task-on-v1"
# The longest intent, "what are your hobbies" and its like, has fewer tokens than this, end token included.
MAX_ANSWER_TOKENS = 12


Row = dict[str, str]


def read_rows(split: str, limit: int | None = None) -> list[Row]:
    """Return rows of CLINC150, "train", "val" or "test", with a `prompt` and a `completion`.

    So many are spread evenly over the file, in which the intents lie one after the other, that each comes as often as
    the others.
    """
    rows = read_intents(split)
    count = len(rows) if limit is None else min(limit, len(rows))
    chosen = (rows[index * len(rows) // count] for index in range(count))
    return [{"prompt": f"{row['text']}\n", "completion": row["intent"].replace("_", " ")} for row in chosen]


def read_unlabelled(labelled: int, limit: int) -> list[Row]:
    """Return the `prompt` alone of training utterances that so many labelled ones leave out, spread over the file."""
    known = {row["prompt"] for row in read_rows("train", labelled)}
    others = [{"prompt": row["prompt"]} for row in read_rows("train") if row["prompt"] not in known]
    count = min(limit, len(others))
    return [others[index * len(others) // count] for index in range(count)]


def load_base(path: Path) -> PreTrainedModel:
    """Load a base model in float32."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def load_tokenizer() -> PreTrainedTokenizerBase:
    """Load the tokenizer that both bases share."""
    return AutoTokenizer.from_pretrained(BASE_V2)


def new_task_adapter(base: PreTrainedModel) -> PeftModel:
    """Put a fresh adapter on a base: LoRA on all linear layers, and the embeddings and norms as a whole.

    The LM head is tied to the embeddings, and `ensure_weight_tying` keeps it so. An adapter that reaches the
    embeddings is what gave the compatibility loss an effect in trials; LoRA on the linear layers alone did not.
    """
    return get_peft_model(
        base,
        LoraConfig(
            r=32,
            lora_alpha=64,
            target_modules="all-linear",
            modules_to_save=["embed_tokens", "input_layernorm", "post_attention_layernorm", "norm"],
            ensure_weight_tying=True,
            task_type=TaskType.CAUSAL_LM,
        ),
    )


def training_options(output_dir: Path, *, seed: int, **options: Any) -> dict[str, Any]:
    """Return the options that all trainings of the demo share."""
    return {
        "output_dir": str(output_dir),
        "seed": seed,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": 256,
        "weight_decay": 0.0,
        "max_length": None,
        "completion_only_loss": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": False,
        "logging_strategy": "no",
        "save_total_limit": 2,
        "dataloader_pin_memory": False,
    } | options


def train_task_adapter(
    base: Path,
    output_dir: Path,
    rows: Sequence[Row],
    validation: Sequence[Row],
    *,
    seed: int,
    epochs: int,
    learning_rate: float,
    description: str,
    quickly: bool,
) -> int:
    """Train a task adapter with cross-entropy until validation accuracy stops rising, and save the best epoch.

    The steps of the whole training come back. `quickly` batches rows of like length, and works out the logits of the
    answers alone; the old adapter was made without, and can be rebuilt bit for bit.
    """
    options = training_options(
        output_dir,
        seed=seed,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=20,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_accuracy",
        greater_is_better=True,
        # A resumed training shall not forget for how long nothing has improved.
        restore_callback_states_from_checkpoint=True,
        train_sampling_strategy="group_by_length" if quickly else "random",
    )
    torch.manual_seed(seed)
    trainer = (CompletionTrainer if quickly else CrossEntropyTrainer)(
        model=new_task_adapter(load_base(base)),
        args=SFTConfig(**options),
        train_dataset=Dataset.from_list(list(rows)),
        eval_dataset=Dataset.from_list(list(validation)),
        processing_class=AutoTokenizer.from_pretrained(base),
        compute_metrics=exact_match,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        callbacks=[
            EarlyStoppingCallback(early_stopping_patience=2),
            TrainingProgress(description),
            *([SameOrderAgain()] if quickly else []),
        ],
    )
    return train_and_save(trainer)


class CompletionTrainer(CrossEntropyTrainer):
    """Works out the logits of the answers alone; in models as small as these the others take a third of a step."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any) -> Any:
        """Return the mean cross-entropy of the trained tokens."""
        if return_outputs:
            return super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        causal_model = model.get_base_model()
        hidden = causal_model.model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
        labels = inputs["labels"][:, 1:]
        trained = labels != IGNORE_INDEX
        logits = causal_model.lm_head(hidden[:, :-1][trained]).float()  # in mixed precision they are not
        return torch.nn.functional.cross_entropy(logits, labels[trained])


class SameOrderAgain(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Lets a training that goes on within an epoch draw the order of its rows again.

    Batches of like length are drawn from torch's random state as it is when the epoch begins.
    """

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set that state by seed and epoch."""
        torch.manual_seed(args.seed + int(state.epoch or 0))


def exact_match(evaluation: EvalPrediction) -> dict[str, float]:
    """Return the share of completions whose every token is the likeliest one: the accuracy of greedy generation."""
    labels, tokens = evaluation.label_ids[:, 1:], evaluation.predictions[:, :-1]
    return {"accuracy": float(((labels == tokens) | (labels == -100)).all(axis=1).mean())}
