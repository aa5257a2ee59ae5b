from .acceptance import (
    Judgement as Judgement,
    accept as accept,
    as_markdown as as_markdown,
    as_text as as_text,
    draw_figure as draw_figure,
    find_papers as find_papers,
    judge as judge,
    overall as overall,
)
from .base import (
    Claim as Claim,
    Finding as Finding,
    Paper as Paper,
)
from .papers import PAPERS as PAPERS
from .recorded import (
    RecordedRuns as RecordedRuns,
    Results as Results,
)
from .verdicts import (
    CONFIRMED as CONFIRMED,
    NOT_CONFIRMED as NOT_CONFIRMED,
    UNDECIDED as UNDECIDED,
    Reading as Reading,
    Verdict as Verdict,
    by_prediction as by_prediction,
    by_separation as by_separation,
    by_share as by_share,
    of_difference as of_difference,
    of_interval as of_interval,
)

__all__: list[str]
