"""Words that several layers put into their messages."""


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """Return a whole number of things: "1 call", "2,000 calls".

    `plural` is for a noun that takes more than an s.
    """
    return f"{number:,.0f} {noun if number == 1 else plural or f'{noun}s'}"


def counted_side(number: float, side: str) -> str:
    """Return how many ids of a side, which is named in the plural: "1 learner", "300 courses"."""
    return counted(number, side.removesuffix("s"))
