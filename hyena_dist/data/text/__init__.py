"""Text files of others: plain, gzip or bgzip, parsed in blocks."""
