"""The written report of a run: report.html, report.md, figures/ and tables/. Imports neither torch nor Ray.

findings.py computes what there is to say, or why it cannot be said; answer, certainty, matters, advice and search write
it as blocks; html.py and markdown.py show the same blocks; write.py puts the files where they belong.
"""

from __future__ import annotations

from tuner.report.write import Written, publish, write_report

__all__ = ["Written", "publish", "write_report"]
