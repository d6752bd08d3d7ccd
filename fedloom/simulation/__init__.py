"""A campaign on one machine: ``fedloom simulate``.

- ``simulation``      what is simulated: the campaign, the clients' settings, the partition of the rows
- ``partition_plan``  the kind of partition and its options
- ``partition``       assigns each row to a client
- ``partition_view``  the partition on a terminal, and as JSON
- ``clients``         the simulated clients
- ``run``             runs the campaign from start to end
"""
