"""`simdist serve` as users have it, but for the time after which it takes workers away.

python -m tests.cluster.hasty serve ...
"""

from __future__ import annotations

from functools import partial

import pytest
from ray.serve import config

from cluster.service import app
from simdist.cli.main import main

if __name__ == "__main__":
    patch = pytest.MonkeyPatch()
    patch.setattr(app, "_DOWNSCALE_SECONDS", 5.0)
    # By what was asked in so many seconds, not in Ray's 30; each worker tells every 10.
    patch.setattr(
        config, "AutoscalingConfig", partial(config.AutoscalingConfig, look_back_period_s=11.0)
    )
    main()
