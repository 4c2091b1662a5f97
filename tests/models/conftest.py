"""Makes `from suite import ModelSuite` work in every test file of the project that runs with this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
