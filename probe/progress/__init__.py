"""Progress measures, judged: what a measure says about generalisation that the calendar does not say. No torch."""
