"""Where code that a model wrote runs: two processes without network, and only plain values pass between them.

An answer and its tests never share a process. The answer's process sees arguments and gives values back; the tests'
process compares these, and prints a fresh random token after the last assert. So an answer that ends early, reads
what it can reach, patches ``print`` or builds objects that are equal to everything does not pass.

program.py      what is run, and what came of it
isolation.py    bubblewrap: found, tried, and its command line
limits.py       memory, files, processes, output
process.py      one process of a program: started, read with a cap, killed with its group
orphans.py      what bubblewrap leaves is reaped
channel.py      the messages of one process
execution.py    the processes of one program, from their start to the verdict
sandbox.py      many programs, side by side
inside/         what runs within: standard library only
"""
