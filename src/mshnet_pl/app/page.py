"""The page: what there is to see and what happens on a click. The only module that knows Gradio."""

import html
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from mshnet_pl.app.session import BRUSH, OPACITY, Session, check, outlined, painted, strokes
from mshnet_pl.errors import UserError
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.models.mshnet.model import MSHNet

_KEEP_FILES = 3600, 86400
"""How often visitors' files are looked through, and how old they get, in seconds."""
_COLOUR = "#{:02x}{:02x}{:02x}".format(*BRUSH)
_FONT = ["system-ui", "sans-serif"]
_FIRST, _NEXT = "Picture that shows the object", "Another picture of it (optional)"
Updates = list[Any]
"""New values and properties of components, in the order of an event's outputs."""


def launch(fresh: Callable[[], Segmenter], host: str, port: int, max_upload_mb: int, share: bool) -> None:
    """Serve the page until the process is interrupted.

    Args:
        fresh: makes a segmenter that shares the network with all others, and nothing else.
        host: the address to listen at.
        port: the port, which must be free.
        max_upload_mb: the largest file that a visitor may upload, in MiB.
        share: offer the page at a public address too.

    Raises:
        OSError: the port cannot be used.
    """
    build(fresh, max_upload_mb).launch(
        server_name=host,
        server_port=port,
        share=share,
        max_file_size=max_upload_mb * 2**20,
        theme=gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=_FONT, font_mono="monospace"),
        css=(files("mshnet_pl.app") / "page.css").read_text(),
        footer_links=[],
        ssr_mode=False,
    )


def build(fresh: Callable[[], Segmenter], max_upload_mb: int) -> gr.Blocks:
    """The page with its events; arguments as ``launch``'s."""
    with gr.Blocks(title="Few-shot segmentation", analytics_enabled=False, delete_cache=_KEEP_FILES) as page:
        session = gr.State(Session())
        gr.Markdown("# Few-shot segmentation\nPaint an object in one picture, have it outlined in others.")
        with gr.Row():
            example = gr.Button("Try an example", size="sm", scale=0, min_width=150)
            start_over = gr.Button("Start over", size="sm", scale=0, min_width=150)
        with gr.Row():
            with gr.Column(min_width=340):
                gr.Markdown("## 1. Show the object")
                editor = _editor()
                with gr.Column(visible=False) as tools:
                    gr.Markdown("Paint over the object; the eraser takes paint away.")
                    with gr.Row():
                        mask = gr.UploadButton("Use a mask file", size="sm", file_types=["image"], min_width=130)
                        remove = gr.Button("Remove this picture", size="sm", min_width=130)
                with gr.Column(visible=False) as others:
                    gr.Markdown("Shown as well; click one to change it.")
                    kept = _gallery("Pictures that are done", 4, elem_id="kept", allow_preview=False, fit_columns=False)
                support = gr.File(label=_FIRST, file_types=["image"], height=160)
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
        comparing = isinstance(fresh().method, MSHNet)
        with gr.Accordion("How similar is each place to the object?", open=False, visible=comparing):
            gr.Markdown(
                "Of the first picture, or the one you click; for each similarity and block of the network, from least "
                "(dark) to most (bright)."
            )
            energy = _gallery("Similarity, from dark to bright", 3)

        supports, found = [editor, tools, others, kept, support], [results, download]
        quietly: Any = {"outputs": supports, "show_progress": "hidden"}
        support.upload(_open, [session, editor, support], **quietly)
        editor.clear(_wipe, session, **quietly)
        mask.upload(_open_mask, [session, mask], **quietly)
        kept.select(_edit, [session, editor], **quietly)
        remove.click(_remove, session, **quietly)
        queries.upload(_check, queries, queries)
        given = [session, editor, queries, threshold]
        exemplified = example.click(_example, [session, queries], [*supports, queries], show_progress="hidden")
        for segmented in (segment.click, exemplified.success):
            done = segmented(partial(_segment, fresh), given, found)
            if comparing:
                done.success(lambda session: session.energy(0), session, energy)
        threshold.change(_found, [session, threshold], found, trigger_mode="always_last", show_progress="hidden")
        results.select(_energy, session, energy)
        start_over.click(lambda: [Session(), None, []], None, [session, queries, energy]).then(
            _supports, session, **quietly
        ).then(_found, [session, threshold], found)
    return page


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
        brush=gr.Brush(default_size=24, colors=[(_COLOUR, OPACITY / 255)], color_mode="fixed"),
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


@contextmanager
def _told() -> Iterator[None]:
    """Make a ``UserError`` a message on the page; what is on it stays."""
    try:
        yield
    except UserError as error:
        gr.Warning(html.escape(str(error)).replace("\n", "<br>"))


def _supports(session: Session) -> Iterator[Updates]:
    """Take the editor off the page and set it up anew: one that is in use misplaces the strokes that it is given."""
    yield [gr.update(value=None, visible=False), *[gr.skip()] * 4]
    draft = session.draft
    there, size = draft is not None, draft.image.size if draft else (1, 1)
    layers = [strokes(draft.mask)] if draft and draft.mask.any() else []
    drawing = draft and {"background": draft.image, "layers": layers, "composite": None}
    yield [
        gr.update(value=drawing, visible=there, canvas_size=size),
        gr.update(visible=there),
        gr.update(visible=bool(session.kept)),
        [outlined(*shot[:2]) for shot in session.kept],
        gr.update(value=None, label=_NEXT if there else _FIRST),
    ]


def _found(session: Session, threshold: float) -> Updates:
    if not session.found:
        return [[], gr.update(value=None, interactive=False)]
    masks = save_bytes_to_cache(session.masks(threshold), "masks.zip", get_upload_folder())
    return [session.overlays(threshold), gr.update(value=masks, interactive=True)]


def _paint(session: Session, painting: dict[str, Any] | None) -> None:
    if session.draft and painting:
        session.paint(painted(painting["layers"], session.draft.image.size))


def _open(session: Session, painting: dict[str, Any] | None, path: str) -> Iterator[Updates]:
    _paint(session, painting)
    with _told():
        session.open(path)
    yield from _supports(session)


def _wipe(session: Session) -> Iterator[Updates]:
    session.wipe()
    yield from _supports(session)


def _open_mask(session: Session, path: str) -> Iterator[Updates]:
    with _told():
        session.open_mask(path)
    yield from _supports(session)


def _edit(session: Session, painting: dict[str, Any] | None, event: gr.SelectData) -> Iterator[Updates]:
    _paint(session, painting)
    session.edit(event.index)
    yield from _supports(session)


def _remove(session: Session) -> Iterator[Updates]:
    session.remove()
    yield from _supports(session)


def _example(session: Session, queries: Sequence[str] | None) -> Iterator[Updates]:
    try:
        queries = session.example(Path(tempfile.mkdtemp(dir=get_upload_folder())), queries or [])
    except UserError as error:  # an error: what would follow is left undone
        raise gr.Error(html.escape(str(error)), print_exception=False) from error
    for updates in _supports(session):
        yield [*updates, queries]


def _check(queries: Sequence[str]) -> list[str]:
    """The queries that are images; a message about the others."""
    good = []
    for path in queries:
        with _told():
            check(path)
            good.append(path)
    return good


def _segment(
    fresh: Callable[[], Segmenter],
    session: Session,
    painting: dict[str, Any] | None,
    queries: Sequence[str] | None,
    threshold: float,
) -> Updates:
    _paint(session, painting)
    with _told():
        session.segment(fresh(), queries or [])
    return _found(session, threshold)


def _energy(session: Session, event: gr.SelectData) -> list[tuple[Image.Image, str]]:
    return session.energy(event.index // 2)
