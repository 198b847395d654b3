"""The measurements, one kind a module: `cases(sizes)` gives what is measured with the function that does it."""
