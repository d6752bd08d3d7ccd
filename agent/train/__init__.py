"""The training child: the only part of Fedloom that imports torch, transformers, peft and trl.

It runs as ``python -m agent.train`` and exchanges JSON lines with the agent's parent process (``agent.child``). The
base model and the tokenised data stay in memory between its jobs; everything else is new for each job.

    __main__      streams, environment, message loop
    worker        what stays in memory; runs each order
    checkpoint    a training's state between two optimizer steps, saved and resumed
    progress      progress reports, limited in rate
    memory        peak memory, and whether an error means that memory ran out
    digest_cache  digests of large files, cached

    jobs/         the coordinator's four jobs: prepare, init, train, evaluate
    base/         the base model: its folder, fingerprint, device, precision, quantisation, and the adapter on it
    data/         from the owner's rows to tokens: templates, tokenising, the cache, the sample of each round
    kinds/        training and evaluation of each kind, SFT and DPO: losses, trainers, the client half of an algorithm
    local/        orders of a person at this machine: answers, likelihoods, data checks, merged models
"""
