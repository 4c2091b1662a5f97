from typing import Any, ClassVar

from suite import ModelSuite


class TestPaiNN(ModelSuite):
    options: ClassVar[dict[str, Any]] = {"name": "painn", "n_hidden": 16, "n_radial": 6}
