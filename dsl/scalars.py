"""What a plain YAML scalar means: the core schema of YAML 1.2, and nothing more.

`no`, `on`, `12:30`, `1_000` and dates are text, `1e-3` is a number, `012` is twelve.
"""

import math
import re

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LONGEST_NUMBER = 400

BOOLEAN_WORDS = {"yes": True, "on": True, "y": True, "no": False, "off": False, "n": False}
"""What YAML 1.1 took for truth values, in lower case."""


class NumberError(ValueError):
    """A number that is not finite or too long."""


def resolve(text: str) -> str | int | float | bool | None:
    """The value of a plain scalar.

    Raises:
        NumberError: It is an infinity, a NaN, or has more digits than a number here can need.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _NOT_FINITE.fullmatch(text):
        raise NumberError("not a finite number")
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    if _INT.fullmatch(text):
        return int(_checked(text))
    if _OCTAL.fullmatch(text):
        return int(_checked(text)[2:], 8)
    if _HEX.fullmatch(text):
        return int(_checked(text)[2:], 16)
    if _FLOAT.fullmatch(text):
        value = float(_checked(text))
        if math.isinf(value):
            raise NumberError("too large for a number")
        return value
    return text


def _checked(text: str) -> str:
    if len(text) > _LONGEST_NUMBER:
        raise NumberError(f"a number of {len(text)} digits")
    return text
