"""Jobs side by side in processes; an interrupt, or a job that fails, ends them all."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from asg_env.interrupts import shielded
from asg_env.workers import WorkerDied, await_deaths, prepare_worker, start_tracker


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

    Raises:
        WorkerDied: a process ended before its job did.
    """
    before = set(multiprocessing.active_children())
    start_tracker()
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=worker)
    bars = os.environ.get("TQDM_DISABLE", "")
    os.environ["TQDM_DISABLE"] = "1"  # the processes read it when they import tqdm
    started = list[BaseProcess]()
    try:
        with shielded():
            futures = [pool.submit(function, *job) for job in jobs]
            started += set(multiprocessing.active_children()) - before
        for future in as_completed(futures):
            each(future.result())
    except BaseException as error:
        died = await_deaths(started) if isinstance(error, BrokenExecutor) else ""
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        if died:
            raise WorkerDied(died) from error
        raise
    finally:
        os.environ["TQDM_DISABLE"] = bars
        pool.shutdown(cancel_futures=True)


def worker() -> None:
    """One CPU thread; the end of the main process is the worker's."""
    torch.set_num_threads(1)
    prepare_worker()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
