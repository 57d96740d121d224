"""Runs a script of the repository."""

import subprocess
import sys

from support import REPO


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
