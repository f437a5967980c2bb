"""Figures, one file per figure; a file whose name has no leading underscore is a figure (see ``_base``)."""
