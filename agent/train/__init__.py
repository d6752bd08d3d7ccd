"""The training child: the only part of Fedloom that imports torch, transformers, peft and trl.

It runs as ``python -m agent.train`` and speaks JSON lines with the agent's parent process (``agent.child``). The base
model and the tokenised data stay warm between its jobs; everything else is new for each.

    __main__      the streams, the environment, the loop
    worker        the four jobs
    source        where the base model's files are, and their fingerprint
    device        what to train on, and in which precision
    quantization  bases in 8 or 4 bits
    model         the loaded base model, lent with an adapter on it
    templates     how a row becomes text: what comes before each answer, and the answer
    tokens        tokenised rows, and their cache; the owner's files are read by agent.data.reading
    checking      what a campaign would train on, for its owner to look at
    sampling      which rows a round takes
    following     the client half of every algorithm inside TRL's trainers
    trainer       these trainers, for completions and for preferences
    loss          the loss at supervised positions only
    evaluate      the held-out loss
    progress      reports, not too many
    memory        peaks, and what running out looks like
    files         files that are whole or not there
"""
