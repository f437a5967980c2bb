"""Works to cite, from `references.bib`: what kinds, architectures, software and intervals come from. Free of torch.

The file has one field a line. A field `keywords` names the file of timm whose architectures a work is the source of; it
is not part of what is cited. Does not own which works a kind cites (`cites` of each kind).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

BIB = "references.bib"
FAMILY = "keywords"
TIMM, TORCH = "wightman2019", "paszke2019"
JACKKNIFE, HOLM = "busing1999", "holm1979"


@dataclass(frozen=True)
class Cited:
    """A work: its key, its kind of entry, and its fields."""

    key: str
    kind: str
    fields: Mapping[str, str]

    @property
    def short(self) -> str:
        """Such as `Raghu et al., 2021`."""
        names = [author.partition(",")[0] for author in self.fields["author"].split(" and ")]
        who = (
            names[0] if len(names) == 1 else " and ".join(names) if len(names) == 2 else f"{names[0]} et al."
        )
        return f"{who}, {self.fields['year']}"

    @property
    def plain(self) -> str:
        """The work as a line of a list: authors, year, title, where, DOI."""
        field = self.fields
        authors = [" ".join(reversed(author.split(", "))) for author in field["author"].split(" and ")]
        who = ", ".join(authors[:-1]) + " and " + authors[-1] if len(authors) > 1 else authors[0]
        where = field.get("booktitle") or field.get("journal") or field.get("howpublished", "")
        where = ", ".join(
            filter(None, (where, field.get("volume", ""), field.get("pages", "").replace("--", "-")))
        )
        doi = f"doi:{field['doi']}" if "doi" in field else ""
        title = field["title"].strip("{}")
        stop = "" if title.endswith(("?", "!")) else "."
        return " ".join(
            filter(None, (f"{who} ({field['year']}).", f"{title}{stop}", f"{where}." if where else "", doi))
        )

    @property
    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}},\n" for name, value in self.fields.items() if name != FAMILY]
        return f"@{self.kind}{{{self.key},\n{''.join(lines)}}}\n"


@cache
def works() -> dict[str, Cited]:
    """Every work by its key.

    Raises:
        ValueError: A line of the file is none of an entry.
    """
    found: dict[str, Cited] = {}
    key, kind = "", ""
    fields: dict[str, str] = {}
    for line in (files("vitdsl.runtime.results") / BIB).read_text("utf-8").splitlines():
        if line.startswith("@"):
            kind, _, key = line.removeprefix("@").removesuffix(",").partition("{")
            fields = {}
        elif line == "}":
            found[key] = Cited(key, kind, fields)
        elif line.endswith("},") and " = {" in line:
            name, _, value = line.partition(" = {")
            fields[name.strip()] = value.removesuffix("},")
        elif line:
            raise ValueError(f"{BIB}: not a line of an entry: {line}")
    return found


def of_family(family: str) -> list[Cited]:
    """The works that the architectures of one file of timm come from, where they are known."""
    return [work for work in works().values() if family and work.fields.get(FAMILY) == family]
