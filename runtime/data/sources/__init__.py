"""Image sources, one file per kind; a file whose name has no leading underscore is a kind (see ``_base``)."""
