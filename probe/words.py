"""The words for phases and statuses, the same in figures, summaries, reports and on pages.

The words of markers are the entries of :data:`probe.phases.MARKERS`.
"""

PHASE_NAMES = {0: "fitting", 1: "after fitting", 2: "generalised", -1: "unknown"}
# What the status of a marker is called; the others are words already.
STATUS_NAMES = {
    "left_censored": "before the record",
    "right_censored": "not within the record",
    "not_reached": "not reached",
}
