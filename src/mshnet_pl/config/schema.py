"""The settings of every command: types, defaults, bounds and meanings. ``docs/settings.md`` is made from them.

Nodes with a ``_target_`` (data.source, backbone, similarity, model, optimizer, scheduler, trainer, logger, callbacks) are
leaves: their constructors check their own arguments. Lightning's Trainer checks few, so those are described here.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mshnet_pl.config.settings import Effect, Setting, setting
from mshnet_pl.options import (
    MAX_SIDE,
    MIN_SIDE,
    BadFiles,
    Criterion,
    Fusion,
    LossGrid,
    NonFinite,
    NovelPixels,
    Protocol,
    Resolution,
    SupportKind,
    ValClasses,
    Which,
)

_TRAINER = {
    "max_steps": Setting("Optimizer steps after which training ends; -1 for no limit.", -1, kind=int),
    "max_epochs": Setting("Epochs after which training ends; -1 for no limit.", -1, kind=int | None),
    "precision": Setting("32-true, or bf16-mixed, which is slower on a CPU without AVX512-BF16 or AMX."),
    "gradient_clip_val": Setting("Largest norm of the gradient; null for no clipping.", 0, kind=float | None),
    "accumulate_grad_batches": Setting("Batches whose gradients are summed for a step.", 1, kind=int),
    "deterministic": Setting("Use deterministic algorithms alone, on a GPU too."),
    "accelerator": Setting("auto, cpu or gpu.", effect=Effect.NO),
    "devices": Setting("Processes of a run; with several, a batch is as many times as large.", effect=Effect.NO),
    "num_nodes": Setting("Machines of a run, which torchrun or srun starts.", 1, effect=Effect.NO, kind=int),
    "strategy": Setting("How processes share the work; set by strategy=CHOICE.", effect=Effect.NO),
    "log_every_n_steps": Setting("Steps between two lines of the log; 0 for none.", 0, effect=Effect.NO, kind=int),
    "enable_progress_bar": Setting("Show the progress.", effect=Effect.NO, kind=bool),
    "enable_model_summary": Setting("Print the network's layers at the start.", effect=Effect.NO, kind=bool),
}


@dataclass
class AugmentConfig:
    """Random changes of training pictures; everything off by default, as in the paper."""

    flip: bool = setting(False, "Mirror half of the pictures left to right.")
    crop_scale: float = setting(
        1.0, "Cut out at least this fraction of the area and enlarge it; 1 for no crop.", min=0.01, max=1
    )
    rotate: float = setting(0.0, "Turn half of the pictures by up to this many degrees; 0 for no turn.", min=0, max=180)
    zoom: float = setting(
        0.0,
        "Enlarge or shrink by up to this fraction, cut or filled to the size (masks with 255); 0 for no change.",
        min=0,
        max=0.9,
    )
    blur: bool = setting(False, "Blur half of the pictures a little.")
    jitter: float = setting(
        0.0, "Change brightness, contrast and saturation by up to this fraction; 0 for no change.", min=0, max=1
    )


@dataclass
class DataConfig:
    """What images there are, and how training samples them."""

    source: Any = setting(None, "The data set's class and its arguments; set by data=CHOICE.")
    root: str | None = setting(
        MISSING, "The data set's folder; null for synthetic images, which need none.", effect=Effect.NAMED
    )
    splits_dir: str | None = setting(
        None, "Folder with the published split lists; null derives them from the masks.", effect=Effect.NAMED
    )
    image_size: int = setting(473, "Side in pixels of the square that images are resized to.", min=MIN_SIDE, max=MAX_SIDE)
    batch_size: int = setting(8, "Episodes in a training batch of one process.", min=1)
    num_workers: int = setting(0, "Processes that load images; 0 loads in the process itself.", min=0, effect=Effect.NO)
    novel_pixels: NovelPixels = setting(
        NovelPixels.drop,
        "Training images that hold a novel class: drop leaves them out (the paper), keep labels the novel class "
        "background (HSNet), ignore labels it 255.",
    )
    min_images: int = setting(0, "Classes with fewer images are left out, in training and in tests.", min=0)
    bad_files: BadFiles = setting(
        BadFiles.error,
        "Damaged or missing images: error ends the run and names them, skip takes another episode and names them in "
        "the result.",
        effect=Effect.ENDS,
    )
    cache_mb: int = setting(0, "Megabytes for resized images; 0 for no cache.", min=0, effect=Effect.NO)
    cache_dir: str | None = setting(
        None, "Folder for the cache of resized images, for later runs too; null keeps it in shared memory.", effect=Effect.NO
    )
    feature_cache: str | None = setting(
        None,
        "Folder that keeps the frozen backbone's features for training and tests; its size is printed beforehand; null "
        "for none.",
        effect=Effect.NO,
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class LossConfig:
    """The loss of training, eq. 1 of the paper."""

    inner_weight: float = setting(
        1 / 3, "Weight of each intermediate loss: 1/3 in the paper, 0.3 in the authors' code.", min=0
    )
    ignore_unknown: bool = setting(
        False,
        "Leave pixels labelled 255 out of the loss; otherwise they are background. data.novel_pixels=ignore does so "
        "in any case.",
    )
    foreground_weight: float = setting(
        1.0, "What an object's pixel counts in the loss, 1 in the paper; more gives larger predictions.", min=0.01
    )
    grid: LossGrid = setting(
        LossGrid.logits,
        "Where logits and mask meet: on the logits' grid, or at the image's size, as most published code has it.",
    )
    criterion: Criterion = setting(
        Criterion.cross_entropy, "What compares them: cross_entropy, or dice, the sum of both classes' Dice losses (CyCTR)."
    )
    nonfinite: NonFinite = setting(
        NonFinite.stop,
        "A step whose loss or gradient is not finite: stop ends the run and keeps the step for mshnet-train replay, "
        "skip leaves it out and counts it.",
        effect=Effect.ENDS,
    )


@dataclass
class ValConfig:
    """Validation during training, which chooses the best checkpoint."""

    episodes: int = setting(0, "Episodes of a validation; 0 for no validation.", min=0)
    every_n_steps: int = setting(500, "Optimizer steps between two validations.", min=1)
    classes: ValClasses = setting(
        ValClasses.novel,
        "Validate on the novel classes (the field's habit, biased) or on base_heldout, base classes that are not trained.",
    )
    heldout: int = setting(
        3, "How many base classes base_heldout keeps from training, where the data set names none itself.", min=1
    )


@dataclass
class EvalConfig:
    """How tests predict and score; validation predicts without any of it."""

    resolution: Resolution = setting(
        Resolution.resized, "Score at data.image_size (resized) or at each query's own size (original)."
    )
    flip: bool = setting(False, "Average the logits of every query and of its mirror image.")
    scales: list[float] = setting(
        [1.0], "Average the logits over images of these multiples of data.image_size; at least 32 pixels remain."
    )
    fusion: Fusion = setting(
        Fusion.network,
        "How several supports become one prediction: as the method does it (network), or each alone, by the mean of the "
        "logits or by vote (HSNet).",
    )
    guided: float = setting(
        0.0,
        "Radius of the guided filter that smooths predictions along the query's colours, as a share of the side, at least "
        "one pixel; 0 for no filter.",
        min=0,
        max=0.5,
    )
    zooms: list[float] = setting(
        [],
        "Show every support once more for each of these numbers, cut out around its object: so many times the longer side "
        "of the object's box; [] for none.",
        min=1,
        max=10,
    )


@dataclass
class TestConfig:
    """Which episodes are tested, and with which checkpoint."""

    __test__ = False  # not a pytest class

    episodes: int = setting(1000, "Episodes of a test.", min=1)
    seeds: list[int] = setting([0], "Seeds of the test episodes; each is a test of its own.", min=0, effect=Effect.NAMED)
    shots: list[int] | None = setting(
        None, "Numbers of supports, each a test of its own; null for the shot of training.", min=1, effect=Effect.NAMED
    )
    protocol: Protocol = setting(
        Protocol.seeded,
        "seeded samples episode n of a seed, with distinct supports; published uses the published lists (NumPy's legacy "
        "generator, seed 0).",
    )
    support: SupportKind = setting(
        SupportKind.mask,
        "What is shown of supports: mask, or box (of every connected part), largest_box, scribble or point at random, "
        "of which the mask is then made.",
    )
    controls: int = setting(
        0,
        "Of each test so many episodes are also asked with supports of a class that the query does not show, and so many "
        "queries that show two classes for each of them: whether the supports decide. 0 for none.",
        min=0,
        effect=Effect.NAMED,
    )
    checkpoint: Which = setting(
        Which.last, "Test the checkpoint that was best in validation, or the last one.", effect=Effect.NAMED
    )
    untrained: bool = setting(False, "Test the network before training, too.", effect=Effect.NAMED)
    pictures: int = setting(
        4, "Episodes shown of each test, as many of the best, median and worst ones; 0 for none.", min=0, effect=Effect.NO
    )
    feature_mb: int = setting(
        2048, "Megabytes in which a test keeps the frozen backbone's features; 0 for none.", min=0, effect=Effect.NO
    )


@dataclass
class Config:
    """Everything that ``mshnet-train`` and ``mshnet-test`` know."""

    fold: int | str = setting(
        MISSING,
        "Which fold's classes are novel: tested, and never trained. all trains every class and tests those, or tests every "
        "class with a network that other data trained.",
        min=0,
        effect=Effect.NAMED,
    )
    shot: int = setting(1, "Supports of a class in an episode.", min=1, effect=Effect.NAMED)
    way: int = setting(1, "Classes of an episode.", min=1)
    seed: int = setting(0, "Seed of the weights and of the training episodes.", min=0, max=2**32 - 1, effect=Effect.NAMED)
    variant: str = setting(
        "full", "Name of the ablation in tables and folders; set by ablation=CHOICE.", effect=Effect.NAMED
    )
    runs: str = setting("runs", "Folder that results go to, each into a folder of its own.", effect=Effect.NO)
    threads: int | None = setting(None, "CPU threads of a process; null for PyTorch's choice.", min=1, effect=Effect.NO)
    gpus: Any = setting(
        None,
        "GPUs that the jobs of a sweep share out: all, or a list such as [0,1]; null shares none out.",
        effect=Effect.NO,
    )
    ckpt: str | None = setting(
        None,
        "Network that mshnet-test and mshnet-report energy read, a checkpoint or a name as for mshnet-predict; "
        "checkpoint of mshnet-train replay.",
        effect=Effect.NAMED,
    )
    ckpt_path: str | None = setting(
        "last",
        "Which training to resume: last is this configuration's own run, null starts anew, a path is the training that "
        "wrote that checkpoint, with its optimizer and its count of steps.",
        effect=Effect.NAMED,
    )
    init_from: str | None = setting(
        None,
        "Fine-tuning: a checkpoint whose weights training starts from, with a new optimizer and at step 0; of mshnet-train "
        "or mshnet-convert, trained on any data.",
        effect=Effect.NAMED,
    )
    save_every_n_steps: int = setting(
        100, "Optimizer steps between two checkpoints to resume from.", min=1, effect=Effect.NO
    )
    data: DataConfig = field(default_factory=DataConfig)
    backbone: Any = setting(
        None,
        "Network that gives the features.",
        arguments={"trainable": Setting("Train the backbone too.", effect=Effect.NAMED, kind=bool)},
    )
    similarity: Any = setting(
        None, "Similarities of query and supports, by name; the models that use some repeat them.", effect=Effect.NAMED
    )
    model: Any = setting(
        None,
        "Few-shot segmentation method.",
        arguments={"backbone": Setting("The backbone's settings, repeated.", effect=Effect.NAMED)},
    )
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: Any = setting(None, "torch.optim's class and its arguments, such as optimizer.lr.")
    groups: Any = setting(
        None,
        "Parameters with rates of their own: by any name, a pattern of parameters' names, a factor of optimizer.lr, and "
        "further arguments of the optimizer; constant: true keeps a group from the schedule.",
    )
    scheduler: Any = setting(None, "Learning rate over the steps of training.")
    trainer: Any = setting(None, "Lightning's Trainer; any further argument as +trainer.NAME=VALUE.", arguments=_TRAINER)
    logger: Any = setting(None, "Where the course of training is recorded.", effect=Effect.NO)
    callbacks: Any = setting(None, "Additions to training, a list such as [ema,early_stopping]; none by default.")
    val: ValConfig = field(default_factory=ValConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    test: TestConfig = field(default_factory=TestConfig)


@dataclass
class EnergyConfig(Config):
    """Everything that ``mshnet-report energy`` knows."""

    episodes: list[int] = setting([0, 1], "Numbers of the test episodes that are shown.", min=0)
    average: int = setting(
        100, "Test episodes, the first ones, over which the areas under the ROC curve are averaged.", min=1
    )
    out: str = setting("energy.png", "File of the figure: .png, .pdf or .svg.", effect=Effect.NO)
    pictures: bool = setting(True, "Show the photographs; false shows maps and outlines only.", effect=Effect.NO)
    overwrite: bool = setting(False, "Replace the figure if there is one.", effect=Effect.NO)
