"""The page: what there is to see. With ``events`` the only module that knows Gradio."""

import html
import secrets
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
from fastapi import FastAPI
from gradio.networking import setup_tunnel

from mshnet_pl.app.events import FIRST, Events
from mshnet_pl.app.pictures import BRUSH, NOT_IT, OPACITY
from mshnet_pl.app.session import Meaning
from mshnet_pl.app.sessions import Sessions
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.pretrained import Pretrained
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.models.base import SimilarityMethod

_MAX_WAITING = 64
"""Events of all visitors together."""
_COLOURS = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in (BRUSH, NOT_IT)]
_MEANINGS = [
    ("Its whole shape", Meaning.shape.value),
    ("A box: a stroke from corner to corner", Meaning.box.value),
    ("Some strokes or points on it", Meaning.marks.value),
]
_FONT = ["system-ui", "sans-serif"]
_EVENT: Any = {"preprocess": False, "concurrency_id": "page", "concurrency_limit": 1, "api_visibility": "private"}
"""Of every event: one at a time of all visitors, with values as they come."""


class Page:
    """The page as an application.

    Args:
        fresh: makes a segmenter that shares the network with all others, and nothing else.
        sessions: the visitors'. ``GRADIO_TEMP_DIR`` must be their workspace's folder.
        max_upload_mb: the largest file that a visitor may upload, in MiB.
    """

    def __init__(self, fresh: Callable[[], Segmenter], sessions: Sessions, max_upload_mb: int) -> None:
        network = fresh()
        comparing = isinstance(network.method, SimilarityMethod)
        self._blocks = _build(Events(fresh, sessions), comparing, max_upload_mb, _told_of(network.source))
        self._blocks.queue(max_size=_MAX_WAITING, api_open=False)
        self._blocks.state_session_capacity = _MAX_WAITING
        self.app = gr.mount_gradio_app(
            FastAPI(openapi_url=None),
            self._blocks,
            "/",
            max_file_size=max_upload_mb * 2**20,
            theme=gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono="monospace"),
            css=(files("mshnet_pl.app") / "page.css").read_text(),
            footer_links=[],
            run_history=False,
            show_error=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
        )
        self._blocks.has_launched = True  # Gradio checks whose files are named only then

    def forget(self) -> None:
        """Empty Gradio's lists of the files that were uploaded and shown, which only ever grow."""
        for listed in self._blocks.temp_file_sets:
            listed.clear()


def share(host: str, port: int) -> str:
    """Offer a port of this machine at a public address, by way of gradio.live; gives that address.

    Raises:
        ConfigError: there is no way.
    """
    try:
        address = setup_tunnel(host, port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # Gradio's, the network's and the operating system's
        raise ConfigError(f"share=true: {error}; leave it out to serve this machine only") from error
    return urlsplit(address)._replace(scheme="https").geturl()


def _build(events: Events, comparing: bool, max_upload_mb: int, network: str) -> gr.Blocks:
    with gr.Blocks(title="Few-shot segmentation", analytics_enabled=False) as page:
        gr.Markdown("# Few-shot segmentation\nPaint an object in one picture, have it outlined in others.")
        gr.HTML(network, elem_id="network")
        with gr.Row():
            example = gr.Button("Try an example", size="sm", scale=0, min_width=150)
            start_over = gr.Button("Start over", size="sm", scale=0, min_width=150)
        with gr.Row():
            with gr.Column(min_width=340):
                gr.Markdown("## 1. Show the object")
                editor = _editor()
                with gr.Column(visible=False) as tools:
                    gr.Markdown("Paint the object in orange. The palette also has blue, for what is not the object.")
                    meaning = gr.Radio(_MEANINGS, value=Meaning.shape.value, label="What you paint of the object")
                    negative = gr.Checkbox(label="This picture shows what it is not, and what is to be left out")
                    with gr.Row():
                        mask = gr.UploadButton("Use a mask file", size="sm", file_types=["image"], min_width=130)
                        remove = gr.Button("Remove this picture", size="sm", min_width=130)
                with gr.Column(visible=False) as others:
                    gr.Markdown("Shown as well; click one to change it.")
                    kept = _gallery("Pictures that are done", 4, elem_id="kept", allow_preview=False, fit_columns=False)
                with gr.Column(visible=False) as completed:
                    gr.Markdown("What was made of your boxes, strokes and points; paint more to change it.")
                    made = _gallery("Masks that were made", 4, elem_id="made")
                support = gr.File(label=FIRST, file_types=["image"], height=160)
            with gr.Column(min_width=340):
                gr.Markdown("## 2. Give pictures")
                queries = gr.File(label="Pictures to search", file_types=["image"], file_count="multiple", height=200)
                segment = gr.Button("Segment", variant="primary")
                gr.Markdown(f"Files of up to {max_upload_mb} MB; they stay on the computer that serves this page.")
        gr.Markdown("## 3. Look")
        with gr.Row():
            threshold = gr.Slider(0.01, 0.99, 0.5, step=0.01, label="Threshold", info="Higher keeps only what is surer.")
            download = gr.DownloadButton("Download masks", interactive=False, size="md", scale=0, min_width=180)
        results = _gallery("Pictures, and what was found", 4, elem_id="results")
        with gr.Accordion("How similar is each place to the object?", open=False, visible=comparing):
            gr.Markdown(
                "Of the first picture, or the one you click; for each similarity and block of the network, from "
                "the smallest (dark) to the largest (bright)."
            )
            energy = _gallery("Similarity, from dark to bright", 3)

        supports, found = [editor, tools, others, kept, support, meaning, negative], [results, download, completed, made]
        quietly: Any = {"outputs": supports, "show_progress": "hidden"}
        page.load(events.start, **_EVENT, show_progress="hidden")
        page.unload(events.end)
        support.upload(events.open, [editor, support], **_EVENT, **quietly)
        editor.clear(events.wipe, **_EVENT, **quietly)
        mask.upload(events.open_mask, mask, **_EVENT, **quietly)
        kept.select(events.edit, editor, **_EVENT, **quietly)
        for chosen in (meaning, negative):
            chosen.input(events.mean, [meaning, negative], **_EVENT, show_progress="hidden")
        remove.click(events.remove, **_EVENT, **quietly)
        queries.upload(events.check, queries, queries, **_EVENT)
        exemplified = example.click(events.example, queries, [*supports, queries], **_EVENT, show_progress="hidden")
        for segmented in (segment.click, exemplified.success):
            done = segmented(events.segment, [editor, queries, threshold], found, **_EVENT)
            if comparing:
                done.success(events.energy, None, energy, **_EVENT)
        threshold.change(events.found, threshold, found, **_EVENT, trigger_mode="always_last", show_progress="hidden")
        results.select(events.energy_of, None, energy, **_EVENT)
        start_over.click(events.start_over, None, [queries, energy], **_EVENT).then(
            events.supports, **_EVENT, **quietly
        ).then(events.found, threshold, found, **_EVENT)
    return page


def _told_of(network: Pretrained | None) -> str:
    """Which network it is, what it learned from, and whether it suits photos, as HTML."""
    if network is None:
        return ""
    lines = [f"Network: {network.name}. Learned from: {network.describe().data}.", network.warning or ""]
    shown = [line.replace(network.name, Path(network.name).name) for line in lines]  # visitors see no folders
    return "".join(f"<p>{html.escape(line)}</p>" for line in shown if line)


def _editor() -> gr.ImageEditor:
    return gr.ImageEditor(
        label="Paint over the object",
        show_label=False,
        visible=False,
        sources=(),
        transforms=(),
        type="pil",
        format="png",
        layers=gr.LayerOptions(disabled=True),
        brush=gr.Brush(default_size=24, colors=[(colour, OPACITY / 255) for colour in _COLOURS], color_mode="fixed"),
        eraser=gr.Eraser(default_size=24),
        buttons=[],
    )


def _gallery(label: str, columns: int, **others: Any) -> gr.Gallery:  # noqa: ANN401 - Gradio's own settings
    return gr.Gallery(
        label=label,
        show_label=False,
        columns=columns,
        object_fit="contain",
        elem_classes="whole",
        interactive=False,
        buttons=["fullscreen"],
        **others,
    )
