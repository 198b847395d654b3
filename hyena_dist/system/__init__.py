"""The things that every part asks of the machine: files, locks, processes, hosts, programs, sizes. No torch."""
