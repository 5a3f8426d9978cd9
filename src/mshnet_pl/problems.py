"""What must hold for settings and between them, before any work is done."""

from mshnet_pl.data.choices import Protocol, augment_problems
from mshnet_pl.evaluation import eval_problems
from mshnet_pl.schema import Config, EnergyConfig, Which


def problems(config: Config) -> list[str]:
    """What cannot work, each with the way out."""
    at_least = [
        ("fold", config.fold, 0),
        ("shot", config.shot, 1),
        ("way", config.way, 1),
        ("seed", config.seed, 0),
        ("save_every_n_steps", config.save_every_n_steps, 1),
        ("threads", 1 if config.threads is None else config.threads, 1),
        ("data.image_size", config.data.image_size, 32),
        ("data.batch_size", config.data.batch_size, 1),
        ("data.num_workers", config.data.num_workers, 0),
        ("data.min_images", config.data.min_images, 0),
        ("data.cache_mb", config.data.cache_mb, 0),
        ("loss.inner_weight", config.loss.inner_weight, 0),
        ("val.episodes", config.val.episodes, 0),
        ("val.every_n_steps", config.val.every_n_steps, 1),
        ("val.heldout", config.val.heldout, 1),
        ("test.episodes", config.test.episodes, 1),
        ("test.pictures", config.test.pictures, 0),
        ("test.feature_mb", config.test.feature_mb, 0),
        *(("test.seeds", seed, 0) for seed in config.test.seeds),
        *(("test.shots", shot, 1) for shot in config.test.shots or ()),
    ]
    if isinstance(config, EnergyConfig):
        at_least += [("average", config.average, 1), *(("episodes", number, 0) for number in config.episodes)]
    problems = [f"{key}={value}: give a number of at least {least}" for key, value, least in at_least if value < least]
    problems += augment_problems(config.data.augment.crop_scale, config.data.augment.jitter)
    problems += eval_problems(config.eval, max(config.data.image_size, 1))
    if config.data.cache_dir is not None and not config.data.cache_mb:
        problems.append(
            f"data.cache_dir={config.data.cache_dir} needs a budget: give data.cache_mb=10000, or leave data.cache_dir=null"
        )
    augment = config.data.augment
    if config.data.feature_cache is not None and (augment.flip or augment.crop_scale != 1 or augment.jitter):
        problems.append(
            f"data.feature_cache={config.data.feature_cache}: changed pictures have no lasting features; "
            "leave data.augment off, or data.feature_cache=null"
        )
    if not config.test.seeds:
        problems.append("test.seeds=[]: give at least one seed")
    if config.test.shots == []:
        problems.append("test.shots=[]: give at least one number of shots, or null for the shot of training")
    if config.test.protocol is Protocol.published and config.test.seeds != [0]:
        problems.append(
            f"test.seeds={config.test.seeds}: test.protocol=published has one set of episodes; "
            "leave test.seeds=[0], or take test.protocol=seeded"
        )
    if config.test.protocol is Protocol.published and config.way > 1:
        problems.append(f"way={config.way}: the published episodes have one class; take test.protocol=seeded")
    if config.test.checkpoint is Which.best and not config.val.episodes and config.ckpt is None:
        problems.append("test.checkpoint=best needs validation: give val.episodes=200, or test.checkpoint=last")
    if "early_stopping" in (config.callbacks or {}) and not config.val.episodes and config.ckpt is None:
        problems.append("callbacks=[early_stopping] needs validation: give val.episodes=200")
    if isinstance(config, EnergyConfig):
        if not config.episodes:
            problems.append("episodes=[]: give the number of at least one episode")
        if not config.out.endswith((".png", ".pdf", ".svg")):
            problems.append(f"out={config.out}: give a name that ends in .png, .pdf or .svg")
    return problems
