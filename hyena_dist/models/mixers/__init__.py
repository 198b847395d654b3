"""The modules of the sequence mixers; config/mixers/ has a record of each."""
