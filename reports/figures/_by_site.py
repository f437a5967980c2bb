"""What figures of one value for each site share."""

from vitdsl.reports.figures._base import Figure
from vitdsl.reports.parts import Part


class BySite(Figure):
    """One number for each site, or for each condition and site."""

    def fits(self, part: Part) -> bool:
        """Sites, and nothing else beside the condition."""
        return part.dims == {"site"}

    def beside(self, part: Part) -> str:
        """With and without conditions together; comparisons with the intact model apart."""
        return "paired sites" if part.paired else "sites"
