"""Messages of the protocol, one file per resource. Requests forbid unknown fields; replies ignore them.

A coordinator is upgraded before its agents, so an older reader may meet unknown fields in a reply. An unknown field in
a request is a mistake, so it is refused.
"""
