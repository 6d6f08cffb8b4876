"""What the process shell counts; labels are the names of parts, which the code fixes."""

from prometheus_client import Counter

PART_FAILURES = Counter(
    "shiplog_part_failures_total", "Tasks and threads that ended without being asked to, by part.", ["part"]
)
PART_RESTARTS = Counter("shiplog_part_restarts_total", "Tasks that were started again, by part.", ["part"])
