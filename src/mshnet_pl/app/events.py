"""What happens on the page: events, and what each shows of a session."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import isgeneratorfunction
from typing import Any, TypeVar, cast

import gradio as gr

from mshnet_pl.app.pictures import check
from mshnet_pl.app.session import Meaning, Panel, Session
from mshnet_pl.app.sessions import Sessions
from mshnet_pl.errors import UserError
from mshnet_pl.inference.segmenter import Segmenter

FIRST, NEXT = "Picture that shows the object", "Another picture of it (optional)"
Updates = list[Any]
"""New values and properties of components, in the order of an event's outputs."""
Function = TypeVar("Function", bound=Callable[..., Any])
File = Mapping[str, Any]
"""What a browser says of a file that it uploaded."""


@contextmanager
def _told() -> Iterator[None]:
    """Make a ``UserError`` a message on the page; what is on it stays."""
    try:
        yield
    except UserError as error:
        gr.Warning(_escaped(error))


def _escaped(error: UserError) -> str:
    return html.escape(str(error)).replace("\n", "<br>")


def _event(function: Function) -> Function:
    """Make a ``UserError`` a message on the page that ends an event, and what would follow it.

    So ends the event of a visitor who left meanwhile, with whom the session's files went.
    """

    @contextmanager
    def ended(events: "Events", *arguments: object) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            raise gr.Error(_escaped(error), print_exception=False) from error
        except FileNotFoundError as error:
            (request,) = (argument for argument in arguments if isinstance(argument, gr.Request))
            if (request.session_hash or "") in events.sessions:
                raise
            raise gr.Error("This page was closed: reload it", print_exception=False) from error

    @wraps(function)
    def whole(*arguments: Any) -> Any:  # noqa: ANN401 - an event's own
        with ended(*arguments):
            return function(*arguments)

    @wraps(function)
    def by_step(*arguments: Any) -> Any:  # noqa: ANN401
        with ended(*arguments):
            yield from function(*arguments)

    return cast("Function", by_step if isgeneratorfunction(function) else whole)


def _supports(session: Session) -> Iterator[Updates]:
    """Take the editor off the page and set it up anew: one that is in use misplaces the strokes that it is given."""
    yield [gr.update(value=None, visible=False), *[gr.skip()] * 6]
    there, drawing, kept = session.draft is not None, session.drawing(), session.shown()
    image, layers = drawing or (None, [])
    yield [
        gr.update(
            value=drawing and {"background": image, "layers": layers, "composite": None},
            visible=there,
            canvas_size=session.draft.image.size if session.draft else (1, 1),
        ),
        gr.update(visible=there),
        gr.update(visible=bool(kept)),
        kept,
        gr.update(value=None, label=NEXT if there else FIRST),
        session.draft.meaning.value if session.draft else Meaning.shape.value,
        bool(session.draft and session.draft.negative),
    ]


def _found(session: Session, threshold: object) -> Updates:
    if not session.found:
        return [[], gr.update(value=None, interactive=False), gr.update(visible=False), []]
    made, masks = session.made(), gr.update(value=session.masks(threshold), interactive=True)
    return [session.overlays(threshold), masks, gr.update(visible=bool(made)), made]


class Events:
    """What happens on a click. Values come as a browser sent them and may be anything: none is decoded before a check."""

    def __init__(self, fresh: Callable[[], Segmenter], sessions: Sessions) -> None:
        self._fresh, self.sessions = fresh, sessions

    @_event
    def start(self, request: gr.Request) -> None:
        """Begin a visitor's session."""
        self.sessions.start(request.session_hash or "")

    def end(self, request: gr.Request) -> None:
        """End it: the page was closed, and its files go."""
        self.sessions.end(request.session_hash or "")

    @_event
    def supports(self, request: gr.Request) -> Iterator[Updates]:
        """Show the supports anew."""
        yield from _supports(self._session(request))

    @_event
    def open(self, drawing: File | None, picture: File, request: gr.Request) -> Iterator[Updates]:
        """Open a picture as the support to paint on."""
        session = self._session(request)
        with _told():
            self._paint(session, drawing)
            session.open(self._path(session, picture))
        yield from _supports(session)

    @_event
    def wipe(self, request: gr.Request) -> Iterator[Updates]:
        """Take the strokes off the support."""
        session = self._session(request)
        session.wipe()
        yield from _supports(session)

    @_event
    def open_mask(self, mask: File, request: gr.Request) -> Iterator[Updates]:
        """Take a file as the mask of the open support."""
        session = self._session(request)
        with _told():
            session.open_mask(self._path(session, mask))
        yield from _supports(session)

    @_event
    def edit(self, drawing: File | None, event: gr.SelectData, request: gr.Request) -> Iterator[Updates]:
        """Open a support that is done again."""
        session = self._session(request)
        with _told():
            self._paint(session, drawing)
            session.edit(event.index)
        yield from _supports(session)

    @_event
    def mean(self, meaning: object, negative: object, request: gr.Request) -> None:
        """What strokes mean, and whether the picture shows what it is not."""
        self._session(request).mean(meaning, negative)

    @_event
    def remove(self, request: gr.Request) -> Iterator[Updates]:
        """Remove the open support."""
        session = self._session(request)
        session.remove()
        yield from _supports(session)

    @_event
    def example(self, queries: Sequence[File] | None, request: gr.Request) -> Iterator[Updates]:
        """The coins: a support, painted, and a query."""
        session = self._session(request)
        paths = session.example(queries or [])
        for updates in _supports(session):
            yield [*updates, paths]

    @_event
    def check(self, queries: Sequence[File] | None, request: gr.Request) -> list[str]:
        """The queries that are images, taken over by the session; a message about the others."""
        session, good = self._session(request), []
        for query in queries or []:
            with _told():
                path = self._path(session, query)
                check(path)
                good.append(path)
        return session.take(good)

    @_event
    def segment(
        self, drawing: File | None, queries: Sequence[File] | None, threshold: object, request: gr.Request
    ) -> Updates:
        """Segment the queries by the supports."""
        session = self._session(request)
        with _told():
            self._paint(session, drawing)
            session.segment(self._fresh(), [self._path(session, query) for query in queries or []])
        return _found(session, threshold)

    @_event
    def found(self, threshold: object, request: gr.Request) -> Updates:
        """Show what was found, at a threshold."""
        return _found(self._session(request), threshold)

    @_event
    def energy(self, request: gr.Request) -> list[Panel]:
        """Show the first query's similarities."""
        return self._session(request).energy(self._fresh(), 0)

    @_event
    def energy_of(self, event: gr.SelectData, request: gr.Request) -> list[Panel]:
        """Show those of the query that was clicked."""
        session = self._session(request)
        return session.energy(self._fresh(), event.index // 2 if isinstance(event.index, int) else -1)

    @_event
    def start_over(self, request: gr.Request) -> Updates:
        """Forget supports and queries."""
        self._session(request).clear()
        return [None, []]

    def _session(self, request: gr.Request) -> Session:
        return self.sessions.get(request.session_hash or "")

    def _path(self, session: Session, file: File) -> str:
        return str(self.sessions.workspace.given(str(file["path"]), session.folder))

    def _paint(self, session: Session, drawing: File | None) -> None:
        if drawing:
            session.paint_layers([self._path(session, layer) for layer in drawing["layers"]])
