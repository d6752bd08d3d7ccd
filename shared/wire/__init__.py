"""Messages of the protocol, one file a resource. Requests forbid unknown fields; replies ignore them.

A coordinator is upgraded before its agents, so a reply may carry fields that an older reader does not know, while a
request with an unknown field is a mistake that should be heard of.
"""
