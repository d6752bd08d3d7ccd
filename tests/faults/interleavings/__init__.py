"""Random interleavings of the steps of a coordinator and its agents, with invariants checked after each step.

world      a coordinator that can be restarted, with a movable clock and engines that tick on request
owners     agents that train in numpy and store SCAFFOLD's client state
books      the test's record of requests and replies, and the state that must follow from it
snapshot   contents of the database and the storage
checks     compares the two
steps      actions of owners and the operator, each with its allowed replies
machine    the rules of the state machine
"""
