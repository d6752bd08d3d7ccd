"""Third-party algorithms: the examples, and their installation with pip."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.algorithms import Algorithm
from tests.support.processes import ROOT

EXAMPLES = ROOT / "examples" / "algorithms"
_PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "fedloom-NAME"
version = "0.1"
dependencies = ["fedloom"]

[project.entry-points."fedloom.algorithms"]
NAME = "fedloom_NAME"

[tool.setuptools]
py-modules = ["fedloom_NAME"]
"""


def write_distribution(folder: Path, name: str, module: str) -> Path:
    """Write a distribution with one algorithm, whose module has this text. Returns *folder*."""
    folder.mkdir(parents=True)
    (folder / f"fedloom_{name}.py").write_text(module)
    (folder / "pyproject.toml").write_text(_PROJECT.replace("NAME", name))
    return folder


def load_example(name: str) -> Algorithm:
    """Load an example's algorithm without installing it."""
    spec = importlib.util.spec_from_file_location(f"fedloom_{name}", EXAMPLES / f"fedloom_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Algorithm(name, "", module.Params, module.Server, module.Client)


def pip_install(source: Path, target: Path) -> str:
    """Install the distribution in *source*. Returns the folder to put on the path. Needs no network."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(source, Path(scratch) / "source")  # a build leaves files behind
        options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
        command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(copy)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return str(target)
