"""`CompatibilitySeq2SeqTrainer`: a `transformers.Seq2SeqTrainer` whose loss keeps the old model's right answers."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from datasets import Dataset, DatasetDict
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    TrainerCallback,
)

from ..errors import ConfigurationError
from ..files import refuse_read_only
from ..losses.logits import IGNORE_INDEX
from ..losses.masks import Mask
from ..models.adapters import Model
from ..models.placement import as_options
from ..prediction.flips_dataset import Questions, read_questions
from ..training.base import TrainerBase
from ..training.flips_in_the_loop import choose_when_to_evaluate, refuse_best_of_no_flips
from ..training.hooks import count_labels_of_steps, keep_columns, prepared_batch
from ..training.loss.product import check_validation
from ..training.options.arguments import MISSING, OF_OTHER_TRAINERS, check_args, check_kinds, checks_arguments
from ..training.pair import ModelPair
from ..training.processes.refusals import refuse_ways_of_splitting, refuse_whole_models_compiled
from ..training.refusals import refuse_one_model_twice
from ..training.rows.checks import check_rows, say_known_questions
from ..training.rows.tokens import ENCODER_DECODER
from ..training.teachers_of_run import TeachersOfRun, paired_vocabulary
from .config import CompatibilitySeq2SeqConfig
from .contrast import Contrast, KeepsProjection
from .contrast_options import check_contrast_of_run
from .data import FLIP_TEXTS, DecoderStart, Seq2SeqCollator, refuse_other_tokens
from .rows import Seq2SeqRows

EvalDataset: TypeAlias = Dataset | DatasetDict | dict[str, Dataset]

_ADVICE = OF_OTHER_TRAINERS | {
    "data_collator": "rows are padded here; give them encoded, as input_ids and labels, where they need another code",
    "formatting_func": "give the columns prompt and completion",
    "unlabelled_dataset": "let the old model answer the prompts first (generate_answers), and add them as rows",
}
_OPTIONS = tuple(option.name for option in fields(CompatibilitySeq2SeqConfig))
# Of a row, for the first look at both teachers.
_FIRST_TOKENS = 64


@checks_arguments(
    _ADVICE,
    missing={name: reason.format(parent="transformers.Seq2SeqTrainer") for name, reason in MISSING.items()},
    elsewhere=lambda: {"args=CompatibilitySeq2SeqConfig({}=…)": _OPTIONS},
)
class CompatibilitySeq2SeqTrainer(TrainerBase, Seq2SeqTrainer):  # type: ignore[misc]  # transformers is untyped
    """Train an encoder-decoder that keeps the new model's accuracy and loses fewer of the old right answers.

    For T5, BART and their relatives, with a PEFT adapter or fully fine-tuned. The student starts as a copy of the new
    model. At every step, each token of the completion that it gets wrong is pulled to the old model, each token that
    it gets right is held at the new model (MUSCLE, arXiv 2407.09435, Eq. 1, on the decoder's distributions; other
    strategies in [`CompatibilitySeq2SeqConfig`]). Both models need one tokenizer.

    The new model that teaches is a snapshot of what the student trains: an adapter, or with `full_fine_tune` the whole
    model once more. The old model is a second model, frozen. Logged is what [`CompatibilityTrainer`] logs, over the
    tokens of completions.

    Args:
        model: The new base (id, path or model) with `new_adapter`; the new model as a whole, a PeftModel or the id or
            path of an adapter; or, with `full_fine_tune`, a model without adapter.
        old_model: The old model, in the same ways. It may be fully fine-tuned where the new one has an adapter.
        new_adapter: Id or path of the task adapter trained on the new base.
        old_adapter: Id or path of the task adapter trained on the old base.
        args: A [`CompatibilitySeq2SeqConfig`].
        train_dataset: Rows with `prompt` and `completion`, as texts or, where the tokenizer has a chat template, as
            messages; or encoded ones, with `input_ids` and unshifted `labels`.
        eval_dataset: A validation set, likewise, or several by name.
        processing_class: The tokenizer. Defaults to the one beside the new model.
        compute_metrics: As in [`transformers.Trainer`]; it receives the student's logits.
        callbacks: As in [`transformers.Trainer`].
        optimizers: As in [`transformers.Trainer`].
        preprocess_logits_for_metrics: As in [`transformers.Trainer`].
        quantization_config: For the new base, where `model` is an id or a path.
        mask: A function of your own from [`Scores`][muscle_hf.losses.masks.Scores] to bool, (tokens,), in place of the
            config's `mask`.
        flips_dataset: Questions that all three models answer greedily at each evaluation: rows with `prompt` and
            `completion` (or `reference`), or another shape that [`read_questions`] reads, but for choices. Without an
            `eval_strategy` they are asked after each epoch.

    Raises:
        ModelMismatchError: The tokenizers differ, or old and new model are the same.
        UnsupportedAdapterError: A prompt-learning adapter, or LoRA on an LM head of its own.
        ConfigurationError: A model that is no encoder-decoder, or models or options that cannot be combined.
        InputError: A data set that cannot be read, or without a token to train on.
        TeacherError: A teacher whose logits are NaN; also raised in training.
        DivergedError: What was trained has become NaN or infinity; raised at the first batch whose loss is, and where
            it would be saved.
        HubError: With `push_to_hub=True`, the repository cannot be made; also raised at the end of training.

    Example:
        >>> trainer = CompatibilitySeq2SeqTrainer(  # doctest: +SKIP
        ...     model="org/task-on-t5-v2",  # adapters, which name their bases
        ...     old_model="org/task-on-t5-v1",
        ...     args=CompatibilitySeq2SeqConfig(output_dir="out"),
        ...     train_dataset=dataset,  # columns "prompt" and "completion"
        ... )
        >>> trainer.train()  # doctest: +SKIP
    """

    teachers: TeachersOfRun
    needs_states = False
    """Whether `compute_loss` gets what the LM head reads, beside the encoder's states, for a term of its own."""

    def __init__(
        self,
        model: Model,
        old_model: Model,
        *,
        new_adapter: str | Path | None = None,
        old_adapter: str | Path | None = None,
        args: CompatibilitySeq2SeqConfig | None = None,
        train_dataset: Dataset | None = None,
        eval_dataset: EvalDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable[[EvalPrediction], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        preprocess_logits_for_metrics: Callable[[Tensor, Tensor], Tensor] | None = None,
        quantization_config: BitsAndBytesConfig | None = None,
        mask: Mask | None = None,
        flips_dataset: Dataset | None = None,
    ) -> None:
        """Load the models, encode the data, refuse what cannot be trained, and set up the parent."""
        args = CompatibilitySeq2SeqConfig(output_dir="compatible-seq2seq") if args is None else args
        check_args(args, CompatibilitySeq2SeqConfig, "Seq2SeqTrainingArguments", old_model)
        check_kinds(callbacks, processing_class, model=model, old_model=old_model)
        strategy = args.strategy(mask)
        refuse_read_only(Path(args.output_dir), "Train with an output_dir where you may write.")
        check_validation(args, eval_dataset)
        check_rows(train_dataset)
        # Before any model is loaded.
        questions = None if flips_dataset is None else _read_questions(flips_dataset)
        if questions is not None:
            say_known_questions(train_dataset, questions.prompts)
        choose_when_to_evaluate(args, eval_dataset is not None, flips_dataset is not None)
        args.refuse_options_without_data(flips_dataset=flips_dataset is not None)
        refuse_best_of_no_flips(
            args, measures_flips=flips_dataset is not None, computes_metrics=compute_metrics is not None
        )
        new_kwargs = as_options(args.model_init_kwargs)
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
            auto_class=AutoModelForSeq2SeqLM,
        )
        student, tokenizer = pair.student, pair.processing_class
        refuse_other_tokens(paired_vocabulary(pair, args))
        if args.teacher_cache != "none" or flips_dataset is not None:
            pair.take_fingerprints()  # before anything of the models is changed
        lineage = pair.lineage
        student = pair.student_to_train(args.student_rank, args.seed)
        rows = Seq2SeqRows(args, student, tokenizer)
        with args.main_process_first(desc="encoding the data sets"):
            train_dataset = rows.training(train_dataset)
            eval_dataset = rows.evaluation(eval_dataset)
        rows.is_cache_sealed = True
        check_contrast_of_run(args, train_dataset["labels"], optimizers)
        keeps = KeepsProjection()
        collator = Seq2SeqCollator(DecoderStart.of(student).padding)
        super().__init__(
            model=student,
            args=args,
            strategy=strategy,
            lineage=lineage,
            accuracy="mean_token_accuracy",
            data_collator=collator,
            train_dataset=train_dataset,
            # With flips alone to evaluate, no set is asked for its loss.
            eval_dataset={} if eval_dataset is None and flips_dataset is not None else eval_dataset,
            processing_class=tokenizer,
            compute_metrics=compute_metrics,
            callbacks=[keeps, *(callbacks or [])],
            optimizers=optimizers,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self.rows, self.min_accuracy = rows, args.min_accuracy
        self.contrast: Contrast | None = None
        if args.contrastive_weight:
            self.contrast = Contrast(self.accelerator.unwrap_model(self.model), args, seed=args.seed)
            keeps.contrast, self.needs_states = self.contrast, True
        refuse_ways_of_splitting(self)
        refuse_whole_models_compiled(self)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ConfigurationError(
                "Encoder-decoders are not split over processes here (FSDP, DeepSpeed). Train with DDP, in which each "
                "process holds both models."
            )
        self._make_repository()
        # The loss here divides by the labels' number itself, whatever the model's own forward does.
        count_labels_of_steps(self, shifted=False)
        self.label_names = ["labels"]
        keep_columns(self, ("token_weights", "target_index", *FLIP_TEXTS.values()))
        self.teachers = TeachersOfRun(
            args,
            pair,
            self.accelerator.unwrap_model(self.model),
            self.accelerator,
            strategy=strategy,
            vocabulary=None,
            rows=rows.to_cache,
            collate=lambda some: prepared_batch(self, collator(some)),
        )
        self._check_teachers()
        if questions is not None:
            self.flips = self.teachers.flips_evaluation(questions, tokenizer)

    def _check_teachers(self) -> None:
        """Ask both teachers about one example, so that bad ones are refused before training."""
        row = next(row for row in self.train_dataset if any(label != IGNORE_INDEX for label in row["labels"]))
        first = next(place for place, label in enumerate(row["labels"]) if label != IGNORE_INDEX)
        lengths = {"input_ids": _FIRST_TOKENS, "labels": first + _FIRST_TOKENS}
        lengths[ENCODER_DECODER] = lengths["labels"]
        batch = self._batch_of([{name: row[name][:length] for name, length in lengths.items()}])
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
        """Compute the teacher cache, or one part of it, as [`CompatibilityTrainer.cache_teachers`] does."""
        return self.teachers.compute_cache(process, processes)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the compatibility loss of a batch, and the student's outputs on request; called by the trainer."""
        inputs = dict(inputs)
        flips = {name: inputs.pop(name) for name in FLIP_TEXTS.values() if name in inputs}
        # Evaluations are of the compatibility loss alone.
        contrast = self.contrast if self.model.training else None
        token_loss: Any = self.teachers.loss  # never that of two tokenizers, which has no such argument
        result, outputs = token_loss(
            model,
            inputs,
            normalizer=num_items_in_batch,
            needs_logits=return_outputs,
            needs_states=self.needs_states,
        )
        positions = inputs["attention_mask"].sum() + (inputs["labels"] != IGNORE_INDEX).sum()
        loss = self._noted_loss(result, num_items_in_batch, positions=positions)
        if contrast is not None:
            loss = loss + contrast(outputs, inputs, flips, num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, *arguments: Any) -> torch.optim.Optimizer:
        """Make the optimizer, which trains the projection of the contrastive loss as well; called by the trainer."""
        is_new = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments)
        if is_new and self.contrast is not None:
            self.contrast.add_to(optimizer)
        return optimizer

    def take_up(self, checkpoint: Path) -> None:
        """Go on with the projection of a checkpoint as well."""
        super().take_up(checkpoint)
        if self.contrast is not None:
            self.contrast.take_up(checkpoint)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean contrastive loss since the last log; called by the trainer."""
        if self.contrast is not None and self.model.training:
            logs.update(self.contrast.figures())
        super().log(logs, start_time)

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **options: Any,
    ) -> tuple[float | None, Tensor | None, Tensor | None]:
        """Evaluate a batch as [`transformers.Trainer`] does; of what the model gives, the logits are kept."""
        ignored = ["past_key_values", "encoder_last_hidden_state", "decoder_hidden_states", *(ignore_keys or [])]
        step: tuple[float | None, Tensor | None, Tensor | None] = super().prediction_step(
            model, inputs, prediction_loss_only, ignored, **options
        )
        return step

    def predict(self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test") -> Any:
        """Return the student's logits, given the right tokens before, on rows as they are trained on."""
        return super().predict(self.rows.evaluation(test_dataset, "test"), ignore_keys, metric_key_prefix)


def _read_questions(dataset: Dataset) -> Questions:
    questions = read_questions(dataset)
    if questions.choices is not None:
        raise ConfigurationError(
            "flips_dataset has choices, which are scored by causal language models alone. Leave the column out, and "
            "encoder-decoders generate their answers."
        )
    return questions
