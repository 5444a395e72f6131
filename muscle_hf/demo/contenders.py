"""Who takes part in the demo, and what decides its figures; nothing here loads a model, or torch."""

from dataclasses import dataclass

from ..card import CONTROL as CONTROL_ROW
from ..card import OLD_MODEL, PLAIN_UPDATE


@dataclass(frozen=True)
class Contender:
    """A model that the demo asks."""

    name: str  # its row in the table
    folder: str  # of its adapter below the output folder, and the name of its files of answers
    longer: bool = False  # as many steps as an epoch over labelled rows and prompts, whether it sees these or not
    learns_from: "Contender | None" = None  # the model whose answers to the prompts it learns; None where it sees none


@dataclass(frozen=True)
class Candidate(Contender):
    """A compatibility adapter."""

    cross_entropy_weight: float = 0.0  # of the cross-entropy in its loss
    controls: tuple[Contender, ...] = ()  # the new adapter, trained on for as many steps with cross-entropy


OLD = Contender(OLD_MODEL, "old")
NEW = Contender(PLAIN_UPDATE, "new")
CONTROL = Contender(CONTROL_ROW, "control")
EQUATION_1 = Candidate("compatibility, Eq. 1", "compatibility", controls=(CONTROL,))
WITH_CROSS_ENTROPY = Candidate(
    "compatibility, + CE 0.5", "compatibility-ce", cross_entropy_weight=0.5, controls=(CONTROL,)
)
LONGER_CONTROL = Contender("control: its steps", "control-unlabelled", longer=True)
FAIR_CONTROL = Contender("control: same prompts", "control-prompts", longer=True, learns_from=NEW)
UNLABELLED = Candidate(
    "compatibility, unlabelled",
    "compatibility-unlabelled",
    longer=True,
    learns_from=OLD,
    controls=(LONGER_CONTROL, FAIR_CONTROL),
)
BOUND = "bound: surer of both"


@dataclass(frozen=True)
class Cast:
    """The rows of a demo: those of the story, or all."""

    candidates: tuple[Candidate, ...]  # one of them is shipped
    controls: tuple[Contender, ...]  # what they are held against

    @property
    def updates(self) -> tuple[Contender, ...]:
        """What is trained on from the new adapter, in the order of the table: controls follow their candidates."""
        return (*self.candidates, *self.controls)

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """All that are asked."""
        return (OLD, NEW, *self.updates)


STORY = Cast((UNLABELLED,), UNLABELLED.controls)
FULL = Cast((EQUATION_1, WITH_CROSS_ENTROPY, UNLABELLED), (CONTROL, *UNLABELLED.controls))


@dataclass(frozen=True)
class DemoSettings:
    """What decides the figures of a demo, apart from the machine; the story and all rows have them in common."""

    seed: int = 0
    training_rows: int = 3000  # labelled utterances, of 15,000
    validation_rows: int = 750  # of 3,000: they stop the task training and choose among adapters
    test_rows: int = 4500  # of 4,500
    task_epochs: int = 6  # at most: validation stops the new task adapter earlier
    task_learning_rate: float = 3e-3
    update_epochs: int = 3  # of a compatibility adapter on the labelled rows, and of its control
    update_learning_rate: float = 1e-3  # of all compatibility adapters and controls
    # Prompts without labels for each labelled one, of 12,000. One adapter learns from both for an epoch, and its
    # controls go as many steps.
    unlabelled_ratio: int = 3

    @classmethod
    def fast(cls, seed: int = 0) -> "DemoSettings":
        """Return settings that show every stage in under a minute, and whose figures mean nothing."""
        return cls(
            seed=seed,
            training_rows=450,
            validation_rows=150,
            test_rows=300,
            task_epochs=2,
            update_epochs=1,
            unlabelled_ratio=1,
        )
