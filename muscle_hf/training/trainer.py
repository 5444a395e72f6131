"""`CompatibilityTrainer`: a `trl.SFTTrainer` whose loss keeps the old model's right answers. Wiring only."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
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

from ..alignment.datasets import FIRST_CHUNK
from ..files import refuse_read_only
from ..losses.masks import Mask
from ..models.adapters import Model
from ..models.lm_head import full_logits_allow_tied_head
from ..models.placement import as_options
from ..prediction.flips_dataset import read_questions
from .base import TrainerBase
from .config import CompatibilityConfig
from .flips_in_the_loop import choose_when_to_evaluate, refuse_best_of_no_flips
from .hooks import count_labels_of_steps, keep_columns, prepared_batch
from .loss.product import check_validation
from .loss.router import RouterLoss
from .options.arguments import MISSING, OF_OTHER_TRAINERS, check_args, check_kinds, checks_arguments, set_aside
from .pair import ModelPair
from .preparation import OWN_COLUMNS, RowsOfRun, answered
from .processes.refusals import refuse_ways_of_splitting, refuse_whole_models_compiled
from .processes.split_models import split_student
from .refusals import refuse_one_model_twice
from .rows.checks import check_chat_template, check_layouts, check_rows, say_known_questions
from .rows.tokens import ColumnCollator, a_few_tokens, first_trainable_row
from .rows.unlabelled import check_unlabelled, warn_about_weights
from .teachers_of_run import TeachersOfRun, paired_vocabulary

logger = logging.getLogger(__name__)

EvalDataset: TypeAlias = Dataset | IterableDataset | DatasetDict | dict[str, Dataset | IterableDataset]

_OPTIONS = tuple(option.name for option in fields(CompatibilityConfig))


@checks_arguments(
    OF_OTHER_TRAINERS,
    missing={name: reason.format(parent="trl.SFTTrainer") for name, reason in MISSING.items()},
    elsewhere=lambda: {"args=CompatibilityConfig({}=…)": _OPTIONS},
)
class CompatibilityTrainer(TrainerBase, SFTTrainer):  # type: ignore[misc]  # trl is untyped
    """Train a compatibility adapter: it keeps the new model's accuracy and loses fewer of the old right answers.

    The student starts as a copy of the new task adapter. At every step, each token that it gets wrong is pulled to
    the old model, each token that it gets right is held at the new model (MUSCLE, arXiv 2407.09435, Eq. 1; other
    strategies in [`CompatibilityConfig`]). Data sets, packing, precision, checkpoints and callbacks are those of
    [`trl.SFTTrainer`]. What it saves is an ordinary PEFT adapter.

    One copy of the new base is in memory: the new model that teaches is a snapshot of the adapter. The old model is a
    second model, frozen. Logged beside the loss, each over all trained tokens since the last log:

    - `aligned_to_old_model`: share of the tokens that learned from `teacher`: the old model, or what stands in its
      place (both models' mixture, or their product).
    - `divergence_to_old_model`, `divergence_to_new_model`: mean over the tokens of `teacher`, to that target, and over
      all others, to the new model; in nats for KL, left out where there were none, and nan in an evaluation.
    - `cross_entropy`, `mean_token_accuracy`: of the student.
    - `gradient_cosine`, `share_of_conflicts`: with `log_gradient_cosine`, the mean over steps of the cosine between
      the gradients of cross-entropy and compatibility loss, and the share of the steps where it was negative; a step
      without one of both gradients does not count. They are of training steps alone.
    - `aux_loss`: of a mixture of experts, its router loss without its weight.

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
        mask: A function of your own from [`Scores`][muscle_hf.losses.masks.Scores] to bool, (tokens,), in place of the
            config's `mask`.
        unlabelled_dataset: Prompts without label: answered by the teachers, or a log with the old model's answers as
            `completion` beside `prompt`. See [`CompatibilityConfig`] for how they are mixed in.
        flips_dataset: Questions that all three models answer at each evaluation: rows with `prompt` and `completion`
            (or `reference`), `messages`, or another shape that [`read_questions`] reads; or with `choices` and
            `answer`. Without an `eval_strategy` they are asked after each epoch.

    Raises:
        ModelMismatchError: The vocabularies differ, or old and new model are the same.
        UnsupportedAdapterError: A prompt-learning adapter, or LoRA on an LM head of its own.
        ConfigurationError: Models or options that cannot be combined.
        InputError: A data set without a token to train on.
        TeacherError: A teacher whose logits are NaN; also raised in training.
        DivergedError: What was trained has become NaN or infinity; raised at the first batch whose loss is, and where
            it would be saved.
        EndpointError: The endpoint of the old model, or the storage of the cache, cannot be reached or refuses.
        HubError: With `push_to_hub=True`, the repository cannot be made; also raised at the end of training.

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
    teachers: TeachersOfRun

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
        check_args(args, CompatibilityConfig, "SFTConfig", old_model)
        check_kinds(callbacks, processing_class, formatting_func, model=model, old_model=old_model)
        strategy = args.strategy(mask)
        if train_dataset is not None or unlabelled_dataset is not None:
            refuse_read_only(Path(args.output_dir), "Train with an output_dir where you may write.")
        check_rows(train_dataset)
        check_layouts(train_dataset, eval_dataset, args, formatting_func)
        if unlabelled_dataset is not None:
            asked = unlabelled_dataset
            unlabelled_dataset = check_unlabelled(asked, teacher=args.unlabelled_teacher, labelled=train_dataset)
            warn_about_weights(asked, args.weight_column)
        # Before any model is loaded.
        questions = None if flips_dataset is None else read_questions(flips_dataset)
        if questions is not None:
            say_known_questions(train_dataset, questions.prompts)
        choose_when_to_evaluate(args, eval_dataset is not None, flips_dataset is not None)
        args.refuse_options_without_data(
            unlabelled_dataset=unlabelled_dataset is not None, flips_dataset=flips_dataset is not None
        )
        refuse_best_of_no_flips(
            args, measures_flips=flips_dataset is not None, computes_metrics=compute_metrics is not None
        )
        check_validation(args, eval_dataset)
        new_kwargs = as_options(args.model_init_kwargs) | {"trust_remote_code": args.trust_remote_code}
        if quantization_config is not None:
            new_kwargs["quantization_config"] = quantization_config
        pair = ModelPair(
            model,
            old_model,
            new_adapter=new_adapter,
            old_adapter=old_adapter,
            processing_class=processing_class,
            init_kwargs=new_kwargs,
            old_init_kwargs=as_options(args.old_model_init_kwargs),
            full_fine_tune=args.full_fine_tune,
        )
        student, processing_class = pair.student, pair.processing_class
        check_chat_template(train_dataset, eval_dataset, args, processing_class)
        vocabulary = paired_vocabulary(pair, args)
        if args.teacher_cache != "none" or unlabelled_dataset is not None or flips_dataset is not None:
            pair.take_fingerprints()  # before anything of the models is changed
        lineage = pair.lineage
        student = pair.student_to_train(args.student_rank, args.seed)

        # The base is loaded by now with its arguments; the parent would warn that it ignores them.
        # Nor are whole models to be compiled, but their layers, at the end.
        aside = {"model_init_kwargs": None, "torch_compile": False, "torch_compile_backend": None}
        with full_logits_allow_tied_head(student), set_aside(args, **aside):
            super().__init__(
                model=student,
                args=args,
                strategy=strategy,
                lineage=lineage,
                accuracy="mean_token_accuracy",
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
        refuse_ways_of_splitting(self)
        refuse_whole_models_compiled(self)
        self._router = RouterLoss(self)
        split_student(self)
        unlabelled = None
        if unlabelled_dataset is not None:
            unlabelled = partial(answered, pair, unlabelled_dataset, args, self.accelerator)
        self.rows = RowsOfRun(
            args,
            pair,
            self.processing_class,
            vocabulary=vocabulary,
            unlabelled=unlabelled,
            completion_only_loss=self.completion_only_loss,
            chat_template=self.chat_template,
            formatting_func=formatting_func,
        )
        self.train_dataset = self.rows.training(self.train_dataset)
        if unlabelled_dataset is not None:
            self.unlabelled_rows = self.rows.unlabelled_rows, len(unlabelled_dataset)
        self.eval_dataset = self.rows.evaluation(self.eval_dataset)
        self.rows.is_cache_sealed = True
        self._make_repository()
        # The loss here shifts the labels and divides by their number itself, whatever the model's own forward does.
        count_labels_of_steps(self, shifted=True)
        keep_columns(self, (*OWN_COLUMNS, FIRST_CHUNK))
        plain = self.data_collator
        if not OWN_COLUMNS.isdisjoint(get_dataset_column_names(self.train_dataset)):
            self.data_collator: Any = ColumnCollator(plain)
        # A cache of tokens is computed from rows without columns of ours.
        collator_of_cache = self.data_collator if args.alignment == "chunks" else plain
        self.teachers = TeachersOfRun(
            args,
            pair,
            self.accelerator.unwrap_model(self.model),
            self.accelerator,
            strategy=strategy,
            vocabulary=vocabulary,
            rows=self.rows.to_cache,
            collate=lambda rows: prepared_batch(self, collator_of_cache(rows)),
        )
        self._check_teachers()
        if args.torch_compile:
            self.teachers.compile()
        if questions is not None:
            self.flips = self.teachers.flips_evaluation(questions, self.processing_class)
        self.min_accuracy = args.min_accuracy

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """Leave a data set as it is, where TRL would prepare it: rows are prepared once the parent is set up."""
        return dataset

    def _check_teachers(self) -> None:
        """Ask both teachers about one example, so that bad ones are refused before training."""
        row = first_trainable_row(self.train_dataset)
        if row is None:
            return
        # A whole row with a large vocabulary would take what the slices then save.
        batch = self._batch_of([a_few_tokens(row)])
        self._router.check(self.teachers.new.student, batch)
        logits = self.teachers.loss.check(batch)
        if logits is not None:
            refuse_one_model_twice(*logits)

    def _encoded_set(self, dataset: Any, name: str) -> Any:
        return self.rows.evaluation(dataset, name)

    def make_ready(self) -> None:
        """Ask both models what a cache keeps, and fit the temperatures of a product."""
        self.teachers.complete_cache()
        super().make_ready()
        self.teachers.use(self.strategy)

    def teacher_slices(self, rows: list[dict[str, Any]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give what the temperatures of a product are fitted on, of encoded rows, a few tokens at a time.

        Yields:
            The logits of the old and of the new model, (tokens, vocabulary), and the gold tokens, int64, (tokens,).
        """
        return self.teachers.logits(self._batch_of(rows))

    def cache_teachers(self, *, process: int | None = None, processes: int | None = None) -> bool:
        """Compute the teacher cache, as far as it is not there yet, and let go of the old model.

        `train` and `evaluate` do it by themselves. Called with `process` and `processes`, it computes one part, and
        the parts may be computed on several machines that share the folder.

        Args:
            process: The number of this part, from 0. Defaults to that of the training process.
            processes: How many parts there are. Defaults to the number of training processes.

        Returns:
            Whether the cache is complete; False where other parts are not there yet.

        Raises:
            ConfigurationError: `teacher_cache` is "none", or the disk is too small.
            InputError: A damaged cache.
            TeacherError: A teacher gives NaN.
        """
        return self.teachers.compute_cache(process, processes)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the compatibility loss of a batch, and the student's outputs on request; called by the trainer."""
        inputs = self._router.asked(inputs)
        result, outputs = self.teachers.loss(model, inputs, normalizer=num_items_in_batch, needs_logits=return_outputs)
        positions = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
        counts = {"positions": positions} | self._router.counts(outputs)
        loss = self._router.added(self._noted_loss(result, num_items_in_batch, **counts), outputs)
        return (loss, outputs) if return_outputs else loss
