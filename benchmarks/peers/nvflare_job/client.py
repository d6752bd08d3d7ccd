"""Sends back the weights that it received. The first site writes when it received them, in seconds, a line each."""

import sys
import time
from pathlib import Path

import nvflare.client as flare

flare.init()
times = Path(sys.argv[1])
while flare.is_running():
    model = flare.receive()
    if model is None:
        break
    if flare.get_site_name() == "site-1":
        with times.open("a") as file:
            file.write(f"{time.time()}\n")
    flare.send(flare.FLModel(params=model.params, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
