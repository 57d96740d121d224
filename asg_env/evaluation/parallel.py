"""Jobs side by side in processes; an interrupt, or a job that fails, ends them all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch


def run_parallel(
    function: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    processes: int,
    each: Callable[[Any], object],
) -> None:
    """Call ``function(*job)`` for each job, in that order, and ``each(result)`` as results come.

    Args:
        function: importable, as are its arguments and results: processes are spawned.
        jobs: arguments.
        processes: jobs at a time, each with one CPU thread and without a progress bar.
        each: called here.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=worker)
    bars = os.environ.get("TQDM_DISABLE", "")
    os.environ["TQDM_DISABLE"] = "1"  # the processes read it when they import tqdm
    try:
        for future in as_completed([pool.submit(function, *job) for job in jobs]):
            each(future.result())
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        os.environ["TQDM_DISABLE"] = bars
        pool.shutdown(cancel_futures=True)


def worker() -> None:
    """One CPU thread; Ctrl-C is the main process's to handle, and its end is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
