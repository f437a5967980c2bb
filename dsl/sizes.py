"""Sizes of memory, in bytes, as people write and read them: K, M, G and T are powers of 1,024."""

import re

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", re.IGNORECASE)


def sized(number: float) -> str:
    """Bytes in words, such as `1.5 GiB`."""
    for unit in UNITS:
        if number < 1024 or unit == UNITS[-1]:
            return f"{number:.{3 if number < 999.5 else 4}g} {unit}"
        number /= 1024
    raise AssertionError


def bytes_of(text: str) -> float:
    """Bytes of a size such as `4G`, `1.5 GiB` or `800M`.

    Raises:
        ValueError: The text is no size, or nothing.
    """
    match = _WRITTEN.fullmatch(text)
    number = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0.0
    if number < 1:
        raise ValueError(f"`{text}` is no size of memory; write such as `4G`, `1.5G` or `800M`")
    return number
