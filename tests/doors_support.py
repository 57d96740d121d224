"""The README's modules of one's own, as files in a folder outside the repository."""

import re

from support import REPO

BLOCKS = re.findall(
    r"```python\n(# my_\w+\.py\n.*?)```", (REPO / "README.md").read_text(), re.DOTALL
)


def write_doors(folder):
    """Write them; the folder."""
    for block in BLOCKS:
        (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block)
    assert (folder / "my_doors.py").exists()
    return folder
