"""Places in which the commands of docs/guides are run."""

from __future__ import annotations

import pytest

from live.places import a_clone, a_home, a_page

clone, here, page = pytest.fixture(a_clone), pytest.fixture(a_home), pytest.fixture(a_page)
