"""Public benchmarks of campaigns at this agent: what it offers to run, and how it runs them.

interface.py  what runs benchmarks, which whoever starts an agent hands in: the agent itself knows none
available.py  what of a campaign's benchmarks runs here, and why the others do not
offers.py     what is offered, told to the coordinator
tasks.py      one task: in a thread, on the agent's own training child
child.py      that child, as the thread sees it
"""
