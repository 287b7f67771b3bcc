from __future__ import annotations

import sys
from pathlib import Path

# The oracle and the city under test are modules beside these tests.
sys.path.insert(0, str(Path(__file__).parent))
