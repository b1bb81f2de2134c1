"""What holds for all tests."""

from hypothesis import settings

# A busy machine makes an example slow now and then; the tests that measure time do it themselves.
settings.register_profile("without deadlines", deadline=None)
settings.load_profile("without deadlines")
