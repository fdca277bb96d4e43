"""For all tests: a busy machine is no failure."""

from hypothesis import settings

# By default an example that takes 200 ms is one; how long it takes says nothing about its verdict.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
