"""Where tests find what is not code: themselves, and the published files, where they lie beside the project."""

from __future__ import annotations

import pytest

from selfinstruct.files import PROJECT_ROOT

TESTS = PROJECT_ROOT / "tests"
PUBLISHED_DATA = PROJECT_ROOT.parent / "shared" / "paper" / "data"
published = pytest.mark.skipif(not PUBLISHED_DATA.is_dir(), reason="the published files are not beside the project")
