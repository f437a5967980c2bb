"""Commands, one file per command; a file whose name has no leading underscore is a command (see ``_scan``)."""
