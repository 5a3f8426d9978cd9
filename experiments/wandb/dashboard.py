"""Build the project's dashboard on Weights & Biases: scores by experiment, training, pictures.

Needs ``pip install wandb-workspaces`` and ``wandb login``, then::

    python experiments/wandb/dashboard.py ENTITY [PROJECT]

Each call saves a view of its own; it changes no run and no other view.
"""

import argparse

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as views

_LOSSES = ["train/loss", "train/loss_final", "train/loss_block4", "train/loss_block3", "train/loss_block2"]


def dashboard(entity: str, project: str) -> views.Workspace:
    """The view: runs grouped by experiment, then by fold and shot."""
    scores = [
        panels.BarPlot(
            title=f"test {name}, mean over folds",
            metrics=[f"test/{key}"],
            groupby=panels.Config("method"),  # a single similarity is a method of its own, and its variant is "full"
            groupby_aggfunc="mean",
        )
        for key, name in (("miou", "mIoU"), ("fb_iou", "FB-IoU"))
    ]
    training = [
        _lines("losses", _LOSSES),
        _lines("mIoU", ["train/miou", "val/miou"]),
        _lines("FB-IoU", ["train/fb_iou", "val/fb_iou"]),
        _lines("IoU of every class, validation", regex="val/iou/.*"),
        _lines("gradient norm", ["train/grad_norm"], log_y=True),
        _lines("learning rate", regex="lr-.*"),
        _lines("episodes per second", ["train/episodes_per_second"]),
    ]
    pictures = [panels.MediaBrowser(media_keys=[key], num_columns=4) for key in ("panel/predictions", "panel/energy")]
    return views.Workspace(
        name="Few-shot segmentation",
        entity=entity,
        project=project,
        sections=[
            views.Section(name="Scores", panels=scores, is_open=True),
            views.Section(name="Training", panels=training, is_open=True),
            views.Section(name="Pictures", panels=pictures, is_open=True),
        ],
        runset_settings=views.RunsetSettings(groupby=[views.Metric("Group"), views.Metric("JobType")]),
    )


def _lines(title: str, metrics: list[str] | None = None, regex: str | None = None, log_y: bool = False) -> panels.LinePlot:
    return panels.LinePlot(title=title, x="trainer/global_step", y=metrics or [], metric_regex=regex, log_y=log_y)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the dashboard on Weights & Biases.")
    parser.add_argument("entity", help="user or team that owns the project")
    parser.add_argument("project", nargs="?", default="mshnet_pl")
    arguments = parser.parse_args()
    print(dashboard(arguments.entity, arguments.project).save().url)
