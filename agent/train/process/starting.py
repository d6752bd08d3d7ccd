"""What every process of the child does first: its environment, its files' permissions, its log."""

import logging
import sys

from agent.train.process.environment import guard_environment
from shared.system.private_files import make_files_private
from shared.text.log_lines import LineFormatter


def start_process() -> None:
    """Prepare this process. It must be called before torch and the hub's client are imported."""
    guard_environment()
    make_files_private()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("agent.train").setLevel(logging.INFO)
