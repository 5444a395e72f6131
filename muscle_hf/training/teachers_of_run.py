"""The teachers of a training run: what is loaded of them, what is cached, and the loss that asks them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.logging import get_logger

from ..alignment.vocabulary_map import check_same_vocabulary
from ..errors import ConfigurationError, ModelMismatchError
from ..losses.strategy import Strategy
from ..models.adapters import base_model
from ..prediction.flips_dataset import Questions
from ..teachers.cache import TeacherCache
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .aligned_loss import AlignedLoss
from .cached_targets import CachedTargets, CacheOfRun
from .config import CompatibilityConfig
from .data import a_few_tokens, first_trainable_row
from .flips_evaluation import Answerer, FlipsEvaluation, holding
from .hooks import kept_columns, prepared_batch, prepared_teacher
from .preparation import RowsOfTraining
from .processes import on_main_process
from .token_loss import TokenLoss

logger = get_logger(__name__)


class TeachersOfTraining(RowsOfTraining):
    """The part of [`CompatibilityTrainer`] that loads, caches and asks the teachers."""

    strategy: Strategy
    old_teacher: FrozenModelTeacher | None
    _cache: CacheOfRun | None = None

    def _check_vocabularies(self, args: CompatibilityConfig) -> None:
        """Pair the tokens of both models, or refuse."""
        pair = self._pair
        # Loaded now where it will be needed, so that whatever is wrong with it shows before data are encoded.
        old = pair.old if args.teacher_cache == "none" else pair.old_outline()
        found = check_same_vocabulary(pair.student, old, pair.processing_class, pair.old_tokenizer)
        self._vocabulary = None if found.identical else found

    def _set_up_teachers(self) -> None:
        """Load what is needed of the old model, and make the loss."""
        pair, args = self._pair, self.args
        if self._vocabulary is not None:
            logger.warning(str(self._vocabulary))
        self.new_teacher = SharedBaseTeacher(self.accelerator.unwrap_model(self.model), self._vocabulary)
        self.old_teacher, caches = None, None
        if args.teacher_cache != "none":
            size = base_model(pair.student).get_output_embeddings().weight.shape[0]
            common = size if self._vocabulary is None else len(self._vocabulary.new_ids)
            self._cache = CacheOfRun(
                args,
                self._rows_to_cache,
                pair.fingerprints,
                self.new_teacher.student,
                pair.old_config,
                common,
                pair.old_precision(args),
            )
            self._cache_is_open = True
            cache, opened = self._cache, []

            def look() -> bool:
                opened.append(cache.open())
                return opened[0] is not None

            # One process looks for all: another may complete it in the meantime.
            if on_main_process(look):
                caches = opened[0] if opened else cache.open()
        if caches is not None:
            pair.forget_old()
        else:
            self.old_teacher = FrozenModelTeacher(prepared_teacher(self.accelerator, pair.old), self._vocabulary)
        self._make_loss(caches)
        self._check_teachers()

    def _make_loss(self, caches: list[TeacherCache] | None) -> None:
        if self.args.alignment == "chunks":
            self._token_loss: TokenLoss | AlignedLoss = AlignedLoss(
                self.new_teacher.student,
                self.old_teacher,
                self.new_teacher,
                self.strategy,
                tokenizers=(self._pair.processing_class, self._pair.required_old_tokenizer()),
                old_vocabulary=self._pair.old_config.get_text_config().vocab_size,
                autocast=self.accelerator.autocast,
                caches=caches,
            )
            return
        self._token_loss = TokenLoss(
            self.new_teacher.student,
            self.old_teacher,
            self.new_teacher,
            self.strategy,
            implementation="chunked" if self._cache is not None else self.args.loss_implementation,
            autocast=self.accelerator.autocast,
            cache=None if caches is None else CachedTargets(caches, self.new_teacher, self.accelerator.device),
        )

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
        if self._cache is None:
            raise ConfigurationError(
                'teacher_cache is "none"; set it to "topk" or "hidden" in the config, or, with alignment="chunks", to '
                '"chunks".'
            )
        if self.old_teacher is None:
            return True
        collate = self.data_collator if self.args.alignment == "chunks" else self._collator_alone
        self._cache.write(
            self.old_teacher,
            self.new_teacher,
            lambda rows: prepared_batch(self, collate(rows)),
            self.accelerator.autocast,
            rows_at_once=self.args.per_device_eval_batch_size,
            show_progress=not self.args.disable_tqdm,
            process=self.accelerator.process_index if process is None else process,
            processes=self.accelerator.num_processes if processes is None else processes,
        )
        self.accelerator.wait_for_everyone()
        caches = self._cache.open()
        if caches is None:
            return False
        self.old_teacher = None
        self._pair.forget_old()
        self._make_loss(caches)
        return True

    def _complete_cache(self) -> None:
        if self._cache is not None and not self.cache_teachers():
            raise ConfigurationError(
                f"The teacher cache in {self._cache.root} is not complete although every process has computed its "
                "part. Do all machines see the same folder? Name one that they share as teacher_cache_dir."
            )

    def train(self, *arguments: Any, **options: Any) -> Any:
        """Train, as [`transformers.Trainer.train`] does; a teacher cache is computed before the first step."""
        self._complete_cache()
        return super().train(*arguments, **options)

    def evaluate(self, *arguments: Any, **options: Any) -> dict[str, float]:
        """Evaluate, as [`trl.SFTTrainer`] does; a teacher cache is computed before."""
        self._complete_cache()
        metrics: dict[str, float] = super().evaluate(*arguments, **options)
        return metrics

    def _check_teachers(self) -> None:
        """Ask both teachers about one example, so that bad ones are refused before training."""
        row = first_trainable_row(self.train_dataset)
        if row is None:
            return
        if self.args.remove_unused_columns:
            row = {name: row[name] for name in kept_columns(self) if name in row}
        if self.args.alignment == "tokens":
            row = a_few_tokens(row)  # a whole row with a large vocabulary would take what the slices then save
        rows = self._token_loss.check(prepared_batch(self, self.data_collator([row])))
        if rows is not None and torch.equal(*rows):
            raise ModelMismatchError(
                "The old and the new model give exactly the same logits: they are the same model, and there is no "
                "update to be compatible to. Check old_model, old_adapter, model and new_adapter."
            )

    def _flips_evaluation(self, questions: Questions) -> FlipsEvaluation:
        """Make what asks all three models; the old one is loaded only where its answers are not kept."""
        args, pair = self.args, self._pair
        precision = f"{base_model(pair.student).dtype}, bf16={args.bf16}, fp16={args.fp16}"
        fingerprints = pair.fingerprint_of_answers(args.flips_max_new_tokens)

        has_own = self._vocabulary is not None or args.alignment == "chunks"
        own = pair.required_old_tokenizer() if has_own else None

        @contextmanager
        def old() -> Iterator[Any]:
            yield pair.on_device("old", args.device)
            if self.old_teacher is None:
                pair.forget_old()

        def new() -> AbstractContextManager[Any]:
            return holding(self.new_teacher.student, self.new_teacher.snapshot)

        return FlipsEvaluation(
            questions,
            self.processing_class,
            old=Answerer(f"{fingerprints['old']}, {precision}", old, tokenizer=own),
            new=Answerer(f"{fingerprints['new']}, {precision}", new),
            folder=Path(args.output_dir) / "flips_evaluation",
            max_new_tokens=args.flips_max_new_tokens,
            batch_size=args.per_device_eval_batch_size,
            autocast=self.accelerator.autocast,
            show_progress=not args.disable_tqdm,
        )
