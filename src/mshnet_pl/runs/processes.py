"""Processes of this machine that share nothing with the one that starts them, and end with it."""

import multiprocessing
import os
import threading
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext


def fresh_processes(preload: str = "mshnet_pl.runs.run") -> BaseContext:
    """How processes are started that share nothing with this one, and have imported ``preload``, what most of them need."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method(method, force=True)  # joblib's workers have one that a fresh process lacks
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([preload])
    return context


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, whatever ended that."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
