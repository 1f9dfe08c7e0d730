"""A sweep: its trials, the processes they run in, and the answer it ends with."""
