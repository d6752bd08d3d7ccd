"""Runs FedAvg rounds by a Flower SuperLink and SuperNodes, each a process of its own, over loopback without TLS.

    python run_flower.py N_BYTES N_TENSORS AGENTS ROUNDS TIMES EVALUATION

Runs with the Python that Flower is installed for. EVALUATION: the share of the agents that evaluate after each round.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

APP = Path(__file__).with_name("flower")
PORT = 8000


def main() -> None:
    n_bytes, n_tensors, n_agents, rounds = map(int, sys.argv[1:5])
    times, evaluation = Path(sys.argv[5]), float(sys.argv[6])
    folder = times.parent
    commands = Path(sys.executable).parent
    environment = {
        **os.environ,
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",  # a SuperLink and a SuperNode start further commands
    }
    (folder / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "127.0.0.1:{PORT}"\ninsecure = true\n'
    )

    def start(name: str, *words: str) -> subprocess.Popen[bytes]:
        with (folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(commands / words[0]), *words[1:]], cwd=folder, env=environment, stdout=log, stderr=log
            )

    address = f"127.0.0.1:{PORT}"
    start(
        "superlink", "flower-superlink", "--insecure", "--port", str(PORT), "--disable-runtime-dependency-installation"
    )
    _wait_for_port()
    for number in range(n_agents):
        port = str(PORT + 1 + number)
        start(f"node-{number}", "flower-supernode", "--insecure", "--superlink", address, "--port", port)
    settings = {"n-bytes": n_bytes, "n-tensors": n_tensors, "agents": n_agents, "rounds": rounds}
    config = " ".join(f"{name}={value}" for name, value in settings.items())
    run = start("run", "flwr", "run", str(APP), "bench", "-c", f'{config} evaluation={evaluation} times="{times}"')
    if run.wait() != 0:
        sys.exit((folder / "run.log").read_text())
    while not times.with_suffix(".done").exists():  # peers.py has the limit of time
        time.sleep(0.2)


def _wait_for_port() -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
        except ConnectionRefusedError:
            time.sleep(0.2)
        else:
            return


if __name__ == "__main__":
    main()
