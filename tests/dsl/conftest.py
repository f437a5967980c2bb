"""Property tests of the language may be slow where other work shares the machine."""

from hypothesis import settings

settings.register_profile("language", deadline=None)
settings.load_profile("language")
