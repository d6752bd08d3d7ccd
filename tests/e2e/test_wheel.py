"""The wheel is complete: a coordinator installed from it alone closes a round, without torch."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from shared.credentials import read_secret
from tests.support.operator import Operator
from tests.support.processes import ROOT, Process, is_ready, wait_until
from tests.support.scripted import ScriptedAgent, adapter_bytes, campaign_body
from tests.support.server import free_port


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new environment outside the repository, made like the image of ``deploy/Dockerfile``."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], check=True)
    [wheel] = folder.glob("fedloom-*.whl")
    venv.create(folder / "env", with_pip=True)
    bin_folder = folder / "env" / "bin"
    install = [str(bin_folder / "pip"), "--disable-pip-version-check", "--quiet", "install"]
    locked = ["--require-hashes", "--only-binary", ":all:", "-r", str(ROOT / "deploy" / "requirements.txt")]
    for what in (locked, ["--no-deps", "--no-index", str(wheel)]):
        subprocess.run([*install, *what], check=True, cwd=folder)
    return bin_folder


@pytest.mark.timeout(400)
@pytest.mark.soak
def test_a_coordinator_from_the_wheel_closes_a_round_without_torch(installed: Path, tmp_path: Path) -> None:
    try_torch = [str(installed / "python"), "-c", "import torch"]
    missing = subprocess.run(try_torch, capture_output=True, text=True, cwd=tmp_path)
    assert "ModuleNotFoundError" in missing.stderr
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [str(installed / "fedloom"), "coordinator", "serve", "--port", str(port)]
    service = Process(argv, tmp_path / "coordinator.log", cwd=tmp_path)
    try:
        service.wait_to_print("Fedloom coordinator on")
        operator = Operator(url, read_secret(tmp_path / "fedloom-data" / "operator.key"))
        wait_until(lambda: is_ready(url), "the service")
        ada, bob = (ScriptedAgent(url, operator.token(), name) for name in ("ada", "bob"))
        campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
        ada.prepare()
        bob.prepare()
        ada.init(adapter_bytes(tmp_path, fill=0.0))
        ada.train(adapter_bytes(tmp_path, fill=1.0))
        bob.train(adapter_bytes(tmp_path, fill=3.0))
        operator.wait_for(campaign_id, "completed")
        assert service.stop() == 0
    finally:
        if service.popen.poll() is None:
            service.kill()
    assert (tmp_path / "fedloom-data" / "fedloom.db").exists()


@pytest.mark.soak
def test_an_agent_without_its_libraries_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    run = subprocess.run([str(installed / "fedloom"), "agent", "run"], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 1
    assert "torch, transformers, peft, trl, datasets not installed; run: pip install 'fedloom[agent]'" in run.stderr


@pytest.mark.deep
def test_evaluation_tasks_and_notices_are_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    command = [str(installed / "fedloom"), "evaluate", "--list", "--json", "--suite", "paper"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    tasks = json.loads(listed.stdout)["tasks"]
    assert {"mmlu", "humaneval", "advbench"} <= {task["task"] for task in tasks}
    assert any(file["published_sha256"] for task in tasks for file in task["files"])
    site = next((installed.parent / "lib").glob("python3*/site-packages"))
    ours = {path.stem for path in (ROOT / "fedloom/evaluation/harness/yaml").glob("*.yaml")}
    assert {path.stem for path in (site / "fedloom/evaluation/harness/yaml").glob("*.yaml")} == ours
    [notice] = site.glob("fedloom-*.dist-info/licenses/NOTICE")
    assert notice.read_text() == (ROOT / "NOTICE").read_text()
