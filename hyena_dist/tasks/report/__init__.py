"""The report of a task: what the data was, how well the model does, and what simple methods do on the same data."""
