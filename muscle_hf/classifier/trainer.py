"""`CompatibilityClassifierTrainer`: a `transformers.Trainer` for classifiers that keeps the old right answers."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import fields
from itertools import islice
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

from ..errors import ConfigurationError, ModelMismatchError
from ..files import refuse_read_only
from ..flips.comparison import Comparison, compare
from ..losses.logits import IGNORE_INDEX
from ..losses.masks import Mask
from ..models.adapters import Model
from ..publishing.from_trainer import ROLES
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from ..training.base import TrainerBase
from ..training.flips_in_the_loop import hold_below_the_bound
from ..training.hooks import content_key, count_labels_of_steps, keep_columns, prepared_batch
from ..training.loss.product import check_validation, uses_product
from ..training.options.arguments import MISSING, OF_OTHER_TRAINERS, check_args, check_kinds, checks_arguments
from ..training.processes.refusals import refuse_ways_of_splitting
from ..training.processes.split_models import split_student, split_teacher
from ..training.refusals import refuse_one_model_twice, refuse_options_without
from ..training.rows.checks import check_rows
from ..training.rows.unlabelled import warn_about_weights
from .collator import ClassifierCollator
from .config import CompatibilityClassifierConfig
from .data import OLD, OWN_COLUMNS, ROW, ClassifierEncoder, Columns, encoded, labelled_rows
from .dice import DiceOptions, warn_of_pieces
from .evaluation import EvaluationMemory
from .loss import OldClasses, classifier_loss, product_answers
from .pair import ClassifierPair
from .teachers import ClassifierTeachers, tokens_of_rows
from .unlabelled import check_texts, encoded_texts, mixed_texts

logger = logging.getLogger(__name__)

AnyDataset: TypeAlias = Dataset | IterableDataset
EvalDataset: TypeAlias = AnyDataset | DatasetDict | dict[str, AnyDataset]

# Rows that both teachers are asked before training.
_FIRST_ROWS = 8
# A plain update this unlikely to be harmless is more likely a swapped pair of models.
_SURELY_WORSE = 0.001

_ADVICE = OF_OTHER_TRAINERS | {
    "flips_dataset": "flips are measured on eval_dataset, at each evaluation",
    "formatting_func": "name the columns in the config, by text_column and label_column",
}
_OPTIONS = tuple(option.name for option in fields(CompatibilityClassifierConfig))


@checks_arguments(
    _ADVICE,
    missing={name: reason.format(parent="transformers.Trainer") for name, reason in MISSING.items()},
    elsewhere=lambda: {"args=CompatibilityClassifierConfig({}=…)": _OPTIONS},
)
class CompatibilityClassifierTrainer(TrainerBase):
    """Train a classifier that keeps the new model's accuracy and loses fewer of the old right answers.

    For sequence and token classification, encoders and decoders with a classification head, fully fine-tuned or with a
    PEFT adapter on either side. The student starts as a copy of the new model. At every step each instance (each word,
    in token classification) that it gets wrong is pulled to the old model, and each one that it gets right is held at
    the new model (MUSCLE, arXiv 2407.09435, Eq. 1, on class probabilities; PCT, ELODI and others by options of
    [`CompatibilityClassifierConfig`]). Negative flips of BERT-like classifiers were first studied by Xie 2021 (arXiv
    2105.03048).

    The two models may have different tokenizers: texts are encoded for both. Their classes are matched by name. What
    the old model means for classes that only one of them knows stands in `muscle_hf.classifier.loss`.

    Three models take part and two or three are in memory: the old model, frozen; the student; and the new model that
    teaches, as a snapshot of what the student trains. For an adapter that is little; for a full fine-tune it is the
    size of the model once more.

    Logged beside the loss, over all instances or words since the last log: `aligned_to_old_model`,
    `divergence_to_old_model`, `divergence_to_new_model`, `cross_entropy` and `accuracy`, and, where the config asks
    for them, `gradient_cosine` and `share_of_conflicts`, as in [`CompatibilityTrainer`]. Every evaluation logs the
    first five with `eval_` before them, and the flips against the old model, see [`flip_metrics`]:
    `eval_negative_flip_rate` and so on, which `metric_for_best_model` can name. With a teacher "product" they log what
    that teacher itself is worth: `eval_product_accuracy`, `eval_product_negative_flip_rate` and
    `eval_product_relative_negative_flip_rate`.

    Args:
        model: The new classifier (id, path or model); or its base, with `new_adapter`; or the adapter itself.
        old_model: The old classifier, in the same ways.
        new_adapter: Id or path of the adapter trained on the new base.
        old_adapter: Id or path of the adapter trained on the old base.
        args: A [`CompatibilityClassifierConfig`].
        data_collator: In place of [`ClassifierCollator`], which it must then do the work of.
        train_dataset: Texts (or pairs of texts, or lists of words) with labels; see the config's columns. A data set
            that is tokenised already will do where both models read the same token ids.
        eval_dataset: A validation set, likewise, or several by name.
        processing_class: The new model's tokenizer. Defaults to the one beside it.
        old_processing_class: The old model's tokenizer. Defaults to the one beside it.
        compute_metrics: As in [`transformers.Trainer`]; it receives the student's logits.
        callbacks: As in [`transformers.Trainer`].
        optimizers: As in [`transformers.Trainer`].
        optimizer_cls_and_kwargs: As in [`transformers.Trainer`].
        preprocess_logits_for_metrics: As in [`transformers.Trainer`].
        quantization_config: For the new base, where `model` is an id or a path.
        mask: A function from [`Scores`] to one bool for each instance or word, in place of the config's `mask`.
        unlabelled_dataset: Texts without labels, which learn from the config's `unlabelled_teacher`; or a log with the
            old model's classes as labels.

    Raises:
        ModelMismatchError: No class in common, classes that cannot be matched, a task that is not the same, or the
            same model twice.
        UnsupportedAdapterError: A prompt-learning adapter.
        ConfigurationError: Models or options that cannot be combined, or nothing to train.
        InputError: A data set that cannot be read, or without a label to train on.
        DivergedError: What was trained has become NaN or infinity; raised at the first batch whose loss is, and where
            it would be saved.
        TeacherError: A teacher whose logits are NaN; also raised in training.
        HubError: With `push_to_hub=True`, the repository cannot be made; also raised at the end of training.

    Example:
        >>> trainer = CompatibilityClassifierTrainer(  # doctest: +SKIP
        ...     model="org/intents-v2",
        ...     old_model="org/intents-v1",
        ...     args=CompatibilityClassifierConfig(output_dir="out", cross_entropy_weight=0.5),
        ...     train_dataset=dataset,  # columns "text" and "label"
        ... )
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Model,
        old_model: Model,
        *,
        new_adapter: str | Path | None = None,
        old_adapter: str | Path | None = None,
        args: CompatibilityClassifierConfig | None = None,
        data_collator: DataCollator | None = None,
        train_dataset: AnyDataset | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        old_processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        mask: Mask | None = None,
        unlabelled_dataset: Dataset | None = None,
    ) -> None:
        """Load the models, encode the data for both, refuse what cannot be trained, and set up the parent."""
        args = CompatibilityClassifierConfig(output_dir="compatible-classifier") if args is None else args
        check_args(args, CompatibilityClassifierConfig, "TrainingArguments", old_model)
        check_kinds(callbacks, processing_class, model=model, old_model=old_model)
        strategy = args.strategy(mask)
        if train_dataset is not None:
            refuse_read_only(Path(args.output_dir), "Train with an output_dir where you may write.")
        check_rows(train_dataset)
        if args.teacher_cache == "memory" and isinstance(train_dataset, IterableDataset):
            raise ConfigurationError(
                'teacher_cache="memory" knows rows by their numbers, and a stream has none. Pass a datasets.Dataset, '
                "or leave it out."
            )
        if unlabelled_dataset is not None:
            check_texts(unlabelled_dataset, train_dataset)
            warn_about_weights(unlabelled_dataset, args.weight_column)
        else:
            refuse_options_without(args, ("preset", "unlabelled_teacher", "unlabelled_ratio"), "unlabelled_dataset")
        check_validation(args, eval_dataset)
        pair = ClassifierPair.load(
            (model, new_adapter, processing_class),
            (old_model, old_adapter, old_processing_class),
            args,
            quantization_config,
        )
        dice = DiceOptions.of(args)
        dice_term = None if dice is None else dice.term(pair.classes.new)
        new_side, old_side = pair.new_side, None if pair.reads_alike else pair.old_side
        columns = Columns(args.text_column, args.text_pair_column, args.label_column, args.weight_column)
        encoder = ClassifierEncoder(pair.task, new_side, old_side, pair.classes.new, columns)
        with args.main_process_first(desc="encoding the data sets"):
            train_dataset = encoded(encoder, train_dataset, "train")
            if unlabelled_dataset is not None:
                texts = encoded_texts(encoder, pair.classes, unlabelled_dataset, args.unlabelled_teacher)
                labelled = len(train_dataset)
                train_dataset = mixed_texts(train_dataset, texts, args.unlabelled_ratio, args.seed)
            if eval_dataset is not None:
                eval_dataset = encoded(encoder, eval_dataset, "eval")
        if data_collator is None:
            old_tokenizer = None if old_side is None else old_side.tokenizer
            data_collator = ClassifierCollator(pair.task, new_side.tokenizer, old_tokenizer)
        super().__init__(
            model=pair.student,
            args=args,
            strategy=strategy,
            lineage=pair.lineage,
            accuracy="accuracy",
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=new_side.tokenizer,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
            with_config=True,
        )
        self._make_repository()
        self._dice = dice_term
        self.classes, self.min_accuracy = pair.classes, args.min_accuracy
        if unlabelled_dataset is not None:
            self.unlabelled_rows = len(train_dataset) - labelled, len(unlabelled_dataset)
        self._encoder, self._old_classes = encoder, OldClasses(pair.classes)
        arguments = {side.role: side.arguments for side in (pair.new_side, pair.old_side)}
        self._memories: dict[str, EvaluationMemory] = {}
        self._of_training = EvaluationMemory() if args.teacher_cache == "memory" else None
        # Of the set that was evaluated last, and of the one that is evaluated now.
        self._memory = EvaluationMemory()
        self._now_evaluated: EvaluationMemory | None = None
        self._has_warned_of_swap = False
        # The parent counts the labels of the whole optimizer step for models whose loss asks for it, as the one here.
        count_labels_of_steps(self, shifted=False)
        self.label_names = ["labels"]
        keep_columns(self, (*OWN_COLUMNS, *(f"{OLD}{name}" for name in sorted(arguments["old"]))))
        refuse_ways_of_splitting(self)
        split_student(self)
        self.teachers = ClassifierTeachers(
            FrozenModelTeacher(split_teacher(self.accelerator, pair.old)),
            SharedBaseTeacher(self.accelerator.unwrap_model(self.model)),
            arguments,
            self.accelerator.autocast,
        )
        self._check_teachers()
        if dice is not None:
            warn_of_pieces(dice, args)

    def _check_teachers(self) -> None:
        """Ask both teachers about a few examples, so that bad ones are refused before training."""
        if self._of_training is not None and self.new_teacher.shards is not None:
            raise ConfigurationError(
                'teacher_cache="memory" would be ignored: processes that ask a split model together do not remember '
                "the same rows. Leave it out, or train without FSDP and ZeRO-3."
            )
        rows = list(islice(labelled_rows(self.train_dataset), _FIRST_ROWS))
        inputs = prepared_batch(self, self.data_collator(rows))
        trained = inputs["labels"] != IGNORE_INDEX
        old, new = self.teachers.ask(inputs, trained)
        if new.shape[-1] != len(self.classes.new):
            raise ModelMismatchError(
                f"The new model gives {new.shape[-1]} logits and its config says {len(self.classes.new)} classes. "
                "Load it with the num_labels that it was trained with."
            )
        in_new_classes = self._old_classes.logits(old)
        known = ~torch.isinf(in_new_classes)
        refuse_one_model_twice(in_new_classes[known].float(), new[known].float())

    def teacher_slices(self, rows: list[dict[str, Any]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give what the temperatures of a product are fitted on, of encoded rows.

        Yields:
            The logits of the old and of the new model, (instances, classes of the new one), and the labels, int64,
            (instances,).
        """
        inputs = prepared_batch(self, self.data_collator(rows))
        trained = inputs["labels"] != IGNORE_INDEX
        old, new = self.teachers.ask(inputs, trained)
        yield self._old_classes.logits(old), new, inputs["labels"][trained]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the compatibility loss of a batch, and the student's outputs on request; called by the trainer."""
        labels = inputs["labels"]
        trained = labels != IGNORE_INDEX
        memory = self._now_evaluated if ROW in inputs else None
        old, new = self.teachers.recall(inputs, trained, self._of_training if memory is None else memory)
        outputs = model(**self.teachers.inputs_of("new", inputs))
        student = outputs.logits[trained]
        numbers = torch.arange(len(labels), device=labels.device).view(-1, *[1] * (labels.dim() - 1))

        def of_rows(name: str) -> Tensor | None:
            values = inputs.get(name)
            return None if values is None else values.view_as(numbers).expand_as(labels)[trained]

        result = classifier_loss(
            student,
            old,
            new,
            labels[trained],
            old_classes=self._old_classes,
            strategy=self.strategy,
            normalizer=num_items_in_batch,
            sequence=numbers.expand_as(labels)[trained],
            weights=of_rows("weights"),
            unlabelled=of_rows("unlabelled"),
            unlabelled_teacher=self.args.unlabelled_teacher,
            dice=self._dice,
        )
        loss = self._noted_loss(result, num_items_in_batch)
        if memory is not None:
            answers = [self._old_classes.answers(old), new.argmax(-1), student.argmax(-1), labels[trained]]
            if uses_product(self.args):
                answers.append(product_answers(self._old_classes.logits(old), new, self._old_classes, self.strategy))
            memory.note(inputs[ROW].tolist(), tokens_of_rows(trained), torch.stack(answers))
        return (loss, outputs) if return_outputs else loss

    def _encoded_set(self, dataset: Any, name: str) -> Any:
        return dataset if dataset is None or isinstance(dataset, str) else encoded(self._encoder, dataset, "eval")

    def predict(
        self, test_dataset: AnyDataset, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> Any:
        """Return the student's logits on a data set of texts or an encoded one, which may lack labels."""
        return super().predict(encoded(self._encoder, test_dataset, "test"), ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """Add the method's figures and the flips of this data set to its metrics; called by the trainer."""
        # A data set's fingerprint says what is in it; a stream has none, and nothing of it is kept.
        dataset, memory = dataloader.dataset, EvaluationMemory()
        if isinstance(dataset, Dataset):
            memory = self._memories.setdefault(content_key(dataset), memory)
        memory.forget_answers()
        self._memory = self._now_evaluated = memory
        try:
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        finally:
            self._now_evaluated = None
        output.metrics.update(memory.metrics(metric_key_prefix))
        hold_below_the_bound(self, output.metrics, self._prefix_of_bound)
        self._warn_of_swapped_models()
        return output

    def _warn_of_swapped_models(self) -> None:
        update = None if self._has_warned_of_swap else self._memory.update()
        if update is not None and update.new_accuracy < update.old_accuracy and update.p_value < _SURELY_WORSE:
            self._has_warned_of_swap = True
            logger.warning(
                f"The old model is right more often than the new one ({update.old_accuracy:.1%} against "
                f"{update.new_accuracy:.1%} of {update.n}). If that is not what you know of this update, model and "
                "old_model are swapped, or one of them has its classes in another order than their names say."
            )

    @property
    def _prefix_of_bound(self) -> str:
        best = self.args.best_metric
        return f"eval_{best[0]}" if best is not None and best[0] else "eval"

    def measured_comparisons(self) -> dict[str, Comparison]:
        """Compare new model and student with the old one on the one evaluation set, as it was evaluated last."""
        if not isinstance(self.eval_dataset, Dataset):
            return {}
        answers = self._memory.columns()
        references = answers["references"]
        return {
            role: compare(old=answers["old"], new=answers[role], references=references) for role in ROLES if references
        }
