"""The teachers of a training run: what is loaded of them, what is cached, and the loss that asks them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.logging import get_logger
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..alignment.vocabulary_map import VocabularyMap, check_same_vocabulary
from ..errors import ConfigurationError
from ..losses.strategy import Strategy
from ..models.adapters import base_model
from ..models.compiled import compile_layers
from ..models.processes import from_every_process, on_main_process, place
from ..models.sharding import whole_shape
from ..prediction.flips_dataset import Questions
from ..teachers.cache import TeacherCache
from ..teachers.live import FrozenModelTeacher, SharedBaseTeacher
from .config import CompatibilityConfig
from .flips_evaluation import Answerer, FlipsEvaluation
from .loss.aligned import AlignedLoss
from .loss.cached_targets import CachedTargets, CacheOfRun
from .loss.per_token import TokenLoss
from .loss.two_goals import compares_gradients
from .pair import ModelPair
from .processes.split_models import split_teacher

logger = get_logger(__name__)


def paired_vocabulary(pair: ModelPair, args: CompatibilityConfig) -> VocabularyMap | None:
    """Pair the tokens of both models, or refuse; None where they are the same, or are aligned in the text."""
    if args.alignment != "tokens":
        pair.required_old_tokenizer()
        return None
    # Loaded now where it will be needed, so that whatever is wrong with it shows before data are encoded.
    old = pair.old if args.teacher_cache == "none" else pair.old_outline()
    vocabulary = check_same_vocabulary(pair.student, old, pair.processing_class, pair.old_tokenizer)
    return None if vocabulary.identical else vocabulary


class TeachersOfRun:
    """Loads, caches and asks the teachers of [`CompatibilityTrainer`] and [`CompatibilitySeq2SeqTrainer`].

    The student is prepared and not wrapped; `vocabulary` holds the tokens of both models by identity, where they
    differ; `rows` are the data sets by name, their tokens numbered, for the cache, and `collate` makes a batch of some
    of them, on the teachers' device.
    """

    def __init__(
        self,
        args: CompatibilityConfig,
        pair: ModelPair,
        student: Any,
        accelerator: Accelerator,
        *,
        strategy: Strategy,
        vocabulary: VocabularyMap | None,
        rows: Mapping[str, Dataset],
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
    ) -> None:
        """Load what is needed of the old model, and make the loss."""
        self.args, self.pair, self.accelerator, self.strategy = args, pair, accelerator, strategy
        self.vocabulary, self._collate = vocabulary, collate
        if vocabulary is not None:
            logger.warning(str(vocabulary))
        self.new = SharedBaseTeacher(student, vocabulary)
        self.old: FrozenModelTeacher | None = None
        self._cache = None if args.teacher_cache == "none" else self._cache_of(rows)
        caches = None if self._cache is None else opened_together(self._cache)
        if caches is not None:
            pair.forget_old()
        else:
            self.old = FrozenModelTeacher(split_teacher(accelerator, pair.old), vocabulary)
        self.loss = self._loss(caches)

    def _cache_of(self, rows: Mapping[str, Dataset]) -> CacheOfRun:
        args, pair = self.args, self.pair
        size = whole_shape(base_model(pair.student).get_output_embeddings().weight)[0]
        common = size if self.vocabulary is None else len(self.vocabulary.new_ids)
        precision = pair.old_precision(args)
        return CacheOfRun(args, rows, pair.fingerprints, self.new.student, pair.old_config, common, precision)

    def _loss(self, caches: list[TeacherCache] | None) -> TokenLoss | AlignedLoss:
        if self.args.alignment == "chunks":
            return AlignedLoss(
                self.new.student,
                self.old,
                self.new,
                self.strategy,
                tokenizers=(self.pair.processing_class, self.pair.required_old_tokenizer()),
                old_vocabulary=self.pair.old_config.get_text_config().vocab_size,
                implementation=self.args.loss_implementation,
                autocast=self.accelerator.autocast,
                apart=compares_gradients(self.args),
                caches=caches,
            )
        return TokenLoss(
            self.new.student,
            self.old,
            self.new,
            self.strategy,
            implementation="chunked" if self._cache is not None else self.args.loss_implementation,
            autocast=self.accelerator.autocast,
            apart=compares_gradients(self.args),
            cache=None if caches is None else CachedTargets(caches, self.new, self.accelerator.device),
        )

    def use(self, strategy: Strategy) -> None:
        """Train with this strategy from now on."""
        self.strategy = self.loss.strategy = strategy

    def logits(self, batch: dict[str, Any]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Give both teachers' logits and the gold tokens of a batch, see [`TokenLoss`]; not of two tokenizers."""
        assert isinstance(self.loss, TokenLoss), "chunks have no logits in common"  # noqa: S101 - a mistake of ours
        return self.loss.teacher_logits(batch)

    def compute_cache(self, process: int | None = None, processes: int | None = None) -> bool:
        """Compute the cache, or one part of it, and let go of the old model once it is whole; see the trainer."""
        if self._cache is None:
            raise ConfigurationError(
                'teacher_cache is "none"; set it to "sampled" or "hidden", or, with alignment="chunks", to "chunks".'
            )
        if self.old is None:
            return True
        write = partial(
            self._cache.write,
            self.old,
            self.new,
            self._collate,
            self.accelerator.autocast,
            rows_at_once=self.args.per_device_eval_batch_size,
            show_progress=not self.args.disable_tqdm,
            process=self.accelerator.process_index if process is None else process,
            processes=self.accelerator.num_processes if processes is None else processes,
        )
        from_every_process(write)  # which may take hours longer in one than in another
        caches = opened_together(self._cache)
        if caches is None:
            return False
        self.old = None
        self.pair.forget_old()
        self.loss = self._loss(caches)
        return True

    def complete_cache(self) -> None:
        """Compute the cache, where there is to be one, as far as it is not there yet."""
        if self._cache is not None and not self.compute_cache():
            raise _not_shared(self._cache)

    def compile(self) -> None:
        """Compile the layers of student and old model, one by one, as the config says."""
        options = {"backend": self.args.torch_compile_backend, "mode": self.args.torch_compile_mode}
        for model in (self.new.student, *([] if self.old is None else [self.old.model])):
            compile_layers(model, **options)

    def flips_evaluation(self, questions: Questions, tokenizer: PreTrainedTokenizerBase) -> FlipsEvaluation:
        """Make what asks all three models; the old one is loaded only where its answers are not kept."""
        args, pair = self.args, self.pair
        precision = f"{base_model(pair.student).dtype}, bf16={args.bf16}, fp16={args.fp16}"
        fingerprints = pair.fingerprint_of_answers(args.flips_max_new_tokens)

        has_own = self.vocabulary is not None or args.alignment == "chunks"
        own = pair.required_old_tokenizer() if has_own else None

        @contextmanager
        def old() -> Iterator[Any]:
            yield pair.ready_to_ask("old", self.accelerator)
            if self.old is None:
                pair.forget_old()

        def new() -> AbstractContextManager[Any]:
            return self.new.in_place()

        return FlipsEvaluation(
            questions,
            tokenizer,
            old=Answerer(f"{fingerprints['old']}, {precision}", old, tokenizer=own),
            new=Answerer(f"{fingerprints['new']}, {precision}", new),
            folder=Path(args.output_dir) / "flips_evaluation",
            max_new_tokens=args.flips_max_new_tokens,
            batch_size=args.per_device_eval_batch_size,
            autocast=self.accelerator.autocast,
            show_progress=not args.disable_tqdm,
            may_end=bool(base_model(pair.student).config.is_encoder_decoder),
        )


def opened_together(cache: CacheOfRun) -> list[TeacherCache] | None:
    """Open a cache that is whole, and check its bytes together; None where it is not.

    One process looks for all, since another may complete it in the meantime.
    """
    opened: list[list[TeacherCache] | None] = []

    def look() -> bool:
        opened.append(cache.open())
        return opened[0] is not None

    if not on_main_process(look):
        return None

    def find() -> None:
        caches = opened[0] if opened else cache.open()
        if caches is None:
            raise _not_shared(cache)
        opened[:] = [caches]

    def get_ready() -> None:
        for each in opened[0] or ():
            each.get_ready(*place())

    from_every_process(find)
    from_every_process(get_ready)  # once all have theirs, since a shard that is damaged goes
    return opened[0]


def _not_shared(cache: CacheOfRun) -> ConfigurationError:
    return ConfigurationError(
        f"The teacher cache in {cache.root} is not complete although every process has computed its part. Do all "
        "machines see the same folder? Name one that they share as teacher_cache_dir."
    )
