"""The look at each circuit, once, in a child process, before a job with it may wait.."""
