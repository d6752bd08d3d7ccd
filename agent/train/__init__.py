"""The training child: the only part of Fedloom that imports torch, transformers, peft and trl.

It runs as ``python -m agent.train`` and exchanges JSON lines with the agent's parent process (``agent.orders``). The
base model and the tokenised data stay in memory between its jobs; everything else is new for each job.

    __main__      starts the child
    environment   environment variables, and the GPU that libraries see
    streams       the parent's lines, and messages to the parent
    serving       the message loop: an answer to each order
    worker        has each order carried out by its handler
    warm          what stays in memory between orders
    order_context what a handler gets besides the order
    progress      progress reports, limited in rate, with what the process uses of the machine
    memory        peak memory, and whether an error means that memory ran out
    gpu           the GPU's memory, and how busy it is

    jobs/         the coordinator's four jobs: prepare, init, train, evaluate
    base/         the base model: its folder, fingerprint, device, precision, quantisation, and the adapter on it
    suitability/  whether a base and an owner's trainer can be used: measured, and kept as a verdict
    trainer/      what all trainings share: the way of a batch through the model, memory, steps, checkpoints
    distributed/  the other processes of a training
    data/         from the owner's rows to tokens: templates, tokenising, the cache, the sample of each round
    stack/        trainers by name: what loads, attaches, trains and evaluates; Fedloom's own, and those of owners
    kinds/        training and evaluation of each kind, SFT and DPO: losses, trainers, the client half of an algorithm
    local/        orders of a person at this machine: answers, likelihoods, data checks, merged models
"""
