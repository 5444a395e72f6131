"""`CompatibilityTrainer`: a `trl.SFTTrainer` whose loss keeps the old model's right answers. Wiring only."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from accelerate.logging import get_logger
from datasets import Dataset, DatasetDict, IterableDataset
from peft import PeftModel
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

from .adapters import Model, full_logits_allow_tied_head
from .alignment import check_same_vocabulary
from .cached_targets import CachedTargets, CacheOfRun
from .config import CompatibilityConfig
from .errors import ConfigurationError, InputError, ModelMismatchError
from .flips import Comparison
from .flips_evaluation import Answerer, FlipsEvaluation, holding
from .flips_in_the_loop import FlipsInTheLoop
from .hidden_states import base_model
from .masks import Mask
from .pair import ModelPair
from .ranks import pad_rank
from .strategy import Strategy
from .teacher_cache import TeacherCache
from .teachers import FrozenModelTeacher, SharedBaseTeacher
from .token_loss import TokenLoss
from .training_data import (
    TOKEN_COLUMNS,
    TokenColumnCollator,
    check_rows,
    first_trainable_row,
    packed,
    trained_token_counts,
    truncated,
    warn_about_lost_tokens,
    with_target_numbers,
    with_weights,
)
from .training_log import LossSums
from .unlabelled import answered_rows, check_unlabelled, mixed, with_given_teachers

logger = get_logger(__name__)

CardWriter: TypeAlias = Callable[["CompatibilityTrainer", Path], None]
EvalDataset: TypeAlias = Dataset | IterableDataset | DatasetDict | dict[str, Dataset | IterableDataset]


class CompatibilityTrainer(FlipsInTheLoop, SFTTrainer):  # type: ignore[misc]  # trl is untyped
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
        unlabelled_dataset: Dataset | None = None,
        flips_dataset: Dataset | None = None,
    ) -> None:
        """Load the models, refuse what cannot be trained, and set up the parent."""
        args = CompatibilityConfig(output_dir="compatibility-adapter") if args is None else args
        if not isinstance(args, CompatibilityConfig):
            raise ConfigurationError(
                f"args is a {type(args).__name__}; a CompatibilityConfig is needed: it is an SFTConfig with the "
                "options of the method."
            )
        strategy = self.strategy = args.strategy(mask)
        check_rows(train_dataset)
        if unlabelled_dataset is not None:
            check_unlabelled(unlabelled_dataset, teacher=args.unlabelled_teacher, labelled=train_dataset)
        args.refuse_options_without_data(
            unlabelled_dataset=unlabelled_dataset is not None, flips_dataset=flips_dataset is not None
        )
        new_kwargs = _as_kwargs(args.model_init_kwargs) | {"trust_remote_code": args.trust_remote_code}
        if quantization_config is not None:
            new_kwargs["quantization_config"] = quantization_config
        pair = self._pair = ModelPair(
            model,
            old_model,
            new_adapter=new_adapter,
            old_adapter=old_adapter,
            processing_class=processing_class,
            init_kwargs=new_kwargs,
            old_init_kwargs=_as_kwargs(args.old_model_init_kwargs),
            full_fine_tune=args.full_fine_tune,
        )
        student, processing_class = pair.student, pair.processing_class
        self._rows_to_cache: dict[str, Dataset] = {}
        if args.teacher_cache == "none":
            check_same_vocabulary(student, pair.old, processing_class, pair.old_tokenizer)
        if args.teacher_cache != "none" or unlabelled_dataset is not None or flips_dataset is not None:
            pair.take_fingerprints()  # before anything of the models is changed
        self._unlabelled = None if unlabelled_dataset is None else self._answered(unlabelled_dataset, args)
        self.lineage = pair.lineage
        if isinstance(student, PeftModel):
            # PEFT loads adapters frozen by default; the student's is the one that is trained.
            student.set_adapter(student.active_adapter)
        if args.student_rank is not None:
            student = pad_rank(student, args.student_rank, seed=args.seed)

        self._sums = {"train": LossSums(), "eval": LossSums()}
        self.comparisons: dict[str, Comparison] = {}
        self.card_details: dict[str, Any] = {}
        with full_logits_allow_tied_head(student), _without_model_init_kwargs(args):
            super().__init__(
                model=student,
                args=args,
                data_collator=data_collator,
                train_dataset=train_dataset,
                # With flips alone to evaluate, no set is asked for its loss.
                eval_dataset={} if eval_dataset is None and flips_dataset is not None else eval_dataset,
                processing_class=processing_class,
                compute_metrics=compute_metrics,
                callbacks=callbacks,
                optimizers=optimizers,
                optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
                preprocess_logits_for_metrics=preprocess_logits_for_metrics,
                formatting_func=formatting_func,
            )
        self._collator_alone = self.data_collator
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
        self._set_up_teachers(strategy)
        self._check_teachers()
        if flips_dataset is not None:
            self.flips = self._flips_evaluation(flips_dataset)
        self.min_accuracy = args.min_accuracy

    def _flips_evaluation(self, dataset: Dataset) -> FlipsEvaluation:
        """Make what asks all three models; the old one is loaded only where its answers are not kept."""
        args, pair = self.args, self._pair
        precision = f"{base_model(pair.student).dtype}, bf16={args.bf16}, fp16={args.fp16}"
        fingerprints = pair.fingerprint_of_answers(args.flips_max_new_tokens)

        @contextmanager
        def old() -> Iterator[Any]:
            yield pair.on_device("old", args.device)
            if self.old_teacher is None:
                pair.forget_old()

        def new() -> AbstractContextManager[Any]:
            return holding(self.new_teacher.student, self.new_teacher.snapshot)

        return FlipsEvaluation(
            dataset,
            self.processing_class,
            old=Answerer(f"{fingerprints['old']}, {precision}", old),
            new=Answerer(f"{fingerprints['new']}, {precision}", new),
            folder=Path(args.output_dir) / "flips_evaluation",
            max_new_tokens=args.flips_max_new_tokens,
            batch_size=args.per_device_eval_batch_size,
            autocast=self.accelerator.autocast,
            show_progress=not args.disable_tqdm,
        )

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
            if name == "train" and self._unlabelled is not None:
                unlabelled = super()._prepare_dataset(
                    self._unlabelled, processing_class, whole, False, None, "unlabelled"
                )
                warn_about_lost_tokens(unlabelled, args.max_length, "unlabelled")
                dataset = mixed(dataset, with_given_teachers(unlabelled), args.unlabelled_ratio, args.seed)
            if args.teacher_cache != "none":
                dataset = self._numbered(truncated(dataset, args), name)
            if not TOKEN_COLUMNS.keys().isdisjoint(dataset.column_names):
                return packed(truncated(dataset, args), args, packing=packing)
        elif options := [
            option
            for option, is_used in (
                ("teacher_cache", args.teacher_cache != "none"),
                ("weight_column", args.weight_column is not None and name == "train"),
                ("unlabelled_dataset", self._unlabelled is not None and name == "train"),
            )
            if is_used
        ]:
            raise ConfigurationError(
                f"{options[0]} needs data that are read in one order, and the {name} set is a "
                f"{type(dataset).__name__}. Pass a datasets.Dataset, or leave the option out."
            )
        return super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, name)

    def _answered(self, prompts: Dataset, args: CompatibilityConfig) -> Dataset:
        """Let the teachers answer the unlabelled prompts; the main process asks, the others read what it kept."""
        longest = args.unlabelled_max_new_tokens
        with args.main_process_first(local=False, desc="answers to the unlabelled prompts"):
            return answered_rows(
                prompts,
                teacher=args.unlabelled_teacher,
                ask_old=self._pair.asker("old", args, longest),
                ask_new=self._pair.asker("new", args, longest),
                folder=Path(args.output_dir) / "unlabelled_answers",
                fingerprint=self._pair.fingerprint_of_answers(longest),
            )

    def _numbered(self, dataset: Dataset, name: str) -> Dataset:
        """Number the trained tokens, over all data sets, and keep the rows for the cache."""
        if hasattr(self, "_cache"):
            raise ConfigurationError(
                f"The teacher cache has no targets for this {name} set. Pass it to the trainer as eval_dataset, by a "
                "name of its own if there are several, or evaluate without a cache."
            )
        start = sum(sum(trained_token_counts(rows)) for rows in self._rows_to_cache.values())
        self._rows_to_cache[name] = dataset
        return with_target_numbers(dataset, start)

    def _set_up_teachers(self, strategy: Strategy) -> None:
        """Load what is needed of the old model, and make the loss."""
        pair, args = self._pair, self.args
        self.new_teacher = SharedBaseTeacher(self.accelerator.unwrap_model(self.model))
        self.old_teacher: FrozenModelTeacher | None = None
        self._cache = None
        caches = None
        if args.teacher_cache != "none":
            self._cache = CacheOfRun(
                args, self._rows_to_cache, pair.fingerprints, self.new_teacher.student, pair.old_config
            )
            caches = self._cache.open()
        if caches is None:
            if self._cache is not None:
                check_same_vocabulary(pair.student, pair.old, self.processing_class, pair.old_tokenizer)
            self.old_teacher = FrozenModelTeacher(self.accelerator.prepare_model(pair.old, evaluation_mode=True))
        self._make_loss(strategy, caches)

    def _make_loss(self, strategy: Strategy, caches: list[TeacherCache] | None) -> None:
        self._token_loss = TokenLoss(
            self.new_teacher.student,
            self.old_teacher,
            self.new_teacher,
            strategy,
            implementation="chunked" if self._cache is not None else self.args.loss_implementation,
            autocast=self.accelerator.autocast,
            cache=None if caches is None else CachedTargets(caches, self.new_teacher, self.accelerator.device),
        )

    def cache_teachers(self, *, process: int | None = None, processes: int | None = None) -> None:
        """Compute the teacher cache, as far as it is not there yet, and let go of the old model.

        `train` and `evaluate` do it by themselves. Called with `process` and `processes`, it computes one part, and
        the parts may be computed on several machines that share the folder.

        Args:
            process: The number of this part, from 0. Defaults to that of the training process.
            processes: How many parts there are. Defaults to the number of training processes.

        Raises:
            ConfigurationError: `teacher_cache` is "none", or the disk is too small.
            InputError: Other parts are not there yet.
            TeacherError: A teacher gives NaN.
        """
        if self._cache is None:
            raise ConfigurationError('teacher_cache is "none"; set it to "topk" or "hidden" in the config.')
        if self.old_teacher is None:
            return
        collate = self._collator_alone
        self._cache.write(
            self.old_teacher,
            self.new_teacher,
            lambda rows: self._prepare_inputs(collate(rows)),
            self.accelerator.autocast,
            rows_at_once=self.args.per_device_eval_batch_size,
            process=self.accelerator.process_index if process is None else process,
            processes=self.accelerator.num_processes if processes is None else processes,
        )
        self.accelerator.wait_for_everyone()
        caches = self._cache.open()
        if caches is None:
            raise InputError(
                f"The teacher cache in {self._cache.root} is not complete: other processes have not computed their "
                "parts yet."
            )
        self.old_teacher = None
        self._pair.forget_old()
        self._make_loss(self._token_loss.strategy, caches)

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train, as [`transformers.Trainer.train`] does; a teacher cache is computed before the first step."""
        if self._cache is not None:
            self.cache_teachers()
        return super().train(*arguments, **options)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Evaluate, as [`trl.SFTTrainer`] does; a teacher cache is computed before."""
        if self._cache is not None:
            self.cache_teachers()
        return super().evaluate(*arguments, **options)

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
