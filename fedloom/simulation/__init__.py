"""A campaign on one machine: ``fedloom simulate``.

- ``plan``       which kind of partition is asked for
- ``partition``  who gets which rows
- ``drawing``    the partition on a terminal, and as JSON
- ``clients``    the simulated clients
- ``run``        the campaign from its start to its end
"""
