"""Every change that is made to a library for the whole process, each with the measurement that earns it."""
