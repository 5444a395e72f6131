"""`CompatibilityTrainer`: a `trl.SFTTrainer` whose loss keeps the old model's right answers. Wiring only."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from accelerate.logging import get_logger
from datasets import Dataset, DatasetDict, IterableDataset
from torch import Tensor
from transformers import (
    BitsAndBytesConfig,
    DataCollator,
    EvalPrediction,
    PreTrainedTokenizerBase,
    TrainerCallback,
)
from trl import SFTTrainer
from trl.data_utils import get_dataset_column_names

from .adapters import (
    Lineage,
    Model,
    check_lm_head,
    full_logits_allow_tied_head,
    load_adapted_model,
    load_tokenizer,
    shares_base,
)
from .alignment import check_same_vocabulary
from .config import CompatibilityConfig
from .errors import ConfigurationError, ModelMismatchError
from .flips import Comparison
from .masks import Mask
from .ranks import pad_rank
from .teachers import FrozenModelTeacher, SharedBaseTeacher
from .token_loss import TokenLoss
from .training_data import (
    TOKEN_COLUMNS,
    TokenColumnCollator,
    check_rows,
    first_trainable_row,
    truncated_and_packed,
    warn_about_lost_tokens,
    with_weights,
)
from .training_log import LossSums

logger = get_logger(__name__)

CardWriter: TypeAlias = Callable[["CompatibilityTrainer", Path], None]
EvalDataset: TypeAlias = Dataset | IterableDataset | DatasetDict | dict[str, Dataset | IterableDataset]


class CompatibilityTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """Train a compatibility adapter: it keeps the new model's accuracy and loses fewer of the old right answers.

    The student starts as a copy of the new task adapter. At every step, each token that it gets wrong is pulled to
    the old model, each token that it gets right is held at the new model (MUSCLE, arXiv 2407.09435, Eq. 1; other
    strategies in [`CompatibilityConfig`]). Data sets, packing, precision, checkpoints and callbacks are those of
    [`trl.SFTTrainer`]. What it saves is an ordinary PEFT adapter.

    One copy of the new base is in memory: the new model that teaches is a snapshot of the adapter. The old model is a
    second model, frozen. Logged beside the loss, each over all trained tokens since the last log:

    - `aligned_to_old_model`: share of the tokens that learned from the old model.
    - `divergence_to_old_model`, `divergence_to_new_model`: mean over the tokens of that teacher, in nats for KL; nan
      where there were none.
    - `cross_entropy`, `mean_token_accuracy`: of the student.

    In evaluations their names begin with `eval_`, and `metric_for_best_model` can name them.

    Args:
        model: The new base (id, path or model) with `new_adapter`; or the new model as a whole: a PeftModel, or the
            id or path of an adapter, whose config names its base.
        old_model: The old base with `old_adapter`; or the old model as a whole, in the same ways. It may also be a
            fully fine-tuned model without adapter.
        new_adapter: Id or path of the task adapter trained on the new base. It is the start and the new teacher.
        old_adapter: Id or path of the task adapter trained on the old base.
        args: A [`CompatibilityConfig`].
        data_collator: As in [`trl.SFTTrainer`].
        train_dataset: The task's training set, in any format that [`trl.SFTTrainer`] takes.
        eval_dataset: A validation set, likewise.
        processing_class: The tokenizer. Defaults to the one beside the new base.
        compute_metrics: As in [`trl.SFTTrainer`]; it receives the student's logits.
        callbacks: As in [`trl.SFTTrainer`].
        optimizers: As in [`trl.SFTTrainer`].
        optimizer_cls_and_kwargs: As in [`trl.SFTTrainer`].
        preprocess_logits_for_metrics: As in [`trl.SFTTrainer`].
        quantization_config: For the new base, where `model` is an id or a path.
        formatting_func: As in [`trl.SFTTrainer`].

    Raises:
        ModelMismatchError: The vocabularies differ, or old and new model are the same.
        UnsupportedAdapterError: A prompt-learning adapter, or an adapter on an LM head of its own.
        ConfigurationError: Models or options that cannot be combined.
        InputError: A data set without a token to train on.
        TeacherError: A teacher whose logits are NaN; also raised in training.

    Example:
        >>> trainer = CompatibilityTrainer(  # doctest: +SKIP
        ...     model="org/base-v2",
        ...     new_adapter="org/task-on-v2",
        ...     old_model="org/base-v1",
        ...     old_adapter="org/task-on-v1",
        ...     args=CompatibilityConfig(output_dir="out"),
        ...     train_dataset=dataset,
        ... )
        >>> trainer.train()  # doctest: +SKIP
    """

    _tag_names = ("muscle", "compatibility-adapter", "trl")
    _name = "MUSCLE"
    # `compute_loss` divides by the tokens of the whole optimizer step, so the parent must not divide by the number of
    # its pieces again.
    loss_is_scaled_for_ga = True
    # `muscle_hf.card` sets it: a card is made from a trainer, so that module imports this one and not the reverse.
    card_writer: ClassVar[CardWriter | None] = None

    def __init__(
        self,
        model: Model,
        old_model: Model,
        *,
        new_adapter: str | Path | None = None,
        old_adapter: str | Path | None = None,
        args: CompatibilityConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        formatting_func: Callable[[dict[str, Any]], str] | None = None,
        mask: Mask | None = None,
    ) -> None:
        """Load the models, refuse what cannot be trained, and set up the parent."""
        args = CompatibilityConfig(output_dir="compatibility-adapter") if args is None else args
        if not isinstance(args, CompatibilityConfig):
            raise ConfigurationError(
                f"args is a {type(args).__name__}; a CompatibilityConfig is needed: it is an SFTConfig with the "
                "options of the method."
            )
        strategy = args.strategy(mask)
        check_rows(train_dataset)
        if old_model is model and old_adapter == new_adapter:
            raise ModelMismatchError(
                "old_model and model are the same object: there is no update to be compatible to."
            )
        if shares_base(model, old_model):
            raise ConfigurationError(
                "model and old_model share one base object, and an adapter on the one would change the other. Load "
                "the base twice, or pass paths."
            )
        new_kwargs = _as_kwargs(args.model_init_kwargs) | {"trust_remote_code": args.trust_remote_code}
        if quantization_config is not None:
            new_kwargs["quantization_config"] = quantization_config
        shared = ("dtype", "attn_implementation", "quantization_config", "trust_remote_code")
        inherited = {key: new_kwargs[key] for key in shared if key in new_kwargs}
        old_kwargs = _as_kwargs(args.old_model_init_kwargs) or inherited
        student = load_adapted_model(model, new_adapter, role="new", needs_adapter=True, init_kwargs=new_kwargs)
        check_lm_head(student)
        old = load_adapted_model(old_model, old_adapter, role="old", needs_adapter=False, init_kwargs=old_kwargs)
        if processing_class is None:
            processing_class = load_tokenizer(student, new_kwargs, model, new_adapter)
        if processing_class is None:
            raise ConfigurationError(
                "No tokenizer lies beside the new model or its adapter; pass it as processing_class."
            )
        old_tokenizer = load_tokenizer(old, old_kwargs, old_model, old_adapter)
        if old_tokenizer is None:
            logger.warning(
                "No tokenizer was found beside the old model, so only the sizes of the vocabularies are compared. "
                "Make sure that both models were trained with the same tokenizer."
            )
        check_same_vocabulary(student, old, processing_class, old_tokenizer)
        self.lineage = Lineage.of(
            new=student, old=old, new_name=new_adapter or model, old_name=old_adapter or old_model
        )
        # PEFT loads adapters frozen by default; the student's is the one that is trained.
        student.set_adapter(student.active_adapter)
        if args.student_rank is not None:
            student = pad_rank(student, args.student_rank)

        self._sums = {"train": LossSums(), "eval": LossSums()}
        self.comparisons: dict[str, Comparison] = {}
        self.card_details: dict[str, Any] = {}
        with full_logits_allow_tied_head(student), _without_model_init_kwargs(args):
            super().__init__(
                model=student,
                args=args,
                data_collator=data_collator,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
                preprocess_logits_for_metrics=preprocess_logits_for_metrics,
                formatting_func=formatting_func,
            )
        if not TOKEN_COLUMNS.keys().isdisjoint(get_dataset_column_names(self.train_dataset)):
            self.data_collator: Any = TokenColumnCollator(self.data_collator)
        # The loss here shifts the labels and divides by their number itself, whatever the model's own forward does.
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True
        if self.is_fsdp_enabled or (args.deepspeed_plugin is not None and args.deepspeed_plugin.zero_stage == 3):
            raise ConfigurationError(
                "The new model is a snapshot of the adapter on the student's own base, which FSDP and DeepSpeed "
                "ZeRO-3 split over processes. Train with DDP or ZeRO-2."
            )
        if self.aux_loss_enabled:
            raise ConfigurationError(
                "The router loss of mixture-of-experts models would be ignored. Set router_aux_loss_coef=0.0 to train "
                "without it."
            )
        self.new_teacher = SharedBaseTeacher(self.accelerator.unwrap_model(self.model))
        self.old_teacher = FrozenModelTeacher(self.accelerator.prepare_model(old, evaluation_mode=True))
        self._token_loss = TokenLoss(
            self.new_teacher.student,
            self.old_teacher,
            self.new_teacher,
            strategy,
            implementation=args.loss_implementation,
            autocast=self.accelerator.autocast,
        )
        self._check_teachers()

    def _prepare_dataset(
        self, dataset: Dataset, processing_class: Any, args: Any, packing: bool, formatting_func: Any, name: str
    ) -> Dataset:
        if isinstance(dataset, Dataset):
            # Encoded whole first, so that what truncation takes away can be counted; nothing is lost in silence.
            whole = copy.copy(args)
            whole.max_length, whole.shuffle_dataset = None, False
            dataset = super()._prepare_dataset(dataset, processing_class, whole, False, formatting_func, name)
            keeps_ends = packing and args.packing_strategy != "bfd"
            warn_about_lost_tokens(dataset, None if keeps_ends else args.max_length, name)
            formatting_func = None
            if name == "train" and args.weight_column is not None:
                dataset = with_weights(dataset, args.weight_column)
            if not TOKEN_COLUMNS.keys().isdisjoint(dataset.column_names):
                return truncated_and_packed(dataset, args, packing=packing, shuffle=args.shuffle_dataset)
        return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, name)

    def _check_teachers(self) -> None:
        """Ask both teachers about one example, so that bad ones are refused before training."""
        row = first_trainable_row(self.train_dataset)
        if row is None:
            return
        if self.args.remove_unused_columns:
            self._set_signature_columns_if_needed()
            row = {name: row[name] for name in self._signature_columns if name in row}
        rows = self._token_loss.check(self._prepare_inputs(self.data_collator([row])))
        if rows is not None and torch.equal(*rows):
            raise ModelMismatchError(
                "The old and the new model give exactly the same logits: they are the same model, and there is no "
                "update to be compatible to. Check old_model, old_adapter, model and new_adapter."
            )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns: list[str] = list(dict.fromkeys([*self._signature_columns, *TOKEN_COLUMNS]))

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the compatibility loss of a batch, and the student's outputs on request; called by the trainer."""
        mode = "train" if self.model.training else "eval"
        result, outputs = self._token_loss(model, inputs, normalizer=num_items_in_batch, needs_logits=return_outputs)
        loss = result.loss
        # `num_items_in_batch` counts the tokens of every process, and DDP averages gradients over processes.
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        positions = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        self._sums[mode].add(result, accelerator=self.accelerator, positions=positions)
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Add the method's figures of this data set to its metrics; called by the trainer."""
        sums = self._sums["eval"]
        sums.clear()
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        output.metrics.update(
            {f"{metric_key_prefix}_{name}": value for name, value in sums.figures("mean_token_accuracy").items()}
        )
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the method's figures, each over all tokens since the last log; called by the trainer."""
        sums = self._sums["train"]
        if self.model.training and sums["tokens"]:
            # The count goes on from the log, which a resumed run brings along.
            seen = next((log["num_tokens"] for log in reversed(self.state.log_history) if "num_tokens" in log), 0.0)
            logs.update(sums.figures("mean_token_accuracy") | {"num_tokens": seen + sums["positions"]})
            sums.clear()
        super().log(logs, start_time)

    def add_comparison(self, name: str, comparison: Comparison, *, split: str | None = None) -> None:
        """Put a measured comparison with the old model into the card's table; save or push afterwards.

        Args:
            name: The row's name, such as "compatibility adapter" or "new adapter (plain update)".
            comparison: What [`muscle_hf.compare`] returned.
            split: What was asked, such as "the test set of PIQA".
        """
        if split is not None:
            self.card_details["split"] = split
        self.comparisons[name] = comparison

    def create_model_card(
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
        license: str | None = None,  # noqa: A002 - the name that Trainer.create_model_card gives it
    ) -> None:
        """Write the card of this package to the output folder, in place of the parents' drafts.

        Args:
            model_name: Title of the card. Defaults to the name of the output folder.
            dataset_name: Id of the training data on the Hub.
            tags: Further tags.
            license: The adapter's licence, as the Hub names it.
        """
        more = (tags,) if isinstance(tags, str) else tuple(tags or ())
        details = {"title": model_name, "dataset": dataset_name, "license": license, "tags": more}
        self.card_details.update({name: value for name, value in details.items() if value})
        if self.is_world_process_zero():
            self._write_card(Path(self.args.output_dir))

    def _write_card(self, folder: Path) -> None:
        if CompatibilityTrainer.card_writer is None:
            logger.warning("No card is written: import CompatibilityTrainer from muscle_hf, not from its module.")
            return
        folder.mkdir(parents=True, exist_ok=True)
        CompatibilityTrainer.card_writer(self, folder)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        # PEFT has just written a README of its own beside the weights.
        if self.args.should_save:
            self._write_card(Path(output_dir or self.args.output_dir))


def _as_kwargs(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """Options given as JSON text are dictionaries once the config is built."""
    return dict(value) if isinstance(value, dict) else {}


@contextmanager
def _without_model_init_kwargs(args: CompatibilityConfig) -> Iterator[None]:
    """The base is loaded by now with these arguments; the parent would warn that it ignores them."""
    kept, args.model_init_kwargs = args.model_init_kwargs, None
    try:
        yield
    finally:
        args.model_init_kwargs = kept
