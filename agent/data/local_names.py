"""Names of the owner's files: shown on the owner's own screen, and replaced in all that leaves this machine."""


class LocalName(str):
    """A name, or the place of a record, for the owner's own screen. public: what leaves this machine instead of it."""

    public: str

    def __new__(cls, shown: str, public: str) -> "LocalName":
        name = super().__new__(cls, shown)
        name.public = public
        return name


def public(name: str) -> str:
    """What may leave this machine of a name: a plain text as it is."""
    return name.public if isinstance(name, LocalName) else name
