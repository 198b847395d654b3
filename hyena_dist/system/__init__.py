"""What every part asks of the machine, in one place: files, locks, processes, hosts, programs, sizes. No torch."""
