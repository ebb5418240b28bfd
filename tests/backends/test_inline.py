from __future__ import annotations

from conformance_backends import BackendConformance

from tuner.backends import inline


class TestInline(BackendConformance):
    backend = "inline"

    def drive(self, driver, train):
        inline.run(driver, train, None)
