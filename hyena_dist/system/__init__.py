"""What the operating system is asked for: files, locks, processes, hosts and programs. Standard library alone."""
