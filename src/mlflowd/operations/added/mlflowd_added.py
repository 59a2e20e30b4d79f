"""What mlflowd added to this image stands in mlflowd_added.txt, beside this file.

Run as a program, once, while the image is made: takes away what an addition replaces, in the version that the base had.
"""

import importlib.metadata
import re
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def normal(name: str) -> str:
    """Return the name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Remove the files of every replaced package that the new one does not have."""
    lines = (line.split("==") for line in (HERE / "mlflowd_added.txt").read_text().split())
    added = {normal(name): version for name, version in lines}
    here = list(importlib.metadata.distributions(path=[str(HERE)]))
    kept = {str(one.locate_file(file)) for one in here if _new(one, added) for file in one.files or ()}
    for one in here:
        if normal(str(one.metadata["Name"])) in added and not _new(one, added):
            _remove(one, kept)


def _new(one: importlib.metadata.Distribution, added: dict[str, str]) -> bool:
    return added.get(normal(str(one.metadata["Name"]))) == one.version


def _remove(one: importlib.metadata.Distribution, kept: set[str]) -> None:
    information = {file.parts[0] for file in one.files or () if file.parts[0].endswith(".dist-info")}
    for file in one.files or ():
        path = Path(str(one.locate_file(file)))
        if str(path) not in kept and ".." not in file.parts:  # programs lie outside, and the addition brings none
            path.unlink(missing_ok=True)
    for name in information:
        shutil.rmtree(HERE / name, ignore_errors=True)


if __name__ == "__main__":
    main()
