"""Points: a task run several times, by seeds, by parts of a cross-validation and by settings that are tried."""
