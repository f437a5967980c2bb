"""From a plan to numbers: compile, execute, sum, estimate, trust."""
