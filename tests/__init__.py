"""The tests mirror the packages: tests/<package>/test_<noun>.py. Shared fixtures are in conftest.py."""
