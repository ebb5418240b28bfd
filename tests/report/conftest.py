import io

import pytest
from PIL import Image

from tuner.report import write
from tuner.report.images import Drawn


@pytest.fixture
def undrawn(monkeypatch):
    """Blank figures, for tests that look at a report's words only: drawing is most of a report's time."""
    file = io.BytesIO()
    Image.new("P", (1, 1)).save(file, "PNG")
    blank = Drawn(file.getvalue(), file.getvalue(), 1, 1)
    monkeypatch.setattr(write, "drawn", lambda picture: blank)
