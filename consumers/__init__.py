"""From events to what Pilots need: `materializer` folds the log into snapshots."""
