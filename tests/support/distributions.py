"""Third-party algorithms, installed with pip."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.processes import ROOT

EXAMPLE = ROOT / "examples" / "algorithm"


def pip_install(source: Path, target: Path) -> str:
    """Install the distribution in *source*. Returns the folder to put on the path. Needs no network."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(source, Path(scratch) / "source")  # a build leaves files behind
        options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return str(target)
