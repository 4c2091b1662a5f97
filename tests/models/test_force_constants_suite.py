from typing import Any, ClassVar

from suite import ModelSuite


class TestForceConstants(ModelSuite):
    options: ClassVar[dict[str, Any]] = {"name": "force_constants"}
    learning_rate: ClassVar[float] = 0.15
