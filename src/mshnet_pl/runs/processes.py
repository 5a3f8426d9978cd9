"""Processes of this machine that share nothing with the one that starts them, and end with it."""

import multiprocessing
import os
import threading
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext

from mshnet_pl.utils.signals import interrupts_held_back


def fresh_processes(preload: str = "mshnet_pl.runs.run") -> BaseContext:
    """How processes are started that share nothing with this one, and have imported ``preload``, what most of them need."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method(method, force=True)  # joblib's workers have one that a fresh process lacks
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([preload, "mshnet_pl.runs.forkserver_hook"])
        resource_tracker.ensure_running()  # before, since its start lets signals through
        with interrupts_held_back():  # Ctrl-C would find it importing for seconds
            forkserver.ensure_running()
    return context


def end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, whatever ended that."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
