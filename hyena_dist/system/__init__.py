"""What every part asks of the operating system, in one place: files, locks, processes, hosts, programs. No torch."""
