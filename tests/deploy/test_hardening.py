"""Containers and units have no more rights than they need, and no secret is in an argument or a variable."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, DROP_INS, UNITS, compose, dockerfile, unit

DIGEST = r"@sha256:[0-9a-f]{64}$"
BOTH = {
    "NoNewPrivileges": ["yes"],
    "CapabilityBoundingSet": [""],
    "ProtectSystem": ["strict"],
    "PrivateTmp": ["yes"],
    "UMask": ["0077"],
    "StateDirectoryMode": ["0700"],
    "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX"],
    "RestrictNamespaces": ["yes"],
    "RestrictSUIDSGID": ["yes"],
    "LockPersonality": ["yes"],
    "ProtectKernelModules": ["yes"],
    "SystemCallFilter": ["@system-service", "~@privileged"],
    "SystemCallArchitectures": ["native"],
}
HIDE_GPUS = {"PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow", "MemoryDenyWriteExecute"}


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_is_hardened_and_bounded(path: Path) -> None:
    settings = unit(path)
    assert {name: settings[name] for name in BOTH} == BOTH
    assert settings["User"] not in ([], ["root"])
    assert all(settings[name] for name in ("MemoryMax", "TasksMax", "LimitNOFILE", "Restart"))


def test_an_agents_unit_leaves_gpus_and_a_child_that_ran_out_of_memory_alone() -> None:
    [path] = [path for path in UNITS if "agent" in path.name]
    settings = unit(path)
    assert not {name for name in HIDE_GPUS if settings[name]}
    assert settings["OOMPolicy"] == ["continue"]
    assert settings["KillMode"] == ["mixed"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    program = "/opt/fedloom/bin/fedloom"  # must exist, or systemd refuses the unit
    for path in (*UNITS, *DROP_INS):
        copy = tmp_path / path.relative_to(DEPLOY / "systemd")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text().replace(program, "/bin/true"))
    units = [str(tmp_path / path.name) for path in UNITS]
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_containers_are_hardened_and_bounded() -> None:
    services = compose()["services"]
    assert services.keys() == {"database", "coordinator"}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"]
        assert service["mem_limit"]
        assert service["pids_limit"]
        assert not service.get("privileged")
    assert services["database"]["user"] not in ("0", "root")
    assert re.search(DIGEST, services["database"]["image"])


def test_the_database_is_reached_by_the_coordinator_alone_and_its_password_is_in_a_file() -> None:
    file = compose()
    database, coordinator = (file["services"][name] for name in ("database", "coordinator"))
    assert "ports" not in database
    assert all(file["networks"][name]["internal"] for name in database["networks"])
    assert all(port.startswith("127.0.0.1:") for port in coordinator["ports"])
    [secret] = file["secrets"]
    for service, name in ((database, "POSTGRES_PASSWORD_FILE"), (coordinator, "FEDLOOM_DATABASE_PASSWORD_FILE")):
        assert service["secrets"] == [secret]
        assert service["environment"][name] == f"/run/secrets/{secret}"
    assert "$" not in (DEPLOY / "compose.yaml").read_text()  # nothing from the environment
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert f"deploy/{Path(file['secrets'][secret]['file']).parent}/" in ignored


def test_the_coordinator_believes_the_addresses_of_its_own_proxy_alone() -> None:
    file = compose()
    networks = file["networks"]["outside"]["ipam"]["config"]
    trusted = file["services"]["coordinator"]["environment"]["FEDLOOM_LIMITS__TRUSTED_PROXIES"]
    assert [each["gateway"] for each in networks] == [trusted]
    nginx = (DEPLOY / "nginx.conf").read_text()
    assert re.findall(r"X-Forwarded-For +(\S+);", nginx) == ["$remote_addr"]


def test_no_url_in_the_files_holds_a_password() -> None:
    for path in (*UNITS, *DROP_INS, DEPLOY / "compose.yaml", DEPLOY / "Dockerfile"):
        assert not re.search(r"://[^/\s@]*:[^/\s@]*@", path.read_text())


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    lines = dockerfile()
    [pinned] = [line for line in lines if line.startswith("ARG PYTHON_IMAGE=")]
    assert re.search(DIGEST, pinned)
    assert {line.split()[1] for line in lines if line.startswith("FROM")} == {"${PYTHON_IMAGE}"}
    assert re.fullmatch(r"USER [1-9]\d{4}:[1-9]\d{4}", next(line for line in lines if line.startswith("USER")))
    for line in lines:
        for command in re.findall(r"pip (?:install|wheel)[^&]*", line):
            assert "--require-hashes --only-binary :all:" in command or "--no-deps" in command


def test_the_image_gets_nothing_but_what_it_is_built_from() -> None:
    lines = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    for name in (line[1:] for line in lines if line.startswith("!")):
        assert (DEPLOY.parent / name).exists(), name
