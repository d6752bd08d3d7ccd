"""What the agent's parent process asks of its training child, and the protocol between them: one JSON object a line.

The parent writes one order at a time to the child's standard input. ``LocalJob`` wraps a job that the agent derived
from the accepted campaign. The other orders come from a person at this machine, never from the network. On its own copy
of descriptor 1 the child answers with any number of ``Report`` and ``TextChunk`` messages, then with one final message:
the order's own, ``Failed`` or ``OutOfMemory``. The child exits when its input ends, and with ``OUT_OF_MEMORY_EXIT``
after ``OutOfMemory``.

    protocol    the messages of every order: reports, texts, failures
    order       what an order is, and what the child may answer to it
    table       all orders, and how the child reads them

    jobs        what the child does for a campaign: jobs, which the agent derives from the accepted specification
    job         the order to do one of them; job_files: the files of its result
    check       the order to check the data of the settings
    on_base/    the orders of a person about one base model, one a file; model: what they share
                likelihood, generate, count_tokens, chat_prompt, describe are those of an evaluation: raw texts

A further order is two files, and its class's name in ``table``. A file here holds its messages: a class of
``Order[ItsFinalMessage]``, which names its handler. The handler is a function in ``agent.train`` that takes the order
and an ``OrderContext``, and returns the final message. No module here imports torch.
"""
