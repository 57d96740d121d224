"""Every script explains itself."""

import pytest
from script_support import run_script
from support import REPO

SCRIPTS = sorted(
    str(path.relative_to(REPO))
    for folder in ("agents", "experiments")
    for path in (REPO / folder).glob("*.py")
    if "__main__" in path.read_text()
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script):
    done = run_script(script, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout
