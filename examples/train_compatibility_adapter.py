"""Train a compatibility adapter for any update, from the command line or a YAML file.

    python examples/train_compatibility_adapter.py --config examples/configs/vicuna_piqa.yaml

Every option of `CompatibilityConfig` can stand in the file or on the command line, as in TRL's own scripts.
"""

from dataclasses import dataclass, field

from datasets import load_dataset
from trl import TrlParser

from muscle_hf import CompatibilityConfig, CompatibilityTrainer


@dataclass
class UpdateArguments:
    """Which models meet, and on which data.

    Args:
        new_model: The new base model.
        new_adapter: The task adapter on it.
        old_model: The old base model.
        old_adapter: The task adapter on it.
        dataset: A data set on the Hub, or a JSONL file with `prompt` and `completion`.
        dataset_split: Which split to train on; a JSONL file has one, "train".
        validation_share: Share of it that is held out for evaluation, 0 for none.
    """

    new_model: str = field(metadata={"help": "the new base model"})
    new_adapter: str = field(metadata={"help": "the task adapter on the new base"})
    old_model: str = field(metadata={"help": "the old base model"})
    old_adapter: str = field(metadata={"help": "the task adapter on the old base"})
    dataset: str = field(metadata={"help": "a data set on the Hub, or a JSONL file with prompt and completion"})
    dataset_split: str = field(default="train", metadata={"help": "split to train on"})
    validation_share: float = field(default=0.2, metadata={"help": "share held out for evaluation (0: none)"})


def main() -> None:
    """Train, save, and, with --push_to_hub, publish."""
    update, config = TrlParser((UpdateArguments, CompatibilityConfig)).parse_args_and_config()
    if update.dataset.endswith(".jsonl"):
        dataset = load_dataset("json", data_files=update.dataset, split=update.dataset_split)
    else:
        dataset = load_dataset(update.dataset, split=update.dataset_split)
    held_out = None
    if update.validation_share:
        split = dataset.train_test_split(test_size=update.validation_share, seed=config.seed)
        dataset, held_out = split["train"], split["test"]
    trainer = CompatibilityTrainer(
        model=update.new_model,
        new_adapter=update.new_adapter,
        old_model=update.old_model,
        old_adapter=update.old_adapter,
        args=config,
        train_dataset=dataset,
        eval_dataset=held_out,
    )
    trainer.train()
    trainer.save_model()
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=update.dataset)


if __name__ == "__main__":
    main()
