"""Settings of the tests in this folder."""

from hypothesis import settings

# A busy machine is no failure: the bound on time is pytest's.
settings.register_profile("config", deadline=None)
settings.load_profile("config")
