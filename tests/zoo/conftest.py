"""Box2D's compiled module warns while it is imported, and crashes where warnings are errors: import it before they are."""

import contextlib
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    with contextlib.suppress(ImportError):  # an extra; the tests that need it say so themselves
        import Box2D  # noqa: F401
