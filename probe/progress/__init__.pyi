from .early_warning import EarlyWarning as EarlyWarning
from .scorecard import ProgressScorecard as ProgressScorecard

__all__: list[str]
