"""The reading side of the data: from the genome store that data_prep builds to the batches that a run trains on."""
