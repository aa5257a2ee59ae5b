from .alarms import (
    best_threshold as best_threshold,
    growth as growth,
    slope as slope,
)
from .early_warning import EarlyWarning as EarlyWarning
from .scorecard import ProgressScorecard as ProgressScorecard

__all__: list[str]
